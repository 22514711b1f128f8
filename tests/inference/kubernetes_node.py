"""What a cluster does with the objects: makes pods, starts their commands as real processes, starts them again, asks
whether they are ready, and leads a Service's address to those that are."""

import asyncio
import os
import random
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from tests.inference.workers import alive

LOOK = 0.05
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def expanded(word: str, environment: Mapping[str, str]) -> str:
    """As Kubernetes does: $(NAME) where it is known, $$ for one $."""

    def one(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environment.get(found[1], found[0])

    return _REFERENCE.sub(one, word)


async def _reap(pid: int) -> None:
    """A container ends with its first process, whatever else runs in it."""
    while alive(pid):
        await asyncio.sleep(LOOK)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


@dataclass
class Orders:
    """What a test wants to go wrong."""

    unschedulable: str | None = None
    image: tuple[str, str] | None = None
    """Why the image cannot be had: reason and message."""
    no_pod: str | None = None
    stuck: bool = False
    """The container is being made and never is."""
    restart_seconds: float = 0.3
    next_end: tuple[str, int] | None = None
    """Reason and exit code of the next end, in place of the real ones."""


@dataclass
class Pod:
    body: dict[str, Any]
    ip: str
    owner: str
    process: asyncio.subprocess.Process | None = None
    logs: list[list[str]] = field(default_factory=lambda: [[]])
    """Of each life of the container."""

    @property
    def name(self) -> str:
        name: str = self.body["metadata"]["name"]
        return name

    @property
    def ready(self) -> bool:
        return any(one["type"] == "Ready" and one["status"] == "True" for one in self.body["status"]["conditions"])

    async def kill(self) -> None:
        """All that runs in the container."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()

    def condition(self, kind: str, status: str, **more: str) -> None:
        conditions = self.body["status"]["conditions"]
        conditions[:] = [one for one in conditions if one["type"] != kind]
        conditions.append({"type": kind, "status": status, **more})

    def state(self, **state: Any) -> None:
        container = self.body["spec"]["containers"][0]
        before = (self.body["status"]["containerStatuses"] or [{}])[0]
        self.body["status"]["containerStatuses"] = [
            {
                "name": container["name"],
                "image": container["image"],
                "restartCount": before.get("restartCount", 0),
                "lastState": before.get("lastState", {}),
                "state": state,
            }
        ]


class Node:
    def __init__(self, scratch: Path) -> None:
        """`scratch` is what pods have for a /tmp of their own."""
        self.orders = Orders()
        self._scratch = scratch
        self.pods: dict[str, Pod] = {}
        self._net = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}"
        self._hosts = count(1)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._doors: dict[str, asyncio.Server] = {}

    def address(self) -> str:
        return f"{self._net}.{next(self._hosts)}"

    def add_deployment(self, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        self._tasks[name] = asyncio.create_task(self._keep_one(name, body))

    async def remove_deployment(self, name: str) -> None:
        self._tasks.pop(name).cancel()
        for pod in [pod for pod in self.pods.values() if pod.owner == name]:
            self._tasks[f"end {pod.name}"] = asyncio.create_task(self._end(pod))

    def add_service(self, body: dict[str, Any]) -> None:
        self._tasks[f"door {body['metadata']['name']}"] = asyncio.create_task(self._lead(body))

    async def remove_service(self, name: str) -> None:
        task = self._tasks.pop(f"door {name}")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for pod in self.pods.values():
            await pod.kill()

    async def _keep_one(self, name: str, deployment: dict[str, Any]) -> None:
        """The controllers of Deployment and ReplicaSet."""
        while True:
            if self.orders.no_pod:
                failed = {"type": "ReplicaFailure", "status": "True", "message": self.orders.no_pod}
                deployment["status"] = {"conditions": [failed]}
            elif not any(p.owner == name and "deletionTimestamp" not in p.body["metadata"] for p in self.pods.values()):
                deployment["status"] = {}
                pod = self._make(name, deployment["spec"]["template"])
                self._tasks[pod.name] = asyncio.create_task(self._live(pod))
            await asyncio.sleep(LOOK)

    def _make(self, owner: str, template: dict[str, Any]) -> Pod:
        uid = str(uuid4())
        metadata = {
            "name": f"{owner}-5d9c7b6f4-{uid[:5]}",
            "uid": uid,
            "labels": dict(template["metadata"]["labels"]),
            "creationTimestamp": datetime.now(UTC).isoformat(),
        }
        status: dict[str, Any] = {"phase": "Pending", "conditions": [], "containerStatuses": []}
        pod = Pod({"metadata": metadata, "spec": template["spec"], "status": status}, self.address(), owner)
        self.pods[pod.name] = pod
        return pod

    async def _live(self, pod: Pod) -> None:
        while self.orders.unschedulable:
            pod.condition("PodScheduled", "False", reason="Unschedulable", message=self.orders.unschedulable)
            await asyncio.sleep(LOOK)
        pod.condition("PodScheduled", "True")
        while self.orders.image:
            pod.state(waiting={"reason": self.orders.image[0], "message": self.orders.image[1]})
            await asyncio.sleep(LOOK)
        pod.state(waiting={"reason": "ContainerCreating"})
        await asyncio.sleep(0.2)
        while self.orders.stuck:
            await asyncio.sleep(LOOK)
        probing = asyncio.create_task(self._probe(pod))
        try:
            while True:
                await self._one_life(pod)
        finally:
            probing.cancel()

    async def _one_life(self, pod: Pod) -> None:
        container = pod.body["spec"]["containers"][0]
        environment = {"PATH": os.environ["PATH"]}
        for one in container["env"]:
            value = pod.ip if "valueFrom" in one else expanded(one["value"], environment)
            environment[one["name"]] = value
        assert environment["HOME"] == "/tmp"
        environment["HOME"] = str(self._scratch)
        command = [expanded(word, environment) for word in container["command"]]
        lines = pod.logs[-1]
        pod.process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        pod.state(running={"startedAt": now()})
        pod.body["status"] |= {"phase": "Running", "podIP": pod.ip}
        reaping = asyncio.create_task(_reap(pod.process.pid))
        assert pod.process.stdout is not None
        async for line in pod.process.stdout:
            lines.append(f"{datetime.now(UTC).isoformat()[:-6]}123Z {line.decode().rstrip()}")
        code = await pod.process.wait()
        await reaping
        pod.condition("Ready", "False")
        reason, exit_code = self.orders.next_end or ("Error" if code else "Completed", 128 - code if code < 0 else code)
        self.orders.next_end = None
        terminated = {"reason": reason, "exitCode": exit_code, "finishedAt": now()}
        pod.state(terminated=terminated)
        await asyncio.sleep(self.orders.restart_seconds)
        pod.logs.append([])
        status = pod.body["status"]["containerStatuses"][0]
        status |= {"restartCount": status["restartCount"] + 1, "lastState": {"terminated": terminated}}

    async def _probe(self, pod: Pod) -> None:
        container = pod.body["spec"]["containers"][0]
        port, path = container["ports"][0]["containerPort"], container["readinessProbe"]["httpGet"]["path"]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http:
            while True:
                try:
                    async with http.get(f"http://{pod.ip}:{port}{path}") as answer:
                        pod.condition("Ready", "True" if answer.status == 200 else "False")
                except (aiohttp.ClientError, TimeoutError):
                    pod.condition("Ready", "False")
                await asyncio.sleep(2 * LOOK)

    async def _end(self, pod: Pod) -> None:
        pod.body["metadata"]["deletionTimestamp"] = now()
        living = self._tasks.pop(pod.name)
        if pod.process is not None and pod.process.returncode is None:
            pod.process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(pod.process.wait(), pod.body["spec"]["terminationGracePeriodSeconds"])
            await pod.kill()
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        del self.pods[pod.name]

    async def evict(self, pod: Pod) -> None:
        await self._end(pod)

    async def _lead(self, service: dict[str, Any]) -> None:
        """The Service's address is open while a pod that it selects is ready, and leads there."""
        spec = service["spec"]
        address, port = spec["clusterIP"], spec["ports"][0]["port"]
        door: asyncio.Server | None = None
        try:
            while True:
                selector = spec["selector"].items()
                there = [p for p in self.pods.values() if p.ready and selector <= p.body["metadata"]["labels"].items()]
                if there and door is None:
                    door = await asyncio.start_server(self._relay(there[0]), address, port)
                elif not there and door is not None:
                    door.close()
                    door = None
                await asyncio.sleep(LOOK)
        finally:
            if door is not None:
                door.close()

    def _relay(self, pod: Pod) -> Any:
        port = pod.body["spec"]["containers"][0]["ports"][0]["containerPort"]

        async def one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await reader.read(65_536):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                there = await asyncio.open_connection(pod.ip, port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(one_way(reader, there[1]), one_way(there[0], writer))

        return relay
