"""A worker's reports of a deployment's replicas: stored when they say something new."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments import events
from control_plane.deployments.rows import AdapterRow, DeploymentRow, ReplicaRow
from control_plane.deployments.settling import replicas_of
from imts_shared.contracts.deployments import DeploymentState
from imts_shared.contracts.serving import ReplicaReport

_BUSY = ("running", "waiting")


async def take(session: AsyncSession, row: DeploymentRow, reports: Sequence[ReplicaReport], now: datetime) -> bool:
    """Whether anything but numbers has changed. What is not reported any more is gone."""
    before = {(one.revision, one.number): one for one in await replicas_of(session, row.id)}
    changed = False
    for report in reports:
        said = report.model_dump(mode="json", by_alias=True, exclude={"deployment_id"})
        known = before.pop((report.revision, report.number), None)
        if _was_used(said, known.report if known else {}):
            row.last_used_at = row.busy_at = now
        if known is None:
            session.add(
                ReplicaRow(
                    deployment_id=row.id,
                    revision=report.revision,
                    number=report.number,
                    state=str(report.state),
                    report=said,
                    changed_at=now,
                )
            )
            changed = True
        elif known.report != said:
            changed = changed or _essence(known.report) != _essence(said)
            known.state, known.report, known.changed_at = str(report.state), said, now
    for gone in before.values():
        await session.delete(gone)
        changed = True
    await session.flush()
    return changed


def _was_used(said: dict[str, Any], before: dict[str, Any]) -> bool:
    """By Postgres's clock: that the worker's moment of last use has moved says it, not the moment itself."""
    moved = said.get("lastUsedAt") is not None and said.get("lastUsedAt") != before.get("lastUsedAt")
    return moved or any((said.get("metrics") or {}).get(name) for name in _BUSY)


def _essence(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in ("metrics", "lastUsedAt")}


async def take_adapters(
    session: AsyncSession, row: DeploymentRow, reports: Sequence[ReplicaReport], now: datetime
) -> bool:
    """An adapter is loaded when every ready replica that serves has it, and failed when one of them cannot. Which
    version serves must be settled before."""
    adapters = list(
        (await session.execute(select(AdapterRow).where(col(AdapterRow.deployment_id) == row.id))).scalars()
    )
    serving = [
        one
        for one in reports
        if one.state == DeploymentState.ready and not one.draining and one.revision == row.serving_revision
    ]
    changed = False
    for adapter in adapters:
        state, message, seconds = _of_adapter(adapter, serving)
        if (adapter.state, adapter.message) == (state, message):
            continue
        adapter.state, adapter.message, adapter.seconds = state, message, seconds
        data = {"name": adapter.name, "state": state, "message": message, "seconds": seconds}
        told = {name: value for name, value in data.items() if value is not None}
        await events.append(session, row, now, ("adapter", told))
        changed = True
    await session.flush()
    return changed


def _of_adapter(adapter: AdapterRow, serving: Sequence[ReplicaReport]) -> tuple[str, str | None, float | None]:
    said = [
        next((one for one in report.adapters if one.name == adapter.name and _same_model(one.model_id, adapter)), None)
        for report in serving
    ]
    known = [one for one in said if one is not None]
    failed = next((one for one in known if one.state == "failed"), None)
    if failed is not None:
        return "failed", failed.message, failed.seconds
    if known and len(known) == len(said) and all(one.state == "loaded" for one in known):
        return "loaded", None, max((one.seconds or 0 for one in known), default=0)
    return "pending", None, None


def _same_model(told: str | None, adapter: AdapterRow) -> bool:
    """A name may come to mean another version while the old one is still loaded."""
    return told is None or told == str(adapter.model_id)
