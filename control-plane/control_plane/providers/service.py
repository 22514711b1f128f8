"""Providers made, found, changed and deleted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import ColumnElement, delete, func, or_, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.database import new_id, parse_id
from control_plane.problems import Refusal, not_found
from control_plane.providers import keys
from control_plane.providers.addressing import admin_only, check_allowing, origin
from control_plane.providers.offers import check_hides_no_route, check_offers
from control_plane.providers.rows import ProviderRow
from control_plane.routing import naming
from control_plane.tokens.sealing import Sealer
from imts_shared.contracts.providers import (
    Provider,
    ProviderChange,
    ProviderKind,
    ProviderModel,
    ProviderRequest,
    UpstreamLimits,
)

MOST_PROVIDERS = 200
"""Of a project, or of all projects: each stands in every gateway's memory."""


def provider_answer(row: ProviderRow, sealer: Sealer) -> Provider:
    return Provider(
        id=str(row.id),
        name=row.name,
        kind=ProviderKind(row.kind),
        base_url=row.base_url,
        has_api_key=row.sealed is not None,
        models=models_of(row),
        limits=UpstreamLimits.model_validate(row.limits),
        project=row.project,
        allow_internal=row.allow_internal,
        enabled=row.enabled,
        problem=keys.problem(row, sealer),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def models_of(row: ProviderRow) -> list[ProviderModel]:
    return [ProviderModel.model_validate(model) for model in row.models]


def project_for(request: ProviderRequest, caller: Caller) -> str | None:
    return request.project if caller.project is None else caller.writes_in(request.project)


async def create(
    session: AsyncSession, request: ProviderRequest, project: str | None, caller: Caller, sealer: Sealer
) -> Provider:
    await naming.hold(session)
    await _check_name(session, request.name, project)
    await check_hides_no_route(session, project, request.models)
    now = await _now(session)
    row = ProviderRow(
        id=new_id(),
        project=project,
        name=request.name,
        kind=str(request.kind),
        base_url=request.base_url,
        models=_stored(request.models),
        limits=request.limits.model_dump(mode="json"),
        allow_internal=request.allow_internal,
        enabled=request.enabled,
        created_by=caller.key_id,
        created_at=now,
        updated_at=now,
    )
    _set_key(row, request.api_key, sealer)
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        raise not_found("project", str(project)) from None
    return provider_answer(row, sealer)


async def _check_name(session: AsyncSession, name: str, project: str | None) -> None:
    """One of all projects and one of a project must not share a name: who names it must know which one answers."""
    same = select(col(ProviderRow.project)).where(col(ProviderRow.name) == name)
    if project is not None:
        same = same.where(_seen_in(project))
    held = (await session.execute(same.limit(1))).first()
    if held is not None:
        whose = "all projects" if held[0] is None else f"project {held[0]!r}"
        raise Refusal(
            409, "provider_exists", f"There is a provider {name!r} of {whose} already.", field="name",
            hint="Give another name, or change the one that there is: PATCH /api/providers/{name}.",
        )  # fmt: skip
    beside = select(func.count()).where(col(ProviderRow.project).is_not_distinct_from(project))
    if (await session.execute(beside)).scalar_one() >= MOST_PROVIDERS:
        raise Refusal(
            409, "too_many_providers", f"There are {MOST_PROVIDERS} providers already.", field="name",
            hint="Delete those that nobody needs any more.",
        )  # fmt: skip


def _seen_in(project: str) -> ColumnElement[bool]:
    return or_(col(ProviderRow.project) == project, col(ProviderRow.project).is_(None))


async def find(session: AsyncSession, project: str | None, before: UUID | None, limit: int) -> Sequence[ProviderRow]:
    """A project's and all projects'; every one where no project is named."""
    query = select(ProviderRow).order_by(col(ProviderRow.id).desc()).limit(limit)
    if project is not None:
        query = query.where(_seen_in(project))
    if before is not None:
        query = query.where(col(ProviderRow.id) < before)
    return (await session.execute(query)).scalars().all()


async def get(session: AsyncSession, named: str, project: str | None, *, lock: bool = False) -> ProviderRow:
    """By its id or its name."""
    identity = parse_id(named)
    same: Any = col(ProviderRow.name) == named
    query = select(ProviderRow).where(same if identity is None else or_(same, col(ProviderRow.id) == identity))
    if project is not None:
        query = query.where(_seen_in(project))
    if lock:
        query = query.with_for_update()
    rows = (await session.execute(query)).scalars().all()
    if not rows:
        raise not_found("provider", named)
    by_id = next((row for row in rows if row.id == identity), None)
    if by_id is not None:
        return by_id
    if len(rows) > 1:
        raise Refusal(
            409, "ambiguous_name", f"Several projects have a provider {named!r}.", field="provider",
            hint="Give its id, or add ?project=.",
        )  # fmt: skip
    return rows[0]


async def get_to_change(session: AsyncSession, named: str, project: str | None, caller: Caller) -> ProviderRow:
    row = await get(session, named, project, lock=True)
    if row.project is None and caller.project is not None:
        raise admin_only(f"Provider {row.name!r} is all projects': only an admin's key may change it.", "provider")
    return row


def check_change(row: ProviderRow, change: ProviderChange, caller: Caller) -> None:
    check_allowing(change.allow_internal, caller)
    check_offers(change.models or ())
    if change.base_url is None or change.base_url == row.base_url:
        return
    if row.allow_internal and caller.project is not None:
        raise admin_only(
            f"An admin has allowed provider {row.name!r} internal addresses: only an admin's key may move it.",
            "baseUrl",
        )
    moved = origin(change.base_url) != origin(row.base_url)
    if moved and row.sealed is not None and "api_key" not in change.model_fields_set:
        raise Refusal(
            409,
            "key_needed",
            "The key that there is was given for another address.",
            field="apiKey",
            hint="Send the key for the new address too, or null where it needs none.",
        )


async def change(
    session: AsyncSession, row: ProviderRow, change: ProviderChange, caller: Caller, sealer: Sealer
) -> Provider:
    check_change(row, change, caller)
    if change.models is not None:
        await check_hides_no_route(session, row.project, change.models)
        row.models = _stored(change.models)
    if "api_key" in change.model_fields_set:
        _set_key(row, change.api_key, sealer)
    if change.limits is not None:
        row.limits = change.limits.model_dump(mode="json")
    for name in ("base_url", "allow_internal", "enabled"):
        if getattr(change, name) is not None:
            setattr(row, name, getattr(change, name))
    row.updated_at = await _now(session)
    await session.flush()
    return provider_answer(row, sealer)


async def remove(session: AsyncSession, row: ProviderRow) -> None:
    await session.execute(delete(ProviderRow).where(col(ProviderRow.id) == row.id))


def _stored(models: Sequence[ProviderModel]) -> list[dict[str, Any]]:
    return [model.model_dump(mode="json", by_alias=True) for model in models]


def _set_key(row: ProviderRow, given: SecretStr | None, sealer: Sealer) -> None:
    if given is None:
        row.sealed = row.key_id = None
        return
    sealed = keys.seal(row.id, given.get_secret_value(), sealer)
    row.sealed, row.key_id = sealed.content, sealed.key_id


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return now
