"""What it costs to take what gateways tell: processor time of the API and of Postgres, and how long others wait.

A real API process and a throwaway Postgres; parts as the gateway writes them, each decision of a request of its own."""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import SECRET_KEY, SERVICE_KEY, free_port  # noqa: E402
from tests.throwaway import postgres  # noqa: E402

from control_plane.access.keys import create  # noqa: E402
from control_plane.database import Database  # noqa: E402
from control_plane.migrate import migrate  # noqa: E402
from imts_shared.contracts.access import KeyRequest, Role  # noqa: E402
from imts_shared.contracts.routes import Candidate, Decision, Result  # noqa: E402
from imts_shared.contracts.usage import GatewayReport, LoggedRequest, Used  # noqa: E402
from inference_service.routing.features import Extractor  # noqa: E402

QUESTIONS = (
    "Write a Python function that merges two sorted lists, and say how long it takes for lists of n elements.",
    "Mein Vermieter will die Kaution nicht zurückgeben. Welche Frist hat er dafür, und was kann ich tun?",
    "请把下面这段话翻译成英文：今天的天气很好，我们去公园散步吧。",
    "What is the integral of x^2 * sin(x) from zero to pi? Show each step.",
    "Summarise the side effects of ibuprofen for somebody who takes a blood thinner.",
)
PROBE_SECONDS = 0.005


def parts(count: int, size: int, life: str) -> list[bytes]:
    extractor = Extractor()
    made = []
    for number in range(1, count + 1):
        decisions = [_decision(extractor, f"dec-{life}{number:06d}{place:08d}") for place in range(size)]
        report = GatewayReport(
            gateway=f"bench-{life}", number=number, decisions=decisions,
            requests=[_logged(one) for one in decisions],
            used=[_used(f"key-{key}", model) for key in range(5) for model in ("small", "large")],
        )  # fmt: skip
        made.append(report.model_dump_json(by_alias=True, exclude_none=True).encode())
    return made


def _decision(extractor: Extractor, identity: str) -> Decision:
    place = int(identity[-8:])
    question = f"{QUESTIONS[place % len(QUESTIONS)]} ({place})"
    features = extractor.extract({"messages": [{"role": "user", "content": question}]})
    model = ("small", "large")[place % 2]
    return Decision(
        decision_id=identity,
        model=model,
        reason=f"`{model}` promises most for {features.domain} in {features.language}: 0.83, after 1204 answers.",
        project="default",
        policy="thompson",
        features={**features.as_dict(), "rows": features.rows},
        context=[round(one, 4) for one in features.context.tolist()],
        candidates=[
            Candidate(
                model=name, score=0.8312345 - place % 7 / 13, propensity=0.7261, quality=0.8123, cost=0.00012,
                latency_seconds=0.412,
            )
            for name in ("small", "large")
        ],
        at=datetime.now(UTC),
        key_id=f"00000000-0000-7000-8000-00000000000{place % 5}",
        result=Result(cost=0.000123, latency_seconds=0.4123, input_tokens=120, output_tokens=210),
    )  # fmt: skip


def _logged(decision: Decision) -> LoggedRequest:
    return LoggedRequest(
        request_id=f"req-{decision.decision_id}", at=decision.at, project="default", key_id=decision.key_id or "",
        model=decision.model, asked="auto", upstream="deployment", status=200, seconds=0.41234567, input_tokens=120,
        output_tokens=210, decision_id=decision.decision_id,
    )  # fmt: skip


def _used(key: str, model: str) -> Used:
    return Used(
        day=datetime.now(UTC).date(), key_id=key, project="default", model=model, upstream="deployment",
        requests=50, input_tokens=6_000, output_tokens=10_500, cost=0.00615,
    )  # fmt: skip


