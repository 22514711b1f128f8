"""Requests through the gateway to three upstreams, one of which fails in every way there is.

Every request that could succeed must, as two upstreams are always well; no answer may end short and look whole; and
what the platform has counted must be what the upstreams counted of the answers that they gave whole.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from gateway_platform import Bench

FAULTS = ("refused", "reset", "slow", "cut", "429", "500", "garbage")
FAULTY_SHARE = 0.35
SLOW_SECONDS = 3.0
AT_ONCE = 24
WORDS = 12
PAUSE_SECONDS = 0.3
"""Between the requests of one who asks. Without it they would be over before the faulty upstream has had its rests, and
meet it hardly at all."""


@dataclass
class Counted:
    requests: int = 0
    input: int = 0
    output: int = 0
    faults: Counter[str] = field(default_factory=Counter)


class Server:
    """Counts only what it gave whole."""

    def __init__(self, counted: Counted, rng: random.Random | None = None) -> None:
        self._counted = counted
        self._rng = rng
        self._server: asyncio.Server | None = None
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                asked = json.loads(await reader.readexactly(length))
                if not await self._answer(asked, writer):
                    break
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        fault = None
        if self._rng is not None and self._rng.random() < FAULTY_SHARE:
            fault = self._rng.choice(FAULTS[1:])
            self._counted.faults[fault] += 1
        stream = asked.get("stream") is True
        if fault == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        if fault in {"429", "500"}:
            after = "retry-after: 1\r\n" if fault == "429" and random.random() < 0.5 else ""
            writer.write(f"HTTP/1.1 {fault} X\r\n{after}content-length: 2\r\n\r\n{{}}".encode())
            await writer.drain()
            return True
        if fault == "garbage":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>")
            await writer.drain()
            return True
        usage = {"prompt_tokens": random.randint(1, 900), "completion_tokens": WORDS}
        words = [f"w{number} " for number in range(WORDS)]
        if not stream:
            message = {"role": "assistant", "content": "".join(words)}
            body = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            writer.write(head + (body[: len(body) // 2] if fault == "cut" else body))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for word in words[: WORDS // 2 if fault == "cut" else WORDS]:
                writer.write(_event({"choices": [{"index": 0, "delta": {"content": word}}]}))
                await writer.drain()
                await asyncio.sleep(0.001)
            if fault != "cut":
                if (asked.get("stream_options") or {}).get("include_usage"):
                    writer.write(_event({"choices": [], "usage": usage}))
                writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        if fault == "cut":
            return False
        self._counted.requests += 1
        self._counted.input += usage["prompt_tokens"]
        self._counted.output += WORDS
        return True


def _event(content: dict[str, Any]) -> bytes:
    body = b"data: " + json.dumps(content).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(body), body)


async def _refusing_now_and_then(server: Server, rng: random.Random, counted: Counted) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.2, 1.5))
        await server.stop()
        counted.faults["refused"] += 1
        await asyncio.sleep(rng.uniform(0.05, 0.5))
        await server.start()


async def faults(requests: int, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    counted = Counted()
    servers = [Server(counted, random.Random(seed + 1)), Server(counted), Server(counted)]
    for server in servers:
        await server.start()
    with Bench.made(*(server.url for server in servers)) as bench:
        refusing = asyncio.create_task(_refusing_now_and_then(servers[0], rng, counted))
        begun = time.monotonic()
        said = await _asked(bench, requests, rng)
        took = time.monotonic() - begun
        refusing.cancel()
        await asyncio.sleep(2)
        used = bench.usage()
    exact = used["inputTokens"] + used["outputTokens"] - used["estimatedTokens"]
    return {
        "requests": requests,
        "seconds": round(took, 1),
        "faults met": dict(counted.faults),
        "answers": dict(said),
        "upstreams counted": counted.input + counted.output,
        "platform counted": exact,
        "platform counted requests": used["requests"],
        "usage is exact": exact == counted.input + counted.output,
    }


async def _asked(bench: Bench, requests: int, rng: random.Random) -> Counter[str]:
    said: Counter[str] = Counter()
    left = iter(range(requests))
    headers = {"authorization": f"Bearer {bench.key}"}

    async def ask(session: aiohttp.ClientSession) -> None:
        for number in left:
            stream = rng.random() < 0.5
            body = {
                "model": bench.models[0],
                "messages": [{"role": "user", "content": f"{number}"}],
                "stream": stream,
                "max_tokens": WORDS,
            }
            said[await _outcome(session, body, stream=stream)] += 1
            await asyncio.sleep(rng.uniform(0, 2 * PAUSE_SECONDS))

    async with aiohttp.ClientSession(bench.gateway, headers=headers) as session:
        await asyncio.gather(*(ask(session) for _ in range(AT_ONCE)))
    return said


async def _outcome(session: aiohttp.ClientSession, body: dict[str, Any], *, stream: bool) -> str:
    try:
        async with session.post("/v1/chat/completions", json=body) as answer:
            content = await answer.read()
    except aiohttp.ClientPayloadError:
        return "cut, and told so"
    if answer.status != 200:
        return f"refused {answer.status}"
    last = f"w{WORDS - 1} ".encode()
    whole = last in content and (not stream or content.rstrip().endswith(b"[DONE]"))
    return "whole" if whole else "short, and looks whole"
