"""A deployment against the same engine started by hand: tokens a second at 16 streams, and the first token's time.

python benchmarks/serving_throughput.py --model bot [--rounds 8]

The engine by hand has the command and the environment of the deployment's own, and a session of its own as that has:
Linux shares a CPU between sessions. Rounds go round: the deployment's engine, the same through the gateway, the engine
by hand; who begins changes. Medians are compared. The deployment must run on this machine.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from platform_at_hand import Platform, gateway_url, machine
from serving_load import Address, at_once, listener, prompts, told

ALONE_TOKENS = 4
SECONDS_TO_READY = 180


async def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--gateway-url", help="By default as ./imts status tells.")
    parser.add_argument("--model", required=True, help="The deployment's name.")
    parser.add_argument("--concurrent", type=int, default=16)
    parser.add_argument("--requests", type=int, default=64, help="At once, in each round.")
    parser.add_argument(
        "--alone", type=int, default=20, help="One after the other, in each round, for the first token."
    )
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    engine = await _engine(platform, arguments.model)
    async with _by_hand(engine) as by_hand:
        addresses = {
            "engine": Address(engine, arguments.model),
            "gateway": Address(arguments.gateway_url or gateway_url(), arguments.model, platform.key),
            "byHand": Address(by_hand, arguments.model),
        }
        rounds = await _rounds(addresses, arguments)
    print(json.dumps({"machine": machine(), "concurrent": arguments.concurrent, **_compared(rounds)}, indent=2))


async def _engine(platform: Platform, name: str) -> str:
    async with (
        aiohttp.ClientSession(platform.url, headers=platform.headers) as session,
        session.get(f"/api/deployments/{name}") as answer,
    ):
        found = await answer.json()
        assert answer.status == 200, found
    return str(next(one["url"] for one in found["instances"] if one["revision"] == found["servingRevision"]))


@contextlib.asynccontextmanager
async def _by_hand(engine: str) -> AsyncIterator[str]:
    """The same once more, on another port."""
    there = Path("/proc") / str(listener(engine))
    command = (there / "cmdline").read_bytes().decode().split("\0")[:-1]
    environment = dict(
        pair.split("=", 1) for pair in (there / "environ").read_bytes().decode().split("\0") if "=" in pair
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command[command.index("--port") + 1] = str(port)
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await _until_up(url)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


async def _until_up(url: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_READY
    async with aiohttp.ClientSession(url) as session:
        while time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/health") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.5)
    raise SystemExit("The engine by hand did not come up.")


async def _rounds(addresses: dict[str, Address], arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    names = list(addresses)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(-1, arguments.rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            many = prompts(arguments.requests, arguments.words, seed=10 * number + names.index(name))
            streams, seconds = await at_once(addresses[name], many, arguments.tokens, arguments.concurrent)
            few = prompts(arguments.alone, arguments.words, seed=10 * number + 5 + names.index(name))
            alone, alone_seconds = await at_once(addresses[name], few, ALONE_TOKENS, 1)
            if number >= 0:  # the round before is for warming up
                rounds[name].append({"atOnce": told(streams, seconds), "alone": told(alone, alone_seconds)})
    return rounds


def _compared(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def tokens(name: str) -> float:
        return statistics.median(one["atOnce"]["tokensPerSecond"] for one in rounds[name])

    def first(name: str, which: str) -> float:
        return statistics.median(one[which]["ttftMs"]["p50"] for one in rounds[name])

    ours = ("engine", "gateway")
    return {
        "tokensPerSecond": {name: round(tokens(name), 1) for name in rounds},
        "ttftAloneMs": {name: round(first(name, "alone"), 2) for name in rounds},
        "ttftAtOnceMs": {name: round(first(name, "atOnce"), 2) for name in rounds},
        "throughputRatio": {name: round(tokens(name) / tokens("byHand"), 4) for name in ours},
        "ttftRatio": {name: round(first(name, "alone") / first("byHand", "alone"), 4) for name in ours},
        "failed": sum(
            one[which]["failed"] for some in rounds.values() for one in some for which in ("atOnce", "alone")
        ),
        "rounds": rounds,
    }


asyncio.run(main())