@contextlib.contextmanager
def api(url: str, folder: Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("IMTS_")},
        "IMTS_DATABASE_URL": url,
        "IMTS_REDIS_URL": "redis://127.0.0.1:1/0",
        "IMTS_STORAGE_URL": folder.as_uri(),
        "IMTS_SERVICE_KEY": SERVICE_KEY,
        "IMTS_SECRET_KEY": SECRET_KEY,
        "IMTS_CONTROL_PLANE_PORT": str(port),
        "IMTS_LOG_LEVEL": "WARNING",
    }
    server = subprocess.Popen([sys.executable, "-m", "control_plane", "api"], env=env, cwd=ROOT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{address}/readyz", trust_env=False).status_code == 200:
                    break
            assert server.poll() is None and time.monotonic() < deadline, "the API does not start"
            time.sleep(0.1)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(20)


def processor_seconds(pid: int, *, with_children: bool) -> float:
    process = psutil.Process(pid)
    spent = process.cpu_times()
    total = float(spent.user + spent.system)
    if with_children:
        total += spent.children_user + spent.children_system
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                total += times.user + times.system
    return total


def postmaster(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert found is not None
        return int(psutil.Process(found[0]).ppid())


async def probe(client: httpx.AsyncClient, waits: list[float], stop: asyncio.Event) -> None:
    while not stop.is_set():
        began = time.perf_counter()
        (await client.get("/api/me")).raise_for_status()
        waits.append(time.perf_counter() - began)
        await asyncio.sleep(PROBE_SECONDS)


async def measure(address: str, pid: int, url: str, key: str, told: list[bytes], items: int) -> dict[str, Any]:
    master = postmaster(url)
    headers = {"authorization": f"Bearer {SERVICE_KEY}", "content-type": "application/json"}
    took: list[float] = []
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60, headers=headers) as gateway:
        before = processor_seconds(pid, with_children=False), processor_seconds(master, with_children=True)
        for part in told:
            began = time.perf_counter()
            answer = await gateway.post("/internal/gateway/reports", content=part)
            took.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
        after = processor_seconds(pid, with_children=False), processor_seconds(master, with_children=True)
    of_10_000 = 10_000 / items
    return {
        "apiSecondsPer10000": round((after[0] - before[0]) * of_10_000, 3),
        "postgresSecondsPer10000": round((after[1] - before[1]) * of_10_000, 3),
        "partMillisecondsMedian": round(sorted(took)[len(took) // 2] * 1000, 1),
    }


async def waits(address: str, key: str, told: list[bytes]) -> dict[str, float]:
    """How long a small request takes alone, and while parts are taken."""
    alone: list[float] = []
    beside: list[float] = []
    headers = {"authorization": f"Bearer {SERVICE_KEY}", "content-type": "application/json"}
    async with (
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=60, headers=headers) as gateway,
        httpx.AsyncClient(base_url=address, trust_env=False, headers={"authorization": f"Bearer {key}"}) as client,
    ):
        for found in (alone, beside):
            stop = asyncio.Event()
            probing = asyncio.create_task(probe(client, found, stop))
            if found is beside:
                for part in told:
                    answer = await gateway.post("/internal/gateway/reports", content=part)
                    assert answer.status_code == 200, answer.text
            else:
                await asyncio.sleep(3)
            stop.set()
            await probing
    return {
        f"{name}{which}Milliseconds": round(value * 1000, 1)
        for name, found in (("alone", alone), ("beside", beside))
        for which, value in (("Median", sorted(found)[len(found) // 2]), ("Longest", max(found)))
    }


async def admin_key(url: str) -> str:
    database = Database(url, 2)
    try:
        async with database.transaction() as session:
            return (await create(session, KeyRequest(name="bench", role=Role.admin, project="default"))).key
    finally:
        await database.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--items", type=int, default=20_000, help="Decisions, with as many logged requests.")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[250, 1_000, 5_000], help="Items of a part.")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "postgres").mkdir()
        (folder / "storage").mkdir()
        with postgres(folder / "postgres", free_port()) as url:
            assert migrate(url) == 0
            key = asyncio.run(admin_key(url))
            with api(url, folder / "storage") as (address, pid):
                asyncio.run(measure(address, pid, url, key, parts(8, 250, "warm"), 2_000))
                for size in asked.sizes:
                    count = max(2, asked.items // size)
                    told = parts(count, size, f"c{size}")
                    found = asyncio.run(measure(address, pid, url, key, told, count * size))
                    also = asyncio.run(waits(address, key, parts(max(2, count // 2), size, f"w{size}")))
                    kib = sum(map(len, told)) // count // 1024
                    print(json.dumps({"itemsOfPart": size, "partKiB": kib, **found, **also}), flush=True)


if __name__ == "__main__":
    main()
