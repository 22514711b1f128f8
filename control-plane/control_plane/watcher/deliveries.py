"""Sending webhook deliveries: at least once, with growing pauses, a slow receiver held apart from the others."""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import orjson
from loguru import logger
from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from control_plane.addresses import AddressRefused, pinned, resolve, target
from control_plane.database import Database
from control_plane.hints import DELIVERIES, Hints
from control_plane.settings import ControlPlaneSettings
from control_plane.webhooks import signing

SENT = Counter("imts_webhook_deliveries_total", "Tries to deliver, by what came of them.", ["outcome"])
LOOK_SECONDS = 2.0
AT_ONCE = 20
AT_ONCE_EACH = 4
TRY_SECONDS = 10.0
MOST_TRIES = 12
LONGEST_PAUSE = 6 * 3600.0

_TAKE = """
WITH due AS (
    SELECT id FROM (
        SELECT d.id, d.next_try_at, row_number() OVER (PARTITION BY d.webhook_id ORDER BY d.next_try_at) AS place
        FROM webhook_deliveries d WHERE d.state = 'pending' AND d.next_try_at <= clock_timestamp()
    ) waiting WHERE place <= :each ORDER BY next_try_at LIMIT :most
), locked AS (
    SELECT d.id FROM webhook_deliveries d JOIN due ON due.id = d.id FOR UPDATE OF d SKIP LOCKED
)
UPDATE webhook_deliveries d
SET tries = d.tries + 1, next_try_at = clock_timestamp() + make_interval(secs => :ahead)
FROM locked, webhooks w
WHERE d.id = locked.id AND w.id = d.webhook_id
RETURNING d.id, d.webhook_id, d.event, d.tries, w.url, w.allow_internal
"""
"""Moves the next try ahead before the first is made: a watcher that dies in between sends again, never less."""

_DONE = """
UPDATE webhook_deliveries SET state = :state, last_status = :status, last_error = :error,
    next_try_at = CASE WHEN :state = 'pending' THEN clock_timestamp() + make_interval(secs => :pause) END,
    delivered_at = CASE WHEN :state = 'delivered' THEN clock_timestamp() END
WHERE id = :id AND state = 'pending'
"""


@dataclass(frozen=True)
class _Due:
    id: int
    webhook_id: UUID
    event: dict[str, Any]
    tries: int
    url: str
    allow_internal: bool


def pause_after(tries: int) -> float:
    """5 s, doubling, up to six hours, with a little chance so that receivers are not hit in step."""
    seconds = 5.0 * 2.0 ** min(tries - 1, 30)
    return float(min(seconds, LONGEST_PAUSE) * random.uniform(0.9, 1.1))  # noqa: S311 - no secret


class Deliveries:
    def __init__(self, database: Database, hints: Hints, config: ControlPlaneSettings) -> None:
        self._database = database
        self._secret_key = config.secret_key.get_secret_value()
        self._something = asyncio.Event()
        hints.listen(self._hear)

    def _hear(self, hint: str) -> None:
        if hint == DELIVERIES:
            self._something.set()

    async def run(self) -> None:
        """Each receiver's deliveries are sent by tasks of their own; nobody waits for the slowest."""
        running: dict[asyncio.Task[None], UUID] = {}

        def ended(task: asyncio.Task[None]) -> None:
            running.pop(task, None)
            self._something.set()

        async with httpx.AsyncClient(timeout=TRY_SECONDS, follow_redirects=False, trust_env=False) as http:
            try:
                while True:
                    self._something.clear()
                    for due in await self._take(AT_ONCE - len(running)):
                        task = asyncio.create_task(self._deliver(http, due))
                        running[task] = due.webhook_id
                        task.add_done_callback(ended)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._something.wait(), LOOK_SECONDS)
            finally:
                for task in list(running):
                    task.cancel()

    async def _take(self, most: int) -> list[_Due]:
        if most <= 0:
            return []
        try:
            async with self._database.statements() as session:
                asked = {"most": most, "each": AT_ONCE_EACH, "ahead": TRY_SECONDS * 3}
                return [_Due(*row) for row in (await session.execute(text(_TAKE), asked)).all()]
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            logger.bind(error=type(error).__name__).warning("deliveries: the database does not answer")
            await asyncio.sleep(1)
            return []

    async def _deliver(self, http: httpx.AsyncClient, due: _Due) -> None:
        status, error = await self._send(http, due)
        delivered = status is not None and 200 <= status < 300
        state = "delivered" if delivered else "failed" if due.tries >= MOST_TRIES else "pending"
        SENT.labels("delivered" if delivered else "refused" if status else "unreached").inc()
        if not delivered:
            logger.bind(
                webhook=str(due.webhook_id), delivery=due.id, tries=due.tries, status=status, error=error
            ).warning("webhook not delivered")
        values = {"id": due.id, "state": state, "status": status, "error": error, "pause": pause_after(due.tries)}
        with contextlib.suppress(SQLAlchemyError, OSError, TimeoutError):
            async with self._database.transaction() as session:
                await session.execute(text(_DONE), values)

    async def _send(self, http: httpx.AsyncClient, due: _Due) -> tuple[int | None, str | None]:
        body = orjson.dumps(due.event)
        message_id = f"{due.webhook_id}.{due.id}"
        secret = signing.secret_of(self._secret_key, due.webhook_id)
        headers = signing.headers(secret, message_id, int(time.time()), body)
        where = target(due.url)
        try:
            address = await resolve(where.host, where.port, allow_internal=due.allow_internal)
            request = pinned(http, "POST", where, address, headers, body)
            async with asyncio.timeout(TRY_SECONDS):
                answer = await http.send(request, stream=True)
                await answer.aclose()
        except AddressRefused as error:
            return None, str(error)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError) as error:
            return None, f"{type(error).__name__}: {error}"[:200]
        return answer.status_code, None if 200 <= answer.status_code < 300 else f"HTTP {answer.status_code}"
