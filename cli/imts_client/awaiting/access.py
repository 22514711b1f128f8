"""AsyncKeys, projects and webhooks."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import access as calls
from imts_shared.contracts.access import Delivery, Key, NewKey, NewWebhook, Project, Role, Webhook
from imts_shared.contracts.jobs import JobKind, JobState


class AsyncKeys:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        name: str,
        *,
        role: Role | str | None = None,
        project: str | None = None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        return await self._transport.send(calls.create_key(name, role, project, expires_at))

    def list(self, *, most: int | None = None) -> AsyncIterator[Key]:
        return self._transport.every(calls.keys(), most)

    async def revoke(self, key_id: str) -> Key:
        return await self._transport.send(calls.revoke_key(key_id))


class AsyncProjects:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, name: str, *, running: int | None = None, queued: int | None = None) -> Project:
        return await self._transport.send(calls.create_project(name, running, queued))

    def list(self, *, most: int | None = None) -> AsyncIterator[Project]:
        return self._transport.every(calls.projects(), most)

    async def set_quota(self, name: str, **quota: int | None) -> Project:
        """`running=` and `queued=`; what is not named stays, None lifts a limit."""
        return await self._transport.send(calls.set_quota(name, **quota))


class AsyncWebhooks:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        url: str,
        *,
        states: Sequence[JobState | str] = (),
        kinds: Sequence[JobKind | str] = (),
        project: str | None = None,
    ) -> NewWebhook:
        return await self._transport.send(calls.create_webhook(url, states, kinds, project))

    def list(self, *, most: int | None = None) -> AsyncIterator[Webhook]:
        return self._transport.every(calls.webhooks(), most)

    async def delete(self, webhook_id: str) -> None:
        await self._transport.send(calls.delete_webhook(webhook_id))

    def deliveries(self, webhook_id: str, *, most: int | None = None) -> AsyncIterator[Delivery]:
        return self._transport.every(calls.deliveries(webhook_id), most)

    async def redeliver(self, webhook_id: str, delivery_id: str) -> None:
        await self._transport.send(calls.redeliver(webhook_id, delivery_id))
