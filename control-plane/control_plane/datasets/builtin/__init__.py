"""Data sets that come with the platform: a project has one as soon as it asks for it by name."""

import hashlib
from importlib import resources

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import new_id
from control_plane.datasets.finding import content_key, find_version
from control_plane.datasets.rows import DatasetRow
from imts_shared.contracts.datasets import DatasetFormat
from imts_shared.storage import Storage

BUILTIN = {"alpaca_en_demo": DatasetFormat.alpaca}


def content(name: str) -> bytes:
    return (resources.files(__name__) / f"{name}.jsonl").read_bytes()


async def bring(session: AsyncSession, storage: Storage, project: str, named: str) -> DatasetRow | None:
    """The built-in set of that name, made a data set of the project; None for any other name."""
    name = named.removesuffix("@1")
    if (
        name not in BUILTIN
        or await session.scalar(text("SELECT 1 FROM projects WHERE name = :p"), {"p": project}) is None
    ):
        return None
    data = content(name)
    sha256 = hashlib.sha256(data).hexdigest()
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 2))"), {"name": f"{project}/{name}"}
    )
    before = await find_version(session, project, named)
    if before is not None:
        return before
    key = content_key(sha256)
    if not await storage.aexists(key):
        storage.put_bytes(key, data)
    rows = data.count(b"\n")
    row = DatasetRow(
        id=new_id(),
        project=project,
        name=name,
        version=1,
        state="ready",
        format=str(BUILTIN[name]),
        file_type="jsonl",
        file_name=f"{name}.jsonl",
        rows=rows,
        bad_rows=0,
        bytes=len(data),
        sha256=sha256,
        columns=["instruction", "input", "output"],
        sample=[],
        problems=[],
        created_at=await session.scalar(text("SELECT clock_timestamp()")),
    )
    session.add(row)
    await session.flush()
    return row
