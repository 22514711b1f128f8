"""Names at the gateway are models' or routes': what answers for a name must not depend on who looks first."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.deployments.rows import NameRow
from control_plane.providers.rows import ProviderRow
from control_plane.routing.rows import RouteRow
from imts_shared.contracts.routes import AUTO

_NAMES = 0x494D_5401


async def hold(session: AsyncSession) -> None:
    """Until the commit nobody else gives a name to a route, a provider or its models, or a deployment."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _NAMES})


async def hold_for_deployment(session: AsyncSession) -> None:
    """Deployments are told from each other by their own table; they only wait for routes and providers."""
    await session.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": _NAMES})


async def routes_among(session: AsyncSession, project: str | None, names: Collection[str]) -> set[str]:
    """Those names that are routes in the project, or in any where none is named."""
    query = select(col(RouteRow.name)).where(col(RouteRow.name).in_(list(names)))
    if project is not None:
        query = query.where(col(RouteRow.project) == project)
    found = set((await session.execute(query)).scalars())
    return found | ({AUTO} & set(names))


async def only_routes(session: AsyncSession, project: str, names: Collection[str]) -> set[str]:
    """Those names that are routes of the project and no model's: nothing answers for them within a route."""
    found = await routes_among(session, project, names)
    return {name for name in found if name == AUTO or await model_holder(session, project, name) is None}


async def route_listing(session: AsyncSession, project: str, name: str) -> str | None:
    """A route of the project that names this among its models, or as its judge."""
    settings: Any = col(RouteRow.settings)
    listed = or_(settings.contains({"models": [name]}), settings.contains({"judge": {"model": name}}))
    query = select(col(RouteRow.name)).where(col(RouteRow.project) == project, col(RouteRow.name) != name, listed)
    return (await session.execute(query.order_by(col(RouteRow.name)).limit(1))).scalar_one_or_none()


async def model_holder(session: AsyncSession, project: str, name: str) -> str | None:
    """Which model of the project has the name, in words."""
    held = await session.get(NameRow, (project, name))
    if held is not None:
        return "an adapter" if held.adapter else "a deployment"
    has_it: Any = col(ProviderRow.models).contains([{"name": name}])
    query = select(col(ProviderRow.name)).where(
        or_(col(ProviderRow.project) == project, col(ProviderRow.project).is_(None)), has_it
    )
    provider = (await session.execute(query.limit(1))).scalar_one_or_none()
    return None if provider is None else f"a model of provider {provider!r}"
