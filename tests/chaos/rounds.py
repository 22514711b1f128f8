"""Rounds of chaos: in each one thing is broken at a random moment, while jobs are submitted, stopped and paused."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.chaos.platform import LEASE_SECONDS, WORKERS, ChaosPlatform
from tests.chaos.watching import Watching


@dataclass
class Submitted:
    job_id: str
    steps: int
    asked: str | None = None
    """What the user asked for last: stop or pause."""


@dataclass
class Story:
    jobs: list[Submitted] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Rounds:
    def __init__(self, platform: ChaosPlatform, seed: int) -> None:
        self.platform = platform
        self.chance = random.Random(seed)
        self.story = Story()
        self.watching = Watching(platform)
        self._faults: dict[str, Callable[[], None]] = {
            "kill worker": self._kill_worker,
            "kill child": self._kill_child,
            "kill api": lambda: self._kill_and_restart("api", self.chance.uniform(0.2, 3)),
            "long api absence": lambda: self._kill_and_restart("api", LEASE_SECONDS * 2.5),
            "kill watcher": lambda: self._kill_and_restart("watcher", self.chance.uniform(0.2, 3)),
            "kill postgres": self._kill_postgres,
            "kill valkey": lambda: self._kill_and_restart("valkey", self.chance.uniform(0.2, 3)),
            "wipe valkey": platform.wipe_valkey,
            "freeze worker": self._freeze_worker,
            "freeze watcher": lambda: self._freeze("watcher", self.chance.uniform(1, LEASE_SECONDS * 2)),
            "drop": lambda: self._proxy("drop", self.chance.uniform(2, 6)),
            "delay": lambda: self._proxy("delay", self.chance.uniform(2, 6)),
            "silence": lambda: self._proxy("silence", self.chance.uniform(2, LEASE_SECONDS * 2.5)),
        }

    def run(self, count: int, tell: Callable[[str], None]) -> Story:
        names = list(self._faults)
        order = [names[n % len(names)] for n in range(count)]
        self.chance.shuffle(order)
        for number, fault in enumerate(order, start=1):
            self._submit(self.chance.randrange(2, 6))
            user = threading.Thread(target=self._be_a_user)
            user.start()
            time.sleep(self.chance.uniform(0.2, 2.0))
            tell(f"round {number}/{count}: {fault}")
            self.story.faults.append(fault)
            self._faults[fault]()
            user.join()
            self._let_breathe()
        self._resume_all()
        return self.story

    def wait_for_the_end(self, seconds: float) -> None:
        """Every job ends; paused ones were resumed before."""
        deadline = time.monotonic() + seconds
        waiting = {job.job_id for job in self.story.jobs}
        while waiting:
            for job_id in list(waiting):
                with contextlib.suppress(httpx.HTTPError):
                    job = self._http("GET", f"/api/jobs/{job_id}")
                    if job["state"] in {"succeeded", "failed", "stopped"}:
                        waiting.discard(job_id)
                    elif job["state"] == "paused":
                        self._http("POST", f"/api/jobs/{job_id}/resume")
            if time.monotonic() > deadline:
                raise AssertionError(f"these jobs do not end: {sorted(waiting)}")
            time.sleep(0.2)

    # the user

    def _submit(self, count: int) -> None:
        for _ in range(count):
            steps = self.chance.randrange(10, 60)
            body = {"modelName": f"./steps={steps},seconds=0.05", "maxAttempts": 20, "name": "chaos"}
            key = f"chaos-{self.chance.getrandbits(64):x}"
            job = self._http("POST", "/api/evaluation/jobs", json=body, headers={"Idempotency-Key": key})
            self.story.jobs.append(Submitted(job["id"], steps))
            self.watching.add(job["id"])

    def _be_a_user(self) -> None:
        recent = self.story.jobs[-4:]
        for job in self.chance.sample(recent, k=min(len(recent), self.chance.randrange(0, 3))):
            asked = self.chance.choice(["stop", "pause", "pause"])
            time.sleep(self.chance.uniform(0, 1))
            answer = self._http("POST", f"/api/jobs/{job.job_id}/{asked}", refused_is_fine=True)
            if answer.get("state") in {"stopping", "stopped"} and asked == "stop":
                job.asked = "stop"

    def _resume_all(self) -> None:
        for job in self.story.jobs:
            if self._http("GET", f"/api/jobs/{job.job_id}")["state"] == "paused":
                self._http("POST", f"/api/jobs/{job.job_id}/resume", refused_is_fine=True)

    def _http(self, method: str, path: str, *, refused_is_fine: bool = False, **more: object) -> dict[str, str]:
        """Asks again while the platform is away, as a client would."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with self.platform.http() as client:
                    answer = client.request(method, path, **more)  # type: ignore[arg-type]
                if answer.status_code < 400 or (refused_is_fine and answer.status_code == 409):
                    found: dict[str, str] = answer.json()
                    return found
                if answer.status_code not in {503, 507}:
                    raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {path}: no answer")
            time.sleep(0.2)

    # the faults

    def _kill_and_restart(self, name: str, pause: float) -> None:
        process = self.platform.processes[name]
        process.kill()
        time.sleep(pause)
        process.start()

    def _kill_postgres(self) -> None:
        self.platform.processes["postgres"].kill()
        time.sleep(self.chance.uniform(0.2, 2))
        self.platform.start_postgres_again()

    def _kill_worker(self) -> None:
        self._kill_and_restart(f"worker-{self.chance.randrange(WORKERS)}", self.chance.uniform(0, 1))

    def _kill_child(self) -> None:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            children = self.platform.children()
            if children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.chance.choice(children), signal.SIGKILL)
                return
            time.sleep(0.05)

    def _freeze_worker(self) -> None:
        """Beyond its lease; when it wakes, its attempt is another's."""
        self._freeze(f"worker-{self.chance.randrange(WORKERS)}", LEASE_SECONDS * self.chance.uniform(1.5, 2.5))

    def _freeze(self, name: str, seconds: float) -> None:
        pid = self.platform.processes[name].pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def _proxy(self, mode: str, seconds: float) -> None:
        self.platform.proxy.mode = mode  # type: ignore[assignment]
        time.sleep(seconds)
        self.platform.proxy.mode = "pass"

    def _let_breathe(self) -> None:
        """Jobs that pile up would only wait; most of the queue is let through before the next fault."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError, AssertionError), self.platform.http() as client:
                queued = client.get("/api/jobs", params={"state": "queued"}).json().get("items", [])
                if len(queued) <= 4:
                    return
            time.sleep(0.2)
