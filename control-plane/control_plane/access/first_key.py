"""The first admin key: made once, written to a file that only its owner reads."""

import asyncio
import os
from pathlib import Path

from sqlalchemy import select, text
from sqlmodel import col

from control_plane.access.keys import create, key_hash
from control_plane.access.rows import KeyRow
from control_plane.database import Database
from control_plane.settings import settings
from imts_shared.contracts.access import KeyRequest, Role


def create_admin_key(path: Path) -> int:
    return asyncio.run(_create(path))


async def _create(path: Path) -> int:
    """Keeps the file's key while it is good; a lost or foreign file is replaced, its old key stays until revoked."""
    database = Database(settings().database_url.get_secret_value(), 2)
    try:
        async with database.transaction() as session:
            if path.is_file():
                lines = path.read_text(encoding="utf-8").splitlines()
                query = select(col(KeyRow.id)).where(
                    col(KeyRow.key_hash) == key_hash(lines[0].strip() if lines else ""),
                    col(KeyRow.role) == "admin",
                    col(KeyRow.revoked_at).is_(None),
                    text("(expires_at IS NULL OR expires_at > clock_timestamp())"),
                )
                if (await session.execute(query)).one_or_none() is not None:
                    return 0
            new = await create(session, KeyRequest(name="first admin key", role=Role.admin))
            _write_private(path, new.key + "\n")
    finally:
        await database.close()
    return 0


def _write_private(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
