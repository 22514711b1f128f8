"""What lies in storage, as the rows that name it say."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from imts_shared.contracts.storage import JobUse, StorageUse, Use

_KINDS = {
    "datasets": """
        SELECT count(*), coalesce((SELECT sum(bytes) FROM (
            SELECT DISTINCT sha256, bytes FROM datasets WHERE CAST(:project AS text) IS NULL OR project = :project
        ) AS content), 0) FROM datasets WHERE CAST(:project AS text) IS NULL OR project = :project
    """,
    "models": """
        SELECT count(*), coalesce(sum(bytes), 0) FROM models WHERE CAST(:project AS text) IS NULL OR project = :project
    """,
    "checkpoints": """
        SELECT count(*), coalesce(sum(c.bytes), 0) FROM job_checkpoints c JOIN jobs j ON j.id = c.job_id
        WHERE CAST(:project AS text) IS NULL OR j.project = :project
    """,
}

_BIGGEST = text("""
    SELECT j.id, j.kind, j.name, j.state, count(*), sum(c.bytes) FROM job_checkpoints c JOIN jobs j ON j.id = c.job_id
    WHERE CAST(:project AS text) IS NULL OR j.project = :project
    GROUP BY j.id ORDER BY sum(c.bytes) DESC, j.id DESC LIMIT 10
""")


async def storage_use(session: AsyncSession, project: str | None) -> StorageUse:
    asked = {"project": project}
    found: dict[str, Any] = {}
    for kind, statement in _KINDS.items():
        count, size = (await session.execute(text(statement), asked)).one()
        found[kind] = Use(count=count, bytes=int(size))
    biggest = [
        JobUse(id=str(identity), kind=kind, name=name, state=state, checkpoints=count, bytes=int(size))
        for identity, kind, name, state, count, size in (await session.execute(_BIGGEST, asked)).all()
    ]
    return StorageUse(**found, biggest_jobs=biggest)
