"""A model that answers at once and a load that waits for nothing: both as little as can be, to measure what is between.

upstream   python benchmarks/wire.py upstream PORT [--lockstep]
load       load(url, ...) in a process of its own, by `python benchmarks/wire.py load ...`, printing JSON
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

WORDS = "the model answers what was asked of it and some more words that differ from one to the next".split()  # noqa: SIM905
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes. " * 20}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECES = 20
NUMBER = "#" * 16
PIECE_SECONDS = 0.01


def _event(content: dict[str, Any]) -> bytes:
    body = b"data: " + json.dumps(content).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(body), body)


def _delta(text: str | None, finish: str | None = None) -> dict[str, Any]:
    delta = {"content": text} if text else {}
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }  # fmt: skip


TOKEN = _event(_delta("word "))
USAGE = _event(
    {
        **_delta(None),
        "choices": [],
        "usage": {"prompt_tokens": 60, "completion_tokens": PIECES, "total_tokens": 60 + PIECES},
    }
)
END = _event(_delta(None, "stop"))
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
MODELS = b'{"object":"list","data":[{"id":"bench","object":"model"}]}'


class Upstream(asyncio.Protocol):
    """Its streams differ in length and pace, as answers do; `lockstep`: all alike, so that clients that begin together
    always end and begin together."""

    lockstep = False

    def __init__(self) -> None:
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._streams: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        for stream in self._streams:
            stream.cancel()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._rest) < end + 4 + length:
                return
            body = self._rest[end + 4 : end + 4 + length]
            self._rest = self._rest[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"get"):
            said = MODELS if b"/v1/models" in head else b"{}"
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)
            )
        elif b'"stream": true' in body or b'"stream":true' in body:
            stream = asyncio.create_task(self._stream(b"include_usage" in body))
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)
        else:
            self._transport.write(HEAD + ANSWER)

    async def _stream(self, usage: bool) -> None:
        assert self._transport is not None
        self._transport.write(STREAM + TOKEN)
        pieces = PIECES if self.lockstep else random.randint(PIECES // 2, PIECES * 3 // 2)
        for _ in range(pieces - 1):
            await asyncio.sleep(PIECE_SECONDS if self.lockstep else random.uniform(0.5, 1.5) * PIECE_SECONDS)
            self._transport.write(TOKEN)
        self._transport.write(END + (USAGE if usage else b"") + DONE)


class Asking(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._rest = b""
        self._left = -1
        self._asked_at = 0.0
        self._first_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        self._load.lost(self)

    def _ask(self) -> None:
        assert self._transport is not None
        self._rest = b""
        self._left = -1
        self._first_at = 0.0
        self._asked_at = time.perf_counter()
        self._transport.write(self._load.request())

    def data_received(self, data: bytes) -> None:
        if not self._load.stream:
            return self._whole(data)
        self._rest = (self._rest + data)[-4_096:] if self._first_at else self._rest + data
        if not self._first_at and b"data: {" in self._rest:
            self._first_at = time.perf_counter()
        if self._rest.endswith(b"0\r\n\r\n"):
            ok = b"data: [DONE]" in self._rest
            self._load.took((self._first_at or time.perf_counter()) - self._asked_at, ok)
            self._go_on()
        return None

    def _whole(self, data: bytes) -> None:
        if self._left < 0:
            self._rest += data
            end = self._rest.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._rest[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            self._left = length - (len(self._rest) - end - 4)
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._load.took(time.perf_counter() - self._asked_at, self._rest.startswith(b"HTTP/1.1 200"))
            if not self._rest.startswith(b"HTTP/1.1 200"):
                self._load.problem = self._rest[:600].decode(errors="replace")
            self._go_on()

    def _go_on(self) -> None:
        if self._load.over:
            assert self._transport is not None
            self._transport.close()
        else:
            self._ask()


class Load:
    def __init__(self, url: str, key: str, model: str, seconds: float, *, stream: bool, apart: float = 0.0) -> None:
        """`apart`: about so many seconds between the beginnings of its connections."""
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.stream = stream
        self.apart = apart
        self.times: list[float] = []
        self.bad = 0
        self.problem = ""
        self._seconds = seconds
        self._until = 0.0
        self._left = 0
        self._all_gone = asyncio.Event()
        self._requests = self._made(key, model)

    def _made(self, key: str, model: str) -> Iterator[bytes]:
        """A thousand that differ, each about 250 characters of prompt; each time with another number, as people seldom
        ask the very same thing again."""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self.host}\r\nauthorization: Bearer {key}\r\n"
            "content-type: application/json\r\n"
        )
        rng = random.Random(7)
        made = []
        for _ in range(1_000):
            words = " ".join(rng.choice(WORDS) for _ in range(48))
            asked: dict[str, Any] = {
                "model": model,
                "messages": [{"role": "user", "content": f"{NUMBER}: {words}"}],
                "max_tokens": 40,
            }
            if self.stream:
                asked["stream"] = True
            body = json.dumps(asked)
            before, after = f"{head}content-length: {len(body)}\r\n\r\n{body}".encode().split(NUMBER.encode())
            made.append((before, after))
        run = random.SystemRandom().randrange(10**7)
        for number, (before, after) in enumerate(itertools.cycle(made)):
            yield b"%b%07d-%08d%b" % (before, run, number, after)

    def request(self) -> bytes:
        return next(self._requests)

    @property
    def over(self) -> bool:
        return time.perf_counter() >= self._until

    def took(self, seconds: float, ok: bool) -> None:
        self.times.append(seconds)
        self.bad += not ok

    def lost(self, _connection: Asking) -> None:
        self._left -= 1
        if self._left == 0:
            self._all_gone.set()

    async def run(self, connections: int) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self._left = connections
        begun = time.perf_counter()
        self._until = begun + self._seconds
        for _ in range(connections):
            await loop.create_connection(lambda: Asking(self), self.host, self.port)
            if self.apart:
                await asyncio.sleep(random.uniform(0.5, 1.5) * self.apart)
        async with asyncio.timeout(self._seconds + 60):
            await self._all_gone.wait()
        took = time.perf_counter() - begun
        times = sorted(self.times)
        return {
            "requests": len(times),
            "bad": self.bad,
            "problem": self.problem,
            "perSecond": len(times) / took,
            "p50ms": statistics.median(times) * 1000,
            "p99ms": times[int(len(times) * 0.99)] * 1000,
        }


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=2_048)
    await server.serve_forever()


async def _load(given: argparse.Namespace) -> None:
    load = Load(given.url, given.key, given.model, given.seconds, stream=given.stream, apart=given.apart)
    print(json.dumps(await load.run(given.connections)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    serve = parts.add_parser("upstream")
    serve.add_argument("port", type=int)
    serve.add_argument("--lockstep", action="store_true")
    ask = parts.add_parser("load")
    ask.add_argument("url")
    ask.add_argument("--key", default="none")
    ask.add_argument("--model", default="bench")
    ask.add_argument("--seconds", type=float, default=5)
    ask.add_argument("--connections", type=int, default=1)
    ask.add_argument("--apart", type=float, default=0.0)
    ask.add_argument("--stream", action="store_true")
    given = parser.parse_args()
    Upstream.lockstep = getattr(given, "lockstep", False)
    uvloop.run(_serve(given.port) if given.what == "upstream" else _load(given))


if __name__ == "__main__":
    main()
