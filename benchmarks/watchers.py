"""A thousand watchers of one process: every event reaches every watcher; how late is the slowest of each hundred.

An attempt is spoken for over the internal API, as a worker would, so that events come at a known time. Watchers
are plain sockets in processes of their own.

    python benchmarks/watchers.py [--watchers 1000] [--events 200] [--per-second 10]
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import secrets
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import aiohttp
import psycopg
from platform_at_hand import Platform, machine

SEQ = re.compile(rb"id: (\d+)\n")


class Watcher(asyncio.Protocol):
    """Reads a stream and notes when each event came; an event that is missing or doubled ends the run."""

    def __init__(self, request: bytes, until: int, seen: dict[int, list[float]], ready: asyncio.Semaphore) -> None:
        self.request, self.until, self.seen, self.ready = request, until, seen, ready
        self.expected, self.buffer = 1, b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(AssertionError(f"the stream ended at event {self.expected}"))

    def data_received(self, data: bytes) -> None:
        now = time.time()
        whole, gap, self.buffer = (self.buffer + data).rpartition(b"\n\n")
        if not gap:
            return
        for found in SEQ.findall(whole):
            if int(found) != self.expected:
                self.ended.set_exception(AssertionError(f"event {found!r} came instead of {self.expected}"))
                self.transport.close()
                return
            if self.expected == 3:
                self.ready.release()
            self.seen.setdefault(self.expected, []).append(now)
            self.expected += 1
        if self.expected > self.until and not self.ended.done():
            self.ended.set_result(None)
            self.transport.close()


def watchers(url: str, key: str, job_id: str, count: int, until: int, pipe: Connection) -> None:
    async def run() -> dict[int, list[float]]:
        seen: dict[int, list[float]] = {}
        ready = asyncio.Semaphore(0)
        address = urlsplit(url)
        request = (
            f"GET /api/jobs/{job_id}/events HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
            "Accept: text/event-stream\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        all_watchers = [Watcher(request, until, seen, ready) for _ in range(count)]
        for n, watcher in enumerate(all_watchers):
            await loop.create_connection(lambda watcher=watcher: watcher, address.hostname, address.port)
            if n % 50 == 49:
                await asyncio.sleep(0.05)
        for _ in range(count):
            await ready.acquire()
        pipe.send("ready")
        await asyncio.gather(*(watcher.ended for watcher in all_watchers))
        return seen

    pipe.send(asyncio.run(run()))


async def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--per-second", type=float, default=10)
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    async with (
        aiohttp.ClientSession(platform.url, headers=platform.headers) as session,
        session.post("/api/export/jobs", json={"name": "watched", "modelName": "org/model"}) as answer,
    ):
        job_id = (await answer.json())["id"]
    token = claimed(platform, job_id)
    headers = {"Authorization": f"Bearer {token}"}
    until = 3 + arguments.events
    processes, pipes = [], []
    for _ in range(2):
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=watchers, args=(platform.url, platform.key, job_id, arguments.watchers // 2, until, there)
        )
        process.start()
        processes.append(process)
        pipes.append(here)
    async with aiohttp.ClientSession(platform.url, headers=headers) as session:
        beat = {"attempt": 1}
        await report(session, job_id, {**beat, "batch": 1, "events": [message()]})
        for pipe in pipes:
            while not pipe.poll():
                await report(session, job_id, beat)
                await asyncio.sleep(0.5)
            assert pipe.recv() == "ready"
        sent: dict[int, float] = {}
        begin = time.perf_counter()
        for n in range(arguments.events):
            await asyncio.sleep(max(0.0, begin + n / arguments.per_second - time.perf_counter()))
            sent[4 + n] = time.time()
            await report(session, job_id, {**beat, "batch": 2 + n, "events": [message()]})
        seen: dict[int, list[float]] = {}
        for pipe in pipes:
            while not pipe.poll():
                await asyncio.sleep(0.2)
            for seq, times in pipe.recv().items():
                seen.setdefault(seq, []).extend(times)
        outcome = {"status": "succeeded"}
        await report(session, job_id, {**beat, "batch": 2 + arguments.events, "outcome": outcome})
    for process in processes:
        process.join()
    missed = sum(arguments.watchers - len(seen.get(seq, [])) for seq in sent)
    late = sorted(at - sent[seq] for seq in sent for at in seen[seq])
    print(
        json.dumps(
            {
                "machine": machine(),
                "watchers": arguments.watchers,
                "events": arguments.events,
                "per_second": arguments.per_second,
                "missed": missed,
                "p50_ms": round(late[len(late) // 2] * 1000, 1),
                "p99_ms": round(late[int(len(late) * 0.99)] * 1000, 1),
                "max_ms": round(late[-1] * 1000, 1),
            },
            indent=2,
        )
    )


def message() -> dict[str, object]:
    return {
        "type": "metric",
        "at": datetime.now(UTC).isoformat(),
        "data": {"step": time.time_ns() // 1000, "loss": 1.5},
    }


async def report(session: aiohttp.ClientSession, job_id: str, body: dict[str, object]) -> None:
    async with session.post(f"/internal/jobs/{job_id}/reports", json=body) as answer:
        assert answer.status == 200, await answer.text()


def claimed(platform: Platform, job_id: str) -> str:
    """Puts the job into the hands of an attempt whose token is known here; no worker serves this kind."""
    import hashlib

    token = secrets.token_urlsafe(16)
    with psycopg.connect(platform.database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE jobs SET state = 'running', attempt = 1, tries = 1, worker_id = 'benchmark', token_hash = %s,"
            " lease_until = now() + interval '1 minute', started_at = now(), attempt_started_at = now(),"
            " last_seq = 2 WHERE id = %s",
            (hashlib.sha256(token.encode()).digest(), job_id),
        )
        connection.execute(
            "INSERT INTO job_events SELECT id, 2, 'state', now(), '{\"state\": \"running\"}' FROM jobs WHERE id = %s",
            (job_id,),
        )
    return token


if __name__ == "__main__":
    asyncio.run(main())
