"""The one question that a gateway asks Redis."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from inference_service.gateway.quota.counter import Answered, Visit

GATEWAY_LIVES_MS = 5_000
HOLD_MS = 5_000
"""What a gateway holds of a rate and does not renew for so long is given to others."""
GATEWAYS = "imts:quota:gateways"
_SCRIPT = Path(__file__).with_name("counters.lua")
_ANSWERS = 6


class Away(Exception):
    """Redis does not answer in time, or says that it cannot."""


class Store:
    def __init__(self, url: str, gateway: str, patience_seconds: float) -> None:
        self._gateway = gateway
        self._redis = Redis.from_url(
            url,
            socket_timeout=patience_seconds,
            socket_connect_timeout=patience_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._redis.register_script(_SCRIPT.read_text())
        self.gateways = 1
        self.visited_at = -float("inf")

    async def visit(self, visits: Sequence[tuple[str, Visit]], *, leaves: bool = False) -> list[Answered]:
        """Tried twice: the first failure may be that of an old connection. A visit that was heard though its answer was
        lost changes nothing the second time."""
        keys = [GATEWAYS]
        told: list[str | float] = [self._gateway, 0 if leaves else GATEWAY_LIVES_MS, HOLD_MS]
        for key, visit in visits:
            keys.append(key)
            told += visit
        try:
            heard = await self._ask(keys, told)
        except Away:
            heard = await self._ask(keys, told)
        self.visited_at = time.monotonic()
        self.gateways = int(heard[0])
        numbers = [float(part) for part in heard[1:]]
        return [Answered(numbers[at] > 0, *numbers[at + 1 : at + _ANSWERS]) for at in range(0, len(numbers), _ANSWERS)]

    async def _ask(self, keys: list[str], told: list[str | float]) -> list[bytes]:
        try:
            return cast(list[bytes], await self._script(keys=keys, args=told))
        except (RedisError, OSError) as error:
            await self._redis.connection_pool.disconnect()
            raise Away(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        await self._redis.aclose()
