"""Gateways' quotas over one Valkey, for tests."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from imts_shared.contracts.limits import Limits
from imts_shared.contracts.usage import SpentScope
from inference_service.gateway.control_plane import Unanswered
from inference_service.gateway.errors import Refusal
from inference_service.gateway.quota import Full, Quota, Scopes, Settings
from tests.gateway.valkey import Valkey

PATIENT = {"patience_seconds": 1.0}
MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


class Books:
    """The control plane's answer about what was spent."""

    def __init__(self, **tokens: int) -> None:
        self.tokens = tokens
        self.away = False
        self.asked = 0

    async def spent(self) -> Sequence[SpentScope]:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.away:
            raise Unanswered("connection refused")
        return [
            SpentScope(scope=f"key:{key}", period_start=MONTH, tokens=tokens, money=tokens / 1000)
            for key, tokens in self.tokens.items()
        ]


@asynccontextmanager
async def gateways(server: Valkey, number: int, books: Books | None = None, **settings: Any) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(number):
            quota = Quota(server.url, (books or Books()).spent, Settings(**{**PATIENT, **settings}))
            await quota.start()
            stack.push_async_callback(quota.close)
            found.append(quota)
        yield found[0] if number == 1 else found


def of_key(quota: Quota, limits: Limits, key: str = "k") -> Scopes:
    scopes = quota.scopes(key, limits, "p", None)
    assert scopes is not None
    return scopes


async def refused(quota: Quota, scopes: Scopes, tokens: float = 1, money: float = 0) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await quota.admit(scopes, tokens, money)
    return caught.value


async def until(true: Any, seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)


async def admitted(quota: Quota, scopes: Scopes, tokens: float, most: int = 1000) -> int:
    """How many requests of so many tokens there is room for."""
    for number in range(most):
        found = quota.try_admit(scopes, tokens, 0) or await quota.ask(scopes, tokens, 0)
        if isinstance(found, Full):
            return number
        found.settle(tokens, 0)
    return most
