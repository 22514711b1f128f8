"""Streams from an OpenAI-compatible address, each with its times: what the serving benchmarks measure with."""

import asyncio
import random
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from imts_cli.local.ports import user_of


@dataclass(frozen=True)
class Address:
    url: str
    model: str
    key: str = "none"

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self.url,
            headers={"authorization": f"Bearer {self.key}"},
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3),
            timeout=aiohttp.ClientTimeout(total=None),
        )


@dataclass
class Stream:
    """`problem` is None for one that came to its own end."""

    begun: float
    first: float = 0.0
    last: float = 0.0
    tokens: int = 0
    status: int = 0
    problem: str | None = None

    @property
    def seconds(self) -> float:
        return self.last - self.begun

    @property
    def cut(self) -> bool:
        return self.problem is not None and self.first > 0


async def stream(session: aiohttp.ClientSession, address: Address, prompt: str, tokens: int) -> Stream:
    """One completion of exactly `tokens` tokens; it is whole only with its count of them and the closing [DONE]."""
    asked = {
        "model": address.model,
        "prompt": prompt,
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    found = Stream(begun=time.perf_counter())
    try:
        async with session.post("/v1/completions", json=asked) as answer:
            found.status = answer.status
            if answer.status != 200:
                found.problem = (await answer.text())[:300]
            else:
                await _read(answer, found)
    except (aiohttp.ClientError, ConnectionError, ValueError) as error:
        found.problem = str(error) or type(error).__name__
    found.last = time.perf_counter()
    return found


async def _read(answer: aiohttp.ClientResponse, found: Stream) -> None:
    done = False
    async for line in answer.content:
        if not line.startswith(b"data: "):
            continue
        said = line[6:].strip()
        if said == b"[DONE]":
            done = True
            continue
        content = orjson.loads(said)
        if "error" in content:
            found.problem = str(content["error"])[:300]
            return
        if not found.first and content.get("choices"):
            found.first = time.perf_counter()
        if content.get("usage"):
            found.tokens = content["usage"]["completion_tokens"]
    if not done:
        found.problem = "the stream ended without [DONE]"


async def at_once(address: Address, prompts: Sequence[str], tokens: int, concurrent: int) -> tuple[list[Stream], float]:
    """All prompts, `concurrent` of them at any time; with the seconds that it took."""
    waiting = list(reversed(prompts))
    done: list[Stream] = []
    async with address.session() as session:

        async def caller() -> None:
            while waiting:
                done.append(await stream(session, address, waiting.pop(), tokens))

        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(concurrent)))
        return done, time.perf_counter() - begun


def told(streams: Sequence[Stream], seconds: float) -> dict[str, Any]:
    """Tokens a second, time to the first token, and time for each further one, in milliseconds."""
    good = [one for one in streams if one.problem is None]
    if not good:
        raise SystemExit(f"No stream came to its end: {streams[0].problem if streams else 'none was asked for'}")
    first = sorted((one.first - one.begun) * 1e3 for one in good)
    further = sorted((one.last - one.first) * 1e3 / max(1, one.tokens - 1) for one in good)
    return {
        "requests": len(streams),
        "failed": len(streams) - len(good),
        "tokensPerSecond": round(sum(one.tokens for one in good) / seconds, 1),
        "ttftMs": {"p50": round(statistics.median(first), 2), "p99": round(_p99(first), 2)},
        "tpotMs": {"p50": round(statistics.median(further), 2), "p99": round(_p99(further), 2)},
    }


def _p99(values: Sequence[float]) -> float:
    return values[min(len(values) - 1, int(len(values) * 0.99))]


def listener(url: str) -> int:
    """The process of this machine that answers there."""
    user = user_of(int(url.rpartition(":")[2].rstrip("/")))
    found = re.search(r"\(process (\d+)\)", user or "")
    if found is None:
        raise SystemExit(f"Nobody on this machine listens at {url}.")
    return int(found.group(1))


def prompts(count: int, words: int, seed: int) -> list[str]:
    """Each begins otherwise, so that no cache of prefixes helps; the same ones for each seed."""
    chance = random.Random(seed)
    return [" ".join(chance.choice(_WORDS) for _ in range(words)) for _ in range(count)]


_WORDS = [
    "river",
    "mountain",
    "window",
    "garden",
    "letter",
    "engine",
    "summer",
    "winter",
    "bridge",
    "market",
    "paper",
    "silver",
    "forest",
    "island",
    "teacher",
    "story",
    "morning",
    "evening",
    "answer",
    "question",
    "number",
    "picture",
    "journey",
    "kitchen",
    "village",
    "castle",
    "harbour",
    "station",
    "museum",
    "library",
]
