"""Lists and shows on full tables (benchmarks/fill.py): the p95 of each kind of request.

python benchmarks/reading.py
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable

import aiohttp
import psycopg
from platform_at_hand import Platform, machine


async def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    chance = random.Random(7)
    with psycopg.connect(platform.database_url) as connection:
        jobs, events = (connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("jobs", "job_events"))
        ids = [str(r[0]) for r in connection.execute("SELECT id FROM jobs TABLESAMPLE SYSTEM (0.2) LIMIT 2000")]
        queued = [str(r[0]) for r in connection.execute("SELECT id FROM jobs WHERE state = 'queued' LIMIT 2000")]
    some = lambda: chance.choice(ids)  # noqa: E731
    requests: dict[str, Callable[[], str]] = {
        "show": lambda: f"/api/jobs/{some()}",
        "show queued": lambda: f"/api/jobs/{chance.choice(queued)}",
        "events": lambda: f"/api/jobs/{some()}/events",
        "metrics": lambda: f"/api/jobs/{some()}/metrics",
        "list first page": lambda: "/api/jobs",
        "list by project": lambda: "/api/jobs?project=filled",
        "list deep page": lambda: f"/api/jobs?cursor={some()}",
        "list by kind": lambda: f"/api/training/jobs?cursor={some()}",
        "list by state": lambda: f"/api/jobs?state=failed&cursor={some()}",
        "list two states": lambda: f"/api/jobs?state=failed&state=stopped&project=filled&cursor={some()}",
        "list rare state": lambda: "/api/jobs?state=running",
        "list queued": lambda: "/api/jobs?state=queued",
        "list by label": lambda: f"/api/jobs?label=team=team-{chance.randrange(50)}",
        "list by rare label": lambda: f"/api/jobs?label=batch={chance.randrange(1000)}",
        "list by unknown label": lambda: "/api/jobs?label=team=none",
        "list by common text": lambda: "/api/jobs?text=lora",
        "list by rare text": lambda: f"/api/jobs?text=run+{chance.randrange(1_000_000)}",
        "list by prefix text": lambda: f"/api/jobs?text=set-{chance.randrange(100)}",
        "list by unknown text": lambda: "/api/jobs?text=nothing-like-it",
        "all filters": lambda: (
            f"/api/training/jobs?state=succeeded&label=team=team-{chance.randrange(50)}&text=model-1&project=filled"
        ),
    }
    result: dict[str, dict[str, float]] = {}
    async with aiohttp.ClientSession(platform.url, headers=platform.headers) as session:
        for name, path in requests.items():
            times = []
            for n in range(arguments.requests):
                asked = path()
                started = time.perf_counter()
                async with session.get(asked) as answer:
                    body = await answer.read()
                    assert answer.status == 200, (asked, body)
                if n >= 5:
                    times.append(time.perf_counter() - started)
            times.sort()
            result[name] = {
                "p50_ms": round(times[len(times) // 2] * 1000, 1),
                "p95_ms": round(times[int(len(times) * 0.95)] * 1000, 1),
            }
    worst = max(r["p95_ms"] for r in result.values())
    print(
        json.dumps(
            {"machine": machine(), "jobs": jobs, "events": events, "worst_p95_ms": worst, "requests": result}, indent=2
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
