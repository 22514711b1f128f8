"""Keys, projects and webhooks."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from imts_client.calls.call import Call, Listing, path, query
from imts_client.calls.limits import fields_of

if TYPE_CHECKING:
    from imts_shared.contracts.access import Delivery, Identity, Key, NewKey, NewWebhook, Project, Webhook
    from imts_shared.contracts.limits import Limits


def who_am_i() -> "Call[Identity]":
    return Call("GET", path("me"), "access.Identity", repeatable=True)


def create_key(
    name: str,
    role: str | None = None,
    project: str | None = None,
    expires_at: datetime | None = None,
    limits: "Limits | None" = None,
) -> "Call[NewKey]":
    expiry = expires_at.isoformat() if expires_at else None
    held = fields_of(limits) if limits else None
    body = query(name=name, role=role, project=project, expiresAt=expiry, limits=held)
    return Call("POST", path("keys"), "access.NewKey", json=body)


def keys(limit: int | None = None) -> "Listing[Key]":
    return Listing(path("keys"), "access.KeyPage", "access.Key", query(limit=limit))


def revoke_key(key_id: str) -> "Call[Key]":
    return Call("DELETE", path("keys", key_id), "access.Key", repeatable=True)


def create_project(
    name: str, running: int | None = None, queued: int | None = None, limits: "Limits | None" = None
) -> "Call[Project]":
    held = fields_of(limits) if limits else None
    body = query(name=name, maxRunningJobs=running, maxQueuedJobs=queued, limits=held)
    return Call("POST", path("projects"), "access.Project", json=body)


def projects(limit: int | None = None) -> "Listing[Project]":
    return Listing(path("projects"), "access.ProjectPage", "access.Project", query(limit=limit))


def set_quota(name: str, **quota: int | None) -> "Call[Project]":
    """Only what is named changes; None lifts a limit."""
    names = {"running": "maxRunningJobs", "queued": "maxQueuedJobs"}
    body = {names[which]: limit for which, limit in quota.items()}
    return Call("PATCH", path("projects", name), "access.Project", json=body, repeatable=True)


def create_webhook(
    url: str, states: Sequence[str] = (), kinds: Sequence[str] = (), project: str | None = None
) -> "Call[NewWebhook]":
    body = query(url=url, states=list(states), kinds=list(kinds), project=project)
    return Call("POST", path("webhooks"), "access.NewWebhook", json=body)


def webhooks(limit: int | None = None) -> "Listing[Webhook]":
    return Listing(path("webhooks"), "access.WebhookPage", "access.Webhook", query(limit=limit))


def delete_webhook(webhook_id: str) -> "Call[None]":
    return Call("DELETE", path("webhooks", webhook_id), repeatable=True)


def deliveries(webhook_id: str, limit: int | None = None) -> "Listing[Delivery]":
    params = query(limit=limit)
    return Listing(path("webhooks", webhook_id, "deliveries"), "access.DeliveryPage", "access.Delivery", params)


def redeliver(webhook_id: str, delivery_id: str) -> "Call[None]":
    return Call("POST", path("webhooks", webhook_id, "deliveries", delivery_id, "redeliver"))
