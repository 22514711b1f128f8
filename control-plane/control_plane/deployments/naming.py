"""The names by which a project's deployments and adapters are called at the gateway: each once."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments.rows import NameRow
from control_plane.problems import Refusal
from control_plane.routing.naming import hold_for_deployment, routes_among

MOST_TRIED = 100


async def take(
    session: AsyncSession, project: str, name: str, deployment_id: UUID, *, adapter: bool, field: str = "name"
) -> None:
    """Two that want one name at once wait for each other here; the second is refused."""
    await hold_for_deployment(session)
    if await routes_among(session, project, [name]):
        raise Refusal(
            409, "name_taken", f"{name!r} is the name of a route of project {project!r}.", field=field,
            hint="Give another name: a request for this one is answered by the model that the route chooses.",
        )  # fmt: skip
    if await _take(session, project, name, deployment_id, adapter=adapter):
        return
    holder = await session.get(NameRow, (project, name))
    whose = "an adapter" if holder is not None and holder.adapter else "a deployment"
    raise Refusal(
        409,
        "name_taken",
        f"{name!r} is the name of {whose} of project {project!r} already.",
        field=field,
        hint="Give another name, or change or delete what has this one.",
    )


async def free(session: AsyncSession, project: str, wish: str, reserved: Collection[str]) -> str:
    """The name, or the next free one like it."""
    for number in range(1, MOST_TRIED):
        name = wish if number == 1 else f"{wish[:120]}-{number}"
        if name in reserved or await routes_among(session, project, [name]):
            continue
        if await session.get(NameRow, (project, name)) is None:
            return name
    raise Refusal(409, "name_taken", f"There are too many deployments named like {wish!r}.", field="name")


async def _take(session: AsyncSession, project: str, name: str, deployment_id: UUID, *, adapter: bool) -> bool:
    values: dict[str, Any] = {"project": project, "name": name, "deployment_id": deployment_id, "adapter": adapter}
    made = await session.execute(insert(NameRow).values(values).on_conflict_do_nothing().returning(col(NameRow.name)))
    return made.first() is not None


async def give_back(session: AsyncSession, project: str, names: Iterable[str]) -> None:
    await session.execute(
        delete(NameRow).where(
            col(NameRow.project) == project, col(NameRow.name).in_(list(names)), col(NameRow.adapter).is_(True)
        )
    )


async def known(session: AsyncSession, project: str | None) -> list[str]:
    """Enough of them to find the one that was meant."""
    query = select(col(NameRow.name)).limit(1_000)
    if project is not None:
        query = query.where(col(NameRow.project) == project)
    return list((await session.execute(query)).scalars())
