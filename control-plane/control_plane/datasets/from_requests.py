"""A data set out of logged requests: written into storage as an upload would be, and then judged like one."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import orjson

from control_plane.access.caller import Caller
from control_plane.database import Database
from control_plane.datasets.upload import Upload
from control_plane.problems import Refusal
from control_plane.usage import request_log
from control_plane.usage.request_log import Filters
from control_plane.usage.rows import LoggedRequestRow
from imts_shared.contracts.datasets import DatasetFormat
from imts_shared.contracts.usage import RequestsDatasetRequest
from imts_shared.storage import Storage

PAGE = 200


def conversation(row: LoggedRequestRow) -> dict[str, Any] | None:
    """As OpenAI's fine-tuning takes it; None for what is no chat."""
    asked, answer = row.request or {}, row.answer or {}
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        return None
    said = {name: answer[name] for name in ("content", "tool_calls") if answer.get(name)}
    if not said:
        return None
    tools = {"tools": asked["tools"]} if asked.get("tools") else {}
    return {"messages": [*messages, {"role": "assistant", "content": "", **said}], **tools}


class _Collected:
    """Counts and hashes what it passes on."""

    def __init__(self, database: Database, filters: Filters, min_rating: int | None, most: int) -> None:
        self._database = database
        self._filters = filters
        self._min_rating = min_rating
        self._most = most
        self.bytes = 0
        self.digest = hashlib.sha256()

    async def pages(self) -> AsyncIterator[bytes]:
        after = 0
        while True:
            async with self._database.transaction() as session:
                rows = await request_log.conversations(session, self._filters, self._min_rating, after, PAGE)
            found = [conversation(row) for row in rows]
            page = b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in found if one is not None)
            self.bytes += len(page)
            if self.bytes > self._most:
                raise Refusal(
                    413, "file_too_large", f"These requests are more than {self._most} bytes.", field="from",
                    hint="Take a shorter time, or fewer models.",
                )  # fmt: skip
            self.digest.update(page)
            if page:
                yield page
            if len(rows) < PAGE:
                return
            after = rows[-1].number or 0


async def collect(
    database: Database, storage: Storage, request: RequestsDatasetRequest, caller: Caller, most: int
) -> Upload:
    project = caller.writes_in(request.project)
    filters = Filters(project, request.model, request.route, None, request.from_, request.to)
    found = _Collected(database, filters, request.min_rating, most)
    key = f"uploads/{secrets.token_hex(16)}"
    try:
        await storage.put_stream(key, found.pages())
        if not found.bytes:
            raise Refusal(
                409,
                "no_requests",
                f"Project {project!r} has no such request that was kept in full.",
                field="name",
                hint="Let it keep them: PUT /api/projects/{name}/requestLog with level full.",
            )
    except BaseException:
        await asyncio.shield(asyncio.to_thread(storage.delete, key))
        raise
    fields = {"name": request.name, "project": project, "format": str(DatasetFormat.messages)}
    return Upload(key, f"{request.name}.jsonl", found.digest.hexdigest(), found.bytes, fields)
