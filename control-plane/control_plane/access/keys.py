"""API keys: made, found again by their hash, revoked. The key itself is shown once and kept nowhere."""

import hashlib
import secrets
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.access.rows import KeyRow, ProjectRow, limits_of
from control_plane.database import Database, new_id, parse_id
from control_plane.hints import KEYS
from control_plane.problems import Refusal, not_found
from control_plane.settings import settings
from imts_shared.contracts.access import Key, KeyRequest, NewKey, Role

PREFIX = "imts_"


def key_hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def key_answer(row: KeyRow) -> Key:
    return Key(
        id=str(row.id),
        name=row.name,
        role=Role(row.role),
        project=row.project,
        hint=row.hint,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        limits=limits_of(row),
    )


async def create(session: AsyncSession, request: KeyRequest) -> NewKey:
    project = None if request.role == Role.admin else request.project
    if project is not None and await session.get(ProjectRow, project) is None:
        raise Refusal(
            404,
            "unknown_project",
            f"There is no project {project!r}.",
            field="project",
            hint="Create it first.",
        )
    now: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    if request.expires_at is not None and request.expires_at <= now:
        raise Refusal(409, "already_expired", "expiresAt lies in the past.", field="expiresAt")
    key = PREFIX + secrets.token_urlsafe(32)
    row = KeyRow(
        id=new_id(),
        name=request.name,
        role=str(request.role),
        project=project,
        key_hash=key_hash(key),
        hint=key[: len(PREFIX) + 4],
        created_at=now,
        expires_at=request.expires_at,
        limits=None if request.limits is None else request.limits.model_dump(mode="json"),
    )
    session.add(row)
    await session.flush()
    return NewKey(**key_answer(row).model_dump(), key=key)


async def find(session: AsyncSession, before: UUID | None, limit: int) -> Sequence[KeyRow]:
    query = select(KeyRow).order_by(col(KeyRow.id).desc()).limit(limit)
    if before is not None:
        query = query.where(col(KeyRow.id) < before)
    return (await session.execute(query)).scalars().all()


async def revoke(session: AsyncSession, key_id: str, caller: Caller) -> Key:
    identity = parse_id(key_id)
    row = await session.get(KeyRow, identity, with_for_update=True) if identity else None
    if row is None:
        raise not_found("key", key_id)
    if row.id == caller.key_id:
        raise Refusal(
            409,
            "own_key",
            "A key cannot revoke itself.",
            hint="Create another admin key and revoke with that one.",
        )
    if row.revoked_at is None:
        row.revoked_at = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return key_answer(row)


class KeyRing:
    """Which keys are good, asked of the database at most once a second a key.

    A revoked key dies at once in the process that revoked it, and with the hint or after a second in the others.
    """

    TRUSTED_SECONDS = 1.0

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, tuple[float, Caller | None]] = {}
        self._used_at: dict[UUID, float] = {}
        self._failed: dict[str, deque[float]] = {}

    def hear(self, hint: str) -> None:
        if hint == KEYS:
            self._known.clear()

    async def caller(self, key: str, address: str) -> Caller:
        digest = key_hash(key)
        now = time.monotonic()
        known = self._known.get(digest)
        if known is None or now - known[0] > self.TRUSTED_SECONDS:
            caller = await self._look_up(digest, now) if key.startswith(PREFIX) else None
            if caller is not None:
                self._known[digest] = (now, caller)
            else:
                self._known.pop(digest, None)
        else:
            caller = known[1]
        if caller is None:
            self._count_failure(address, now)
            raise Refusal(
                401,
                "invalid_key",
                "This API key is unknown, revoked or expired.",
                hint="Check it, or ask an admin for a new one (imts keys create).",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return caller

    def _count_failure(self, address: str, now: float) -> None:
        if len(self._failed) > 10_000:
            self._failed.clear()
        tried = self._failed.setdefault(address, deque())
        while tried and now - tried[0] > 60:
            tried.popleft()
        if len(tried) >= settings().failed_keys_per_minute:
            raise Refusal(
                429,
                "too_many_failed_keys",
                "Too many wrong API keys came from this address.",
                hint="Wait a minute, then send a valid key.",
                headers={"Retry-After": str(max(1, int(61 - (now - tried[0]))))},
            )
        tried.append(now)

    async def _look_up(self, digest: bytes, now: float) -> Caller | None:
        async with self._database.transaction() as session:
            row = (
                await session.execute(
                    select(col(KeyRow.id), col(KeyRow.role), col(KeyRow.project)).where(
                        col(KeyRow.key_hash) == digest,
                        col(KeyRow.revoked_at).is_(None),
                        text("(expires_at IS NULL OR expires_at > clock_timestamp())"),
                    )
                )
            ).one_or_none()
            if row is None:
                return None
            if now - self._used_at.get(row[0], -1e9) > 60:
                self._used_at[row[0]] = now
                await session.execute(
                    update(KeyRow).where(col(KeyRow.id) == row[0]).values(last_used_at=text("clock_timestamp()"))
                )
        return Caller(key_id=row[0], role=Role(row[1]), project=row[2])
