"""Keys, projects and webhooks."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from imts_client.blocking.transport import Transport
from imts_client.calls import access as calls
from imts_shared.contracts.access import Delivery, Key, NewKey, NewWebhook, Project, Role, Webhook
from imts_shared.contracts.jobs import JobKind, JobState


class Keys:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        role: Role | str | None = None,
        project: str | None = None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        return self._transport.send(calls.create_key(name, role, project, expires_at))

    def list(self, *, most: int | None = None) -> Iterator[Key]:
        return self._transport.every(calls.keys(), most)

    def revoke(self, key_id: str) -> Key:
        return self._transport.send(calls.revoke_key(key_id))


class Projects:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, *, running: int | None = None, queued: int | None = None) -> Project:
        return self._transport.send(calls.create_project(name, running, queued))

    def list(self, *, most: int | None = None) -> Iterator[Project]:
        return self._transport.every(calls.projects(), most)

    def set_quota(self, name: str, **quota: int | None) -> Project:
        """`running=` and `queued=`; what is not named stays, None lifts a limit."""
        return self._transport.send(calls.set_quota(name, **quota))


class Webhooks:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        url: str,
        *,
        states: Sequence[JobState | str] = (),
        kinds: Sequence[JobKind | str] = (),
        project: str | None = None,
    ) -> NewWebhook:
        return self._transport.send(calls.create_webhook(url, states, kinds, project))

    def list(self, *, most: int | None = None) -> Iterator[Webhook]:
        return self._transport.every(calls.webhooks(), most)

    def delete(self, webhook_id: str) -> None:
        self._transport.send(calls.delete_webhook(webhook_id))

    def deliveries(self, webhook_id: str, *, most: int | None = None) -> Iterator[Delivery]:
        return self._transport.every(calls.deliveries(webhook_id), most)

    def redeliver(self, webhook_id: str, delivery_id: str) -> None:
        self._transport.send(calls.redeliver(webhook_id, delivery_id))
