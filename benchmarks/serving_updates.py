"""Eight streams all the time while a deployment is updated five times, and while its engine is killed.

python benchmarks/serving_updates.py [--model builtin:smollm2-135m] [--updates 5] [--kills 1]

No request may fail and no stream be cut by an update. After a kill -9 of the engine's process the streams that it ran
are cut, others wait or are refused within their limits, and the deployment answers again by itself.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from platform_at_hand import Platform, gateway_url, machine
from serving_load import Address, Stream, listener, prompts, stream

SECONDS_TO_READY = 600


async def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--gateway-url", help="By default as ./imts status tells.")
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--name", default="updates-benchmark")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--limit", type=float, default=180, help="Seconds that any request may take around a kill.")
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    address = Address(arguments.gateway_url or gateway_url(), arguments.name, platform.key)
    async with deployed(platform, arguments.name, arguments.model) as deployment:
        updates = await _updates(deployment, address, arguments)
        kills = await _kills(deployment, address, arguments)
    print(json.dumps({"machine": machine(), "updates": updates, "kills": kills}, indent=2))


class Deployed:
    def __init__(self, session: aiohttp.ClientSession, content: dict[str, Any]) -> None:
        self._session = session
        self.path = f"/api/deployments/{content['id']}"

    async def now(self) -> dict[str, Any]:
        async with self._session.get(self.path) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def change(self, **changed: Any) -> dict[str, Any]:
        async with self._session.patch(self.path, json=changed) as answer:
            assert answer.status in {200, 202}, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def until(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS_TO_READY
        while time.monotonic() < deadline:
            found = await self.now()
            if true(found):
                return found
            if found["state"] == "failed" or found.get("error"):
                raise SystemExit(f"The deployment failed: {found['reason']} {found['message']} {found.get('error')}")
            await asyncio.sleep(0.25)
        raise SystemExit(f"The deployment did not come to be ready in {SECONDS_TO_READY} s.")


@contextlib.asynccontextmanager
async def deployed(platform: Platform, name: str, model: str) -> AsyncIterator[Deployed]:
    async with aiohttp.ClientSession(platform.url, headers=platform.headers) as session:
        asked = {"name": name, "model": model, "drainSeconds": 120}
        async with session.post("/api/deployments", json=asked) as answer:
            assert answer.status == 201, await answer.text()
            found = Deployed(session, await answer.json())
        try:
            await found.until(_ready)
            yield found
        finally:
            async with session.delete(found.path) as answer:
                assert answer.status in {200, 202, 204}, await answer.text()


def _ready(found: dict[str, Any]) -> bool:
    return bool(found["state"] == "ready" and found["servingRevision"] == found["revision"])


@contextlib.asynccontextmanager
async def under_load(address: Address, streams: int, tokens: int) -> AsyncIterator[list[Stream]]:
    """Callers that begin the next stream as soon as one is over; all that was begun is awaited at the end."""
    done: list[Stream] = []
    over = asyncio.Event()
    texts = prompts(1_000, 30, seed=4)

    async def caller(session: aiohttp.ClientSession, number: int) -> None:
        while not over.is_set():
            number += streams
            found = await stream(session, address, texts[number % len(texts)], tokens)
            done.append(found)
            if found.problem is not None:
                await asyncio.sleep(0.2)

    async with address.session() as session:
        callers = [asyncio.create_task(caller(session, number)) for number in range(streams)]
        try:
            yield done
        finally:
            over.set()
            await asyncio.gather(*callers)


async def _updates(deployment: Deployed, address: Address, arguments: argparse.Namespace) -> dict[str, Any]:
    took = []
    async with under_load(address, arguments.streams, arguments.tokens) as streams:
        for number in range(arguments.updates):
            begun = time.monotonic()
            await deployment.change(engineArgs={"max_num_seqs": 17 + number})
            await deployment.until(_ready)
            took.append(round(time.monotonic() - begun, 1))
    return {
        "updates": arguments.updates,
        "secondsEach": took,
        "streams": len(streams),
        "failed": sum(one.problem is not None and not one.cut for one in streams),
        "cut": sum(one.cut for one in streams),
        "problems": sorted({one.problem for one in streams if one.problem})[:5],
        "slowestFirstTokenSeconds": round(max((one.first - one.begun for one in streams if one.first), default=0), 2),
    }


async def _kills(deployment: Deployed, address: Address, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for _ in range(arguments.kills):
        async with under_load(address, arguments.streams, arguments.tokens) as streams:
            await asyncio.sleep(5)
            before = len(streams)
            os.kill(listener(_serving_url(await deployment.now())), signal.SIGKILL)
            killed_at = time.perf_counter()
            while not (back := [one for one in streams if one.problem is None and one.begun > killed_at]):
                await asyncio.sleep(0.1)
                if time.perf_counter() - killed_at > SECONDS_TO_READY:
                    raise SystemExit("The deployment did not come back.")
        around = streams[before:]
        slowest = max(one.seconds for one in around)
        found.append(
            {
                "backAfterSeconds": round(min(one.first for one in back) - killed_at, 1),
                "cut": sum(one.cut for one in around),
                "refused": sum(one.problem is not None and not one.cut for one in around),
                "slowestRequestSeconds": round(slowest, 1),
                "beyondTheLimit": sum(one.seconds > arguments.limit for one in around),
            }
        )
    return found


def _serving_url(found: dict[str, Any]) -> str:
    serving = (one for one in found["instances"] if one["revision"] == found["servingRevision"] and one["url"])
    return str(next(serving)["url"])


asyncio.run(main())
