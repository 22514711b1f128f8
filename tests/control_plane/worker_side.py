"""The worker's half of the internal conversation, spoken over real HTTP."""

import secrets
from typing import Any

import httpx
import psycopg

from control_plane.database import Database
from control_plane.hints import Hints
from control_plane.watcher.dispatch import Dispatcher
from imts_shared.contracts.internal import RunMessage
from tests.conftest import SERVICE_KEY


class Mailbox:
    """Takes the messages that would go to Redis."""

    def __init__(self) -> None:
        self.messages: list[RunMessage] = []

    def ring(self, queue: str, message: RunMessage) -> None:
        self.messages.append(message)


class WorkerSide:
    def __init__(self, url: str, database: Database) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=20)
        self.database = database
        self.mailbox = Mailbox()
        hints = Hints(database.url)
        self.dispatcher = Dispatcher(database, hints, self.mailbox)  # type: ignore[arg-type]

    async def join(
        self,
        worker_id: str = "w1",
        kinds: tuple[str, ...] = ("analysis",),
        slots: int = 1,
        gpus: int = 0,
        draining: bool = False,
    ) -> None:
        beat = {
            "workerId": worker_id,
            "name": worker_id,
            "service": "test",
            "kinds": list(kinds),
            "slots": slots,
            "queue": f"imts.{worker_id}",
            "host": "here",
            "pid": 1,
            "version": "0",
            "devices": [{"kind": "cuda", "index": n, "name": "GPU", "memoryBytes": 2**34} for n in range(gpus)],
            "draining": draining,
        }
        answer = await self.http.put(
            f"/internal/workers/{worker_id}", json=beat, headers={"Authorization": f"Bearer {SERVICE_KEY}"}
        )
        assert answer.status_code == 204, answer.text

    async def dispatch(self) -> list[RunMessage]:
        self.mailbox.messages.clear()
        await self.dispatcher.send_waiting()
        return list(self.mailbox.messages)

    async def claim(self, message: RunMessage, worker_id: str = "w1", claim_id: str | None = None) -> httpx.Response:
        return await self.http.post(
            f"/internal/jobs/{message.job_id}/claim",
            json={
                "attempt": message.attempt,
                "workerId": worker_id,
                "claimId": claim_id or secrets.token_hex(8),
            },
            headers={"Authorization": f"Bearer {message.token}"},
        )

    async def report(self, message: RunMessage, **content: Any) -> httpx.Response:
        return await self.http.post(
            f"/internal/jobs/{message.job_id}/reports",
            json={"attempt": message.attempt, **content},
            headers={"Authorization": f"Bearer {message.token}"},
        )


def execute(database_url: str, statement: str, *values: Any) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement, values)  # type: ignore[arg-type]
