"""Keys, projects, providers and routes as gateways know them, always in one order."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from loguru import logger
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.rows import KeyRow, ProjectRow
from control_plane.providers.keys import key_of
from control_plane.providers.rows import ProviderRow
from control_plane.providers.service import models_of
from control_plane.routing.rows import RouteRow
from control_plane.tokens.sealing import Sealer, Unreadable
from imts_shared.contracts.access import RequestLog, Role
from imts_shared.contracts.limits import Limits
from imts_shared.contracts.providers import ProviderKind, UpstreamLimits
from imts_shared.contracts.routes import RouteSettings
from imts_shared.contracts.serving import KnownKey, KnownProject, KnownProvider, KnownRoute
from imts_shared.sealing import ServiceSeal


class _Change(NamedTuple):
    id: UUID
    updated_at: datetime
    key_id: str | None


async def keys(session: AsyncSession) -> list[KnownKey]:
    good = text("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())")
    query = select(
        col(KeyRow.id),
        col(KeyRow.key_hash),
        col(KeyRow.role),
        col(KeyRow.project),
        col(KeyRow.expires_at),
        col(KeyRow.limits),
    )
    rows = (await session.execute(query.where(good).order_by(col(KeyRow.id)))).all()
    return [
        KnownKey(
            id=str(identity),
            sha256=digest.hex(),
            role=Role(role),
            project=project,
            expires_at=expires_at,
            limits=None if limits is None else Limits.model_validate(limits),
        )
        for identity, digest, role, project, expires_at, limits in rows
    ]


async def projects(session: AsyncSession) -> list[KnownProject]:
    query = select(col(ProjectRow.name), col(ProjectRow.limits), col(ProjectRow.request_log))
    return [
        KnownProject(
            name=name,
            limits=None if limits is None else Limits.model_validate(limits),
            request_log=RequestLog(request_log),
        )
        for name, limits, request_log in (await session.execute(query.order_by(col(ProjectRow.name)))).all()
    ]


class Providers:
    """Reads and opens each provider once for each of its changes: there may be thousands of models."""

    def __init__(self, sealer: Sealer, seal: ServiceSeal) -> None:
        self._sealer = sealer
        self._seal = seal
        self._known: dict[_Change, KnownProvider | None] = {}

    async def read(self, session: AsyncSession) -> list[KnownProvider]:
        """Those that may be asked. One whose key cannot be opened is left out: every request would fail there."""
        query = select(col(ProviderRow.id), col(ProviderRow.updated_at), col(ProviderRow.key_id))
        query = query.where(col(ProviderRow.enabled).is_(True)).order_by(col(ProviderRow.id))
        now = [_Change(*row) for row in (await session.execute(query)).all()]
        unread = [one.id for one in now if one not in self._known]
        rows = await session.execute(select(ProviderRow).where(col(ProviderRow.id).in_(unread))) if unread else ()
        fresh = {row.id: self._open(row) for (row,) in rows}
        self._known = {one: fresh[one.id] if one.id in fresh else self._known.get(one) for one in now}
        return [one for one in self._known.values() if one is not None]

    def _open(self, row: ProviderRow) -> KnownProvider | None:
        try:
            key = key_of(row, self._sealer)
        except Unreadable:
            logger.bind(provider=str(row.id)).warning("a provider's key cannot be read")
            return None
        return KnownProvider(
            id=str(row.id),
            name=row.name,
            kind=ProviderKind(row.kind),
            base_url=row.base_url,
            sealed_key=None if key is None else self._seal.seal(key, str(row.id)),
            models=models_of(row),
            limits=UpstreamLimits.model_validate(row.limits),
            project=row.project,
            allow_internal=row.allow_internal,
        )


async def routes(session: AsyncSession) -> list[KnownRoute]:
    query = select(RouteRow).order_by(col(RouteRow.project), col(RouteRow.name))
    return [
        KnownRoute(**RouteSettings.model_validate(row.settings).model_dump(), name=row.name, project=row.project)
        for row in (await session.execute(query)).scalars()
    ]
