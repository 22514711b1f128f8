"""New versions of a deployment: whatever needs an engine of its own."""

from typing import Any

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments.choosing import Chosen
from control_plane.deployments.leases import places
from control_plane.deployments.placing import Need
from control_plane.deployments.rows import DeploymentRow, RevisionRow
from control_plane.jobs.transitions import database_now
from control_plane.problems import Refusal
from imts_shared.contracts.deployments import DeploymentState, Engine

LAST_PORT = 65_535


def runs(row: DeploymentRow) -> bool:
    return row.replicas > 0 and not row.stopped and not row.asleep


def check_ports(port: int | None, replicas: int) -> None:
    if port is not None and port + max(1, replicas) - 1 > LAST_PORT:
        raise Refusal(
            409, "bad_port", f"{replicas} replicas from port {port} on go beyond {LAST_PORT}.", field="port",
            hint="Give a lower port, or leave it out.",
        )  # fmt: skip


def fields_of(chosen: Chosen, engine: Engine) -> dict[str, Any]:
    return {"model": chosen.named, "model_id": chosen.model_id, "base": chosen.base, "engine": str(engine)}


async def first(session: AsyncSession, row: DeploymentRow, **fields: Any) -> None:
    session.add(RevisionRow(deployment_id=row.id, number=1, created_at=row.created_at, **fields))
    await session.flush()


async def add(session: AsyncSession, row: DeploymentRow, **fields: Any) -> RevisionRow:
    """Makes this the newest version. One that was on its way and does not serve is dropped for it; beside a deployment
    that does not run, no old one is kept to come up first."""
    number = row.revision + 1
    if not runs(row):
        row.serving_revision = None
    kept = [number] if row.serving_revision is None else [number, row.serving_revision]
    made = RevisionRow(deployment_id=row.id, number=number, created_at=await database_now(session), **fields)
    session.add(made)
    row.revision = number
    await session.flush()
    await session.execute(
        delete(RevisionRow).where(col(RevisionRow.deployment_id) == row.id, col(RevisionRow.number).not_in(kept))
    )
    return made


async def add_same(session: AsyncSession, row: DeploymentRow, like: RevisionRow, *, beside: bool = False) -> None:
    """The same once more, for a new start of what failed: a worker tries a version that it gave up no more. `beside`:
    some of its replicas answer, and do so until the new ones are ready."""
    names = ("model", "model_id", "base", "engine", "engine_args", "gpu", "port")
    fields = {name: getattr(like, name) for name in names}
    if beside:
        await check_beside(session, row, like, row.replicas, fields)
    else:
        row.serving_revision = None
    await add(session, row, **fields)


async def check_beside(
    session: AsyncSession, row: DeploymentRow, old: RevisionRow, replicas: int, fields: dict[str, Any]
) -> None:
    """The new version starts while the old one goes on: what they cannot share must be there twice."""
    if not runs(row) or row.serving_revision is None or row.state == str(DeploymentState.failed):
        return
    gpu, port = fields["gpu"], fields["port"]
    out = "Stop the deployment first, change it, and start it again."
    if port is not None and old.port is not None and abs(port - old.port) < replicas:
        raise Refusal(
            409, "port_taken", f"The version that serves holds port {old.port} until the new one takes over.",
            field="port", hint=f"Give another port, or null for any free one. Or: {out}",
        )  # fmt: skip
    place = (await places(session)).get(row.worker_id or "")
    if place is None or not place.counted:
        return
    need = Need(Engine(old.engine), replicas, gpu)
    asked = need.gpus_at(place.gpus) * replicas
    free = max(0, place.free_gpus)
    if asked > free:
        raise Refusal(
            409, "no_room", f"The new version needs {asked} GPUs beside the old one; {free} are free.",
            field="gpu", hint=out,
        )  # fmt: skip
