"""How fast jobs are stored: POST /api/analysis/jobs with a key, against a bare psycopg pool writing the same rows.

Both run against the same Postgres in the same minute: rounds of each alternate, and the medians are compared. The
bare pool executes the very statement that the api executes, with nothing around it.

    python benchmarks/submit.py [--url URL --key-file FILE --database-url URL]

Without arguments it asks `./imts status --json` where the running platform is.
"""

import argparse
import asyncio
import json
import statistics
import time
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import orjson
from platform_at_hand import Platform, machine

from control_plane.database import new_id
from control_plane.jobs.intake import INSERT, Draft

CONNECTIONS = 32
DATASET_ROWS = b'{"instruction": "say hello", "input": "", "output": "hello"}\n' * 10


async def bare_rate(database_url: str, project: str, dataset_id: str, seconds: float) -> float:
    from psycopg_pool import AsyncConnectionPool

    spec = {"dataset": "bench", "datasetVersion": 1}
    done = 0
    async with AsyncConnectionPool(database_url, min_size=10, max_size=10, kwargs={"autocommit": True}) as pool:
        await pool.wait()
        stop = time.perf_counter() + seconds

        async def work() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                async with pool.connection() as connection:
                    draft = Draft(
                        new_id(), project, "analysis", None, 0, {}, spec, 3, None, datasets=[UUID(dataset_id)]
                    )
                    await connection.execute(INSERT, (orjson.dumps([draft]).decode(),))
                done += 1

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        return done / (time.perf_counter() - started)


async def api_rate(platform: Platform, project: str, seconds: float) -> float:
    """Plain keep-alive connections: a load generator shares the cores with what it measures, so it must be light."""
    body = json.dumps({"dataset": "bench", "project": project}).encode()
    address = urlsplit(platform.url)
    request = (
        f"POST /api/analysis/jobs HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {platform.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    stop = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    posts = [Posts(request, stop) for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    for post in posts:
        await loop.create_connection(lambda post=post: post, address.hostname, address.port)
    await asyncio.gather(*(post.ended for post in posts))
    return sum(post.done for post in posts) / (time.perf_counter() - started)


class Posts(asyncio.Protocol):
    """Sends the same request over one connection again and again, each after the answer to the one before."""

    def __init__(self, request: bytes, stop: float) -> None:
        self.request = request
        self.stop = stop
        self.done = 0
        self.received = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, gap, rest = self.received.partition(b"\r\n\r\n")
        if not gap:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        if not head.startswith(b"HTTP/1.1 201"):
            self.ended.set_exception(AssertionError(self.received))
            return
        self.received = b""
        self.done += 1
        if time.perf_counter() < self.stop:
            self.transport.write(self.request)  # type: ignore[attr-defined]
        else:
            self.transport.close()
            self.ended.set_result(None)


async def latency_at(platform: Platform, project: str, per_second: int, seconds: float) -> list[float]:
    """Open loop: a request is due every 1/per_second whatever became of the one before."""
    times: list[float] = []
    async with aiohttp.ClientSession(platform.url, headers=platform.headers) as session:

        async def one(due: float) -> None:
            async with session.post("/api/analysis/jobs", json={"dataset": "bench", "project": project}) as answer:
                assert answer.status == 201, await answer.text()
                await answer.read()
            times.append(time.perf_counter() - due)

        tasks = []
        begin = time.perf_counter()
        for n in range(int(per_second * seconds)):
            due = begin + n / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(due)))
        await asyncio.gather(*tasks)
    return times


async def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    project = "bench"
    await platform.ensure_project(project)
    dataset_id = await platform.upload(project, "bench", DATASET_ROWS)
    await platform.quiet(project)
    bare, api = [], []
    for _ in range(arguments.rounds):
        bare.append(await bare_rate(platform.database_url, project, dataset_id, arguments.seconds))
        api.append(await api_rate(platform, project, arguments.seconds))
    times = sorted(await latency_at(platform, project, 100, 20))
    p95 = times[int(len(times) * 0.95)]
    await platform.clear(project)
    result = {
        "machine": machine(),
        "bare_per_second": round(statistics.median(bare)),
        "api_per_second": round(statistics.median(api)),
        "ratio": round(statistics.median(api) / statistics.median(bare), 3),
        "p95_ms_at_100_per_second": round(p95 * 1000, 1),
        "p50_ms_at_100_per_second": round(times[len(times) // 2] * 1000, 1),
        "rounds": {"bare": [round(x) for x in bare], "api": [round(x) for x in api]},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
