"""Providers' keys: sealed under the platform's secret key, bound to their provider, and sealed anew when it changes."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.providers.rows import ProviderRow
from control_plane.tokens.sealing import Sealed, Sealer, Unreadable


def seal(provider: UUID, key: str, sealer: Sealer) -> Sealed:
    return sealer.seal(key, "provider", str(provider))


def key_of(row: ProviderRow, sealer: Sealer) -> str | None:
    """None where it needs none; Unreadable where no secret key at hand opens it."""
    if row.sealed is None or row.key_id is None:
        return None
    return sealer.open(Sealed(row.key_id, row.sealed), "provider", str(row.id))


def problem(row: ProviderRow, sealer: Sealer) -> str | None:
    try:
        key_of(row, sealer)
    except Unreadable:
        return (
            f"The key of provider {row.name!r} cannot be read with this platform's secret key, so it is not asked: set"
            " the key again, or name the secret key that it was set under in IMTS_OLD_SECRET_KEYS."
        )
    return None


async def seal_anew(session: AsyncSession, sealer: Sealer) -> tuple[int, list[str]]:
    """Brings what old keys opened under the newest one. Answers how many, and what no key opens."""
    query = select(ProviderRow).where(col(ProviderRow.key_id) != sealer.key_id).with_for_update()
    done, troubles = 0, []
    for row in (await session.execute(query)).scalars().all():
        try:
            key = key_of(row, sealer)
        except Unreadable:
            troubles.append(problem(row, sealer) or "")
            continue
        if key is not None:
            sealed = seal(row.id, key, sealer)
            row.sealed, row.key_id = sealed.content, sealed.key_id
            done += 1
    await session.flush()
    return done, troubles
