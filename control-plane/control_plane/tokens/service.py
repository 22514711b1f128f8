"""Tokens set, listed, deleted, given to attempts, and sealed anew when the secret key has changed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.access.rows import ProjectRow
from control_plane.problems import Refusal, not_found
from control_plane.tokens.rows import TokenRow
from control_plane.tokens.sealing import Sealed, Sealer, Unreadable
from imts_shared.contracts.jobs import JobKind
from imts_shared.contracts.tokens import Token, secret_name

MOST_TOKENS = 100
KINDS = frozenset({JobKind.training, JobKind.export, JobKind.evaluation})
"""The jobs that are given tokens."""
HUBS = ("huggingface", "modelscope")
HINTED_FROM = 21


def _value(row: TokenRow, sealer: Sealer) -> str:
    return sealer.open(Sealed(row.key_id, row.sealed), row.project, row.name)


def _trouble(row: TokenRow) -> str:
    return (
        f"The token {row.name!r} of project {row.project!r} cannot be read with this platform's secret key:"
        " set it again, or name the key that it was set under in IMTS_OLD_SECRET_KEYS."
    )


def token_answer(row: TokenRow, sealer: Sealer) -> Token:
    hint = problem = None
    try:
        value = _value(row, sealer)
        hint = value[-4:] if len(value) >= HINTED_FROM else None
    except Unreadable:
        problem = _trouble(row)
    return Token(name=row.name, set_at=row.set_at, set_by=str(row.set_by), hint=hint, problem=problem)


async def put(session: AsyncSession, project: str, name: str, value: str, caller: Caller, sealer: Sealer) -> Token:
    await _check_room(session, project, name)
    sealed = sealer.seal(value, project, name)
    values = {
        "sealed": sealed.content,
        "key_id": sealed.key_id,
        "set_at": text("clock_timestamp()"),
        "set_by": caller.key_id,
    }
    row = (
        await session.execute(
            insert(TokenRow)
            .values(project=project, name=name, **values)
            .on_conflict_do_update(index_elements=["project", "name"], set_=values)
            .returning(TokenRow)
        )
    ).scalar_one()
    return token_answer(row, sealer)


async def _check_room(session: AsyncSession, project: str, name: str) -> None:
    if await session.get(ProjectRow, project, with_for_update=True) is None:
        raise not_found("project", project)
    others = select(func.count()).where(col(TokenRow.project) == project, col(TokenRow.name) != name)
    if (await session.execute(others)).scalar_one() >= MOST_TOKENS:
        raise Refusal(
            409,
            "too_many_tokens",
            f"Project {project!r} already has {MOST_TOKENS} tokens.",
            field="name",
            hint="Delete those that no job needs any more.",
        )


async def find(session: AsyncSession, project: str, sealer: Sealer) -> list[Token]:
    if await session.get(ProjectRow, project) is None:
        raise not_found("project", project)
    return [token_answer(row, sealer) for row in await _of(session, project)]


async def remove(session: AsyncSession, project: str, name: str) -> None:
    gone = await session.execute(
        delete(TokenRow)
        .where(col(TokenRow.project) == project, col(TokenRow.name) == name)
        .returning(col(TokenRow.name))
    )
    if gone.one_or_none() is None:
        raise not_found("token", name)


@dataclass
class Opened:
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    troubles: list[str] = field(default_factory=list)
    """A sentence for each token that could not be read."""


async def for_attempt(session: AsyncSession, kind: str, project: str, sealer: Sealer) -> Opened:
    """What the attempt of such a job is given. A token that cannot be read is left out and told of."""
    opened = Opened()
    if kind not in KINDS:
        return opened
    for row in await _of(session, project):
        try:
            opened.secrets[secret_name(row.name)] = _value(row, sealer)
        except Unreadable:
            opened.troubles.append(_trouble(row))
    return opened


async def hub_tokens(session: AsyncSession, project: str, sealer: Sealer) -> Opened:
    """What the engines of a project's deployments are given: only what fetches models."""
    opened = Opened()
    for row in await _of(session, project):
        if row.name not in HUBS:
            continue
        try:
            opened.secrets[row.name] = _value(row, sealer)
        except Unreadable:
            opened.troubles.append(_trouble(row))
    return opened


async def seal_anew(session: AsyncSession, sealer: Sealer) -> tuple[int, list[str]]:
    """Brings what old keys opened under the newest one. Answers how many, and what no key opens."""
    rows = (
        await session.execute(select(TokenRow).where(col(TokenRow.key_id) != sealer.key_id).with_for_update())
    ).scalars()
    done, troubles = 0, []
    for row in rows.all():
        try:
            sealed = sealer.seal(_value(row, sealer), row.project, row.name)
        except Unreadable:
            troubles.append(_trouble(row))
            continue
        await session.execute(
            update(TokenRow)
            .where(col(TokenRow.project) == row.project, col(TokenRow.name) == row.name)
            .values(sealed=sealed.content, key_id=sealed.key_id)
        )
        done += 1
    return done, troubles


async def _of(session: AsyncSession, project: str) -> Sequence[TokenRow]:
    query = select(TokenRow).where(col(TokenRow.project) == project).order_by(col(TokenRow.name))
    return (await session.execute(query)).scalars().all()
