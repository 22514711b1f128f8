"""How soon work starts, and how closely it follows.

1. On an idle platform: from sending a job to the first event of its worker (`running`), over 200 jobs, one by one,
   as a watcher sees it on the live stream.
2. A full queue: 1,000 queued jobs drain; the gap between one job's end and the next one's start on the same slot.

    python benchmarks/journey.py [--jobs 200] [--queue 1000]
"""

import argparse
import asyncio
import json
import time
from collections import defaultdict
from itertools import pairwise

import aiohttp
import psycopg
from platform_at_hand import Platform, machine

ROWS = b'{"instruction": "say hello", "input": "", "output": "hello"}\n' * 10


def percentile(values: list[float], part: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


async def until_running(session: aiohttp.ClientSession, job_id: str) -> None:
    async with session.get(f"/api/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
        async for line in stream.content:
            if line.startswith(b"data: ") and b'"state":"running"' in line:
                return


async def until_ended(session: aiohttp.ClientSession, job_id: str) -> None:
    async with session.get(f"/api/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
        async for line in stream.content:
            if line.startswith(b"event: end"):
                return


async def first_events(session: aiohttp.ClientSession, jobs: int) -> list[float]:
    times = []
    for _ in range(jobs):
        started = time.perf_counter()
        async with session.post("/api/analysis/jobs", json={"dataset": "bench", "project": "bench"}) as answer:
            job_id = (await answer.json())["id"]
        await until_running(session, job_id)
        times.append(time.perf_counter() - started)
        await until_ended(session, job_id)
        await asyncio.sleep(0.05)
    return times


async def drain(platform: Platform, session: aiohttp.ClientSession, jobs: int) -> tuple[list[float], float]:
    await platform.quiet("bench")
    for _ in range(jobs // 20):
        posts = (
            session.post("/api/analysis/jobs", json={"dataset": "bench", "project": "bench", "name": "drain"})
            for _ in range(20)
        )
        for answer in await asyncio.gather(*posts):
            assert answer.status == 201
            answer.release()
    async with session.patch("/api/projects/bench", json={"maxRunningJobs": None}):
        started = time.perf_counter()
    query = (
        "SELECT e.data->>'workerId', j.attempt_started_at, j.ended_at FROM jobs j"
        " JOIN job_events e ON e.job_id = j.id AND e.data->>'state' = 'running'"
        " WHERE j.name = 'drain' AND j.state = 'succeeded' ORDER BY j.attempt_started_at"
    )
    with psycopg.connect(platform.database_url, autocommit=True) as connection:
        while True:
            await asyncio.sleep(1)
            left = connection.execute("SELECT count(*) FROM jobs WHERE name = 'drain' AND ended_at IS NULL").fetchone()
            if left == (0,):
                break
        took = time.perf_counter() - started
        by_worker = defaultdict(list)
        for worker, begin, end in connection.execute(query).fetchall():
            by_worker[worker].append((begin, end))
    gaps = [
        max(0.0, (after[0] - before[1]).total_seconds())
        for runs in by_worker.values()
        for before, after in pairwise(runs)
    ]
    return gaps, took


async def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--queue", type=int, default=1_000)
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    await platform.ensure_project("bench")
    await platform.upload("bench", "bench", ROWS)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(platform.url, headers=platform.headers, timeout=timeout) as session:
        async with session.patch("/api/projects/bench", json={"maxRunningJobs": None}):
            pass
        times = await first_events(session, arguments.jobs)
        gaps, took = await drain(platform, session, arguments.queue)
    await platform.clear("bench")
    report = {
        "machine": machine(),
        "first_event_ms": {
            "jobs": len(times),
            "p50": round(percentile(times, 0.5) * 1000, 1),
            "p95": round(percentile(times, 0.95) * 1000, 1),
            "max": round(max(times) * 1000, 1),
        },
        "drain": {
            "jobs": arguments.queue,
            "seconds": round(took, 1),
            "gap_p50_ms": round(percentile(gaps, 0.5) * 1000, 1),
            "gap_p95_ms": round(percentile(gaps, 0.95) * 1000, 1),
            "gap_max_ms": round(max(gaps) * 1000, 1),
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
