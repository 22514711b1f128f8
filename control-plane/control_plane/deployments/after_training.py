"""A training job's `deploy`: what it made is deployed in the transaction that registers it.

Whatever stands in the way is said at the job and undone by itself; the job has succeeded all the same.
"""

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.deployments import adapters, changing, finding, making
from control_plane.jobs import events
from control_plane.jobs.rows import JobRow
from control_plane.jobs.transitions import Changes, database_now
from control_plane.problems import Refusal
from imts_shared.contracts.deployments import AdapterRequest, DeploymentChange, DeploymentRequest
from imts_shared.contracts.jobs import EventType, JobState
from imts_shared.contracts.models import ModelKind


async def deploy_made(session: AsyncSession, job: JobRow, made: list[dict[str, Any]], changes: Changes) -> None:
    asked = job.spec.get("deploy")
    if not asked or job.state != JobState.succeeded or not made:
        return
    wish = asked if isinstance(asked, dict) else {}
    done = Changes()
    try:
        async with session.begin_nested():
            said = await _deploy(session, job, made[0], wish, done)
    except Refusal as refusal:
        cure = f" {refusal.hint}" if refusal.hint else ""
        said = f"The model was not deployed: {refusal.detail}{cure}"
    except IntegrityError:
        said = "The model was not deployed: something that it needs was deleted just now."
    else:
        changes.hints |= done.hints
    now = await database_now(session)
    await events.append(session, job, [(EventType.message, now, {"text": said})])


async def _deploy(
    session: AsyncSession, job: JobRow, model: dict[str, Any], wish: dict[str, Any], done: Changes
) -> str:
    """A newer version of what is served under the name takes its place."""
    name, place = wish.get("name"), wish.get("deployment")
    if place is None and name is None:
        name = model["name"]
    adapter = AdapterRequest(model=model["id"], name=name)
    if place is not None:
        row = await finding.get_to_change(session, job.project, place)
        if model["kind"] == ModelKind.adapter:
            await adapters.add(session, row, adapter, done, replace=True)
        else:
            await changing.change(session, row, DeploymentChange(model=model["id"]), done)
        return f"Deployment {row.name!r} serves what was trained as soon as it is loaded."
    request = DeploymentRequest(model=model["id"], name=name)
    if model["kind"] != ModelKind.adapter and name is not None and await _is_there(session, job.project, name):
        row = await finding.get_to_change(session, job.project, name)
        await changing.change(session, row, DeploymentChange(model=model["id"]), done)
        return f"Deployment {row.name!r} changes to what was trained as soon as that is ready."
    planned = await making.plan(session, request, job.project)
    joined = await making.join(session, planned, done, replace=True)
    if joined is not None:
        return f"Deployment {joined.name!r} serves what was trained under the name {name!r}."
    row = await making.make(session, planned, None, done, [])
    return f"Deployment {row.name!r} was made: what was trained answers there under the name {name!r}."


async def _is_there(session: AsyncSession, project: str, name: str) -> bool:
    try:
        await finding.get(session, project, name)
    except Refusal:
        return False
    return True
