"""Keys, projects and webhooks."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from imts_client.blocking.transport import Transport
from imts_client.calls import access as calls
from imts_client.calls import limits as limit_calls
from imts_shared.contracts.access import Delivery, Key, NewKey, NewWebhook, Project, RequestLog, Role, Webhook
from imts_shared.contracts.jobs import JobKind, JobState
from imts_shared.contracts.limits import Limits, LimitsAnswer


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
        limits: Limits | None = None,
    ) -> NewKey:
        return self._transport.send(calls.create_key(name, role, project, expires_at, limits))

    def list(self, *, most: int | None = None) -> Iterator[Key]:
        return self._transport.every(calls.keys(), most)

    def revoke(self, key_id: str) -> Key:
        return self._transport.send(calls.revoke_key(key_id))

    def limits(self, key_id: str) -> LimitsAnswer:
        """With what is spent of them in the running period."""
        return self._transport.send(limit_calls.get("keys", key_id))

    def set_limits(self, key_id: str, limits: Limits) -> LimitsAnswer:
        """All limits anew: what is left out is no limit."""
        return self._transport.send(limit_calls.put("keys", key_id, limits))


class Projects:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, name: str, *, running: int | None = None, queued: int | None = None, limits: Limits | None = None
    ) -> Project:
        return self._transport.send(calls.create_project(name, running, queued, limits))

    def list(self, *, most: int | None = None) -> Iterator[Project]:
        return self._transport.every(calls.projects(), most)

    def set_quota(self, name: str, **quota: int | None) -> Project:
        """`running=` and `queued=`; what is not named stays, None lifts a limit."""
        return self._transport.send(calls.set_quota(name, **quota))

    def limits(self, name: str) -> LimitsAnswer:
        """With what is spent of them in the running period."""
        return self._transport.send(limit_calls.get("projects", name))

    def set_limits(self, name: str, limits: Limits) -> LimitsAnswer:
        """All limits anew: what is left out is no limit."""
        return self._transport.send(limit_calls.put("projects", name, limits))

    def set_request_log(self, name: str, level: RequestLog | str) -> Project:
        """What of its requests at the gateway is kept: off, metadata or full."""
        return self._transport.send(limit_calls.set_request_log(name, level))


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
