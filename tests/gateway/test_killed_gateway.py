"""Two gateways spend of one budget, and one of them is killed in the midst of its work."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from imts_shared.contracts.access import Role
from imts_shared.contracts.limits import Limits, Period
from tests.conftest import free_port
from tests.gateway.conftest import Gateway, gateway_process
from tests.gateway.platform_side import KEYS, known, platform, served, serving
from tests.gateway.valkey import valkey

BUDGET = 60_000
SPENDER = "sk-spender-0123456789abcdef"
CALLERS = 12
ENOUGH = 8
"""So often in turn a caller is refused before it believes it."""


class Till:
    """An engine that counts what it is made to do, whoever hears its answer."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.spent = 0
        self.requests = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        most = (await request.json())["max_tokens"]
        given, made = len(body) // 3, self.random.randint(0, most)
        self.spent += given + made
        self.requests += 1
        await asyncio.sleep(self.random.random() * 0.03)
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        message = {"role": "assistant", "content": "So it is."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})


@asynccontextmanager
async def till(seed: int) -> AsyncIterator[tuple[Till, str]]:
    here, port = Till(seed), free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", here.answer)
    async with serving(app, port):
        yield here, f"http://127.0.0.1:{port}"


async def spend(gateway: Gateway, seed: int) -> None:
    """Until the budget is used up, or the gateway is there no more."""
    random_ = random.Random(seed)
    refused = 0
    async with aiohttp.ClientSession(gateway.url, headers={"authorization": f"Bearer {SPENDER}"}) as session:
        while refused < ENOUGH:
            asked = {"model": "tiny", "messages": [], "max_tokens": random_.randint(20, 200)}
            try:
                async with session.post("/v1/chat/completions", json=asked) as answer:
                    assert answer.status in {200, 429}, await answer.text()
                    await answer.read()
            except aiohttp.ClientError:
                return
            refused = refused + 1 if answer.status == 429 else 0
            if refused:
                await asyncio.sleep(1)


@pytest.mark.parametrize("seeds", [(0, 1), (2, 3, 4)])
async def test_a_budget_is_not_overspent_when_a_gateway_is_killed_under_load(
    tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    """Beside each other, as most of their time is waiting."""
    spent = await asyncio.gather(*(spent_of_the_budget(tmp_path / str(seed), seed) for seed in seeds))
    assert 0.7 <= min(spent) <= max(spent) <= 1.01, spent


async def spent_of_the_budget(tmp_path: Path, seed: int) -> float:
    (tmp_path / "valkey").mkdir(parents=True)
    limits = Limits(token_budget=BUDGET, budget_period=Period.total)
    key = known(SPENDER, Role.inference, "default").model_copy(update={"limits": limits})
    with valkey(tmp_path / "valkey") as redis:
        async with platform() as here, till(seed) as (engine, url):
            with (
                gateway_process(tmp_path / "a", here.url, IMTS_REDIS_URL=redis.url) as doomed,
                gateway_process(tmp_path / "b", here.url, IMTS_REDIS_URL=redis.url) as other,
            ):
                await asyncio.gather(doomed.until_up(), other.until_up())
                version = here.publish(served("tiny", url), keys=[*KEYS, key])
                await asyncio.gather(doomed.until_knows(version), other.until_knows(version))
                callers = [
                    asyncio.create_task(spend(gateway, 100 * seed + number))
                    for gateway in (doomed, other)
                    for number in range(CALLERS)
                ]
                until = BUDGET * random.Random(seed).uniform(0.3, 0.7)
                while engine.spent < until:
                    await asyncio.sleep(0.005)
                doomed.process.send_signal(signal.SIGKILL)
                await asyncio.gather(*callers)
    print(f"{engine.spent / BUDGET:.2%} of the budget spent in {engine.requests} requests")
    return engine.spent / BUDGET
