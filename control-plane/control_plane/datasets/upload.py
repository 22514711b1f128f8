"""Taking a multipart upload straight into storage: never held in memory, never written twice."""

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from control_plane.problems import Refusal
from imts_shared.contracts.datasets import DatasetFormat
from imts_shared.contracts.faults import nearest
from imts_shared.storage import Storage

FIELDS = ("name", "format", "project")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FIELD_BYTES = 4_096
_HEADER_BYTES = 16_384
_WAITING_CHUNKS = 4


@dataclass
class Upload:
    key: str
    file_name: str
    sha256: str
    bytes: int
    fields: dict[str, str]


@dataclass
class _Part:
    name: str = ""
    file_name: str | None = None
    text: bytearray = field(default_factory=bytearray)


class _Form:
    """What the parser's callbacks saw since the last look: file bytes to store, fields to keep."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self.file_seen = False
        self.fresh: list[bytes] = []
        self.ended = False
        self._part = _Part()
        self._header_name = b""
        self._header_value = b""

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header_field(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_text(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": lambda data, start, end: self._data(data[start:end]),
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._part = _Part()

    def _header_field(self, data: bytes) -> None:
        self._header_name += data
        self._check_header()

    def _header_text(self, data: bytes) -> None:
        self._header_value += data
        self._check_header()

    def _check_header(self) -> None:
        if len(self._header_name) + len(self._header_value) > _HEADER_BYTES:
            raise Refusal(400, "invalid_form", "A header in the form is too long.", field="body")

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
            if b"filename" in options:
                self._part.file_name = re.split(r"[\\/]", options[b"filename"].decode("utf-8", "replace"))[-1]
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        name = self._part.name
        if name == "file":
            if self.file_seen:
                raise Refusal(422, "two_files", "The form holds two files.", field="file", hint="Upload one at a time.")
            self.file_seen = True
            self.file_name = self._part.file_name or "upload"
        elif name not in FIELDS:
            close = nearest(name, ["file", *FIELDS])
            raise Refusal(
                422,
                "unknown_field",
                f"The form has no field {name!r}.",
                field=name[:100] or "form",
                hint=f"Did you mean {close!r}?" if close else f"It takes file, {', '.join(FIELDS)}.",
            )

    def _data(self, data: bytes) -> None:
        if self._part.name == "file":
            self.fresh.append(data)
            return
        self._part.text += data
        if len(self._part.text) > _FIELD_BYTES:
            raise Refusal(422, "field_too_long", f"The field {self._part.name!r} is too long.", field=self._part.name)

    def _part_end(self) -> None:
        if self._part.name != "file":
            text = bytes(self._part.text)
            if b"\x00" in text:
                raise Refusal(422, "nul_character", "The field holds a NUL character.", field=self._part.name)
            self.fields[self._part.name] = text.decode("utf-8", "replace").strip()

    def _end(self) -> None:
        self.ended = True


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise Refusal(
            415,
            "not_multipart",
            "A data set is uploaded as multipart/form-data.",
            hint="curl -F file=@data.jsonl -F name=...",
        )
    return options[b"boundary"]


async def receive(body: AsyncIterator[bytes], content_type: str, storage: Storage, most: int) -> Upload:
    """Stores the file under a random key while it comes; whatever goes wrong, nothing of it stays."""
    form = _Form()
    parser = MultipartParser(_boundary(content_type), form.callbacks())  # type: ignore[arg-type]
    key = f"uploads/{secrets.token_hex(16)}"
    digest = hashlib.sha256()
    size = 0
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING_CHUNKS)
    writer = asyncio.create_task(storage.put_stream(key, _from(queue)))
    try:
        async for chunk in body:
            try:
                parser.write(chunk)
            except MultipartParseError as error:
                raise Refusal(400, "invalid_form", f"The form cannot be read: {error}.", field="body") from None
            fresh, form.fresh = b"".join(form.fresh), []
            if not fresh:
                continue
            size += len(fresh)
            if size > most:
                raise Refusal(413, "file_too_large", f"The file is larger than {most} bytes.", field="file")
            digest.update(fresh)
            await _give(queue, fresh, writer)
        if not form.ended:
            raise Refusal(400, "invalid_form", "The form ends in the middle.", field="body", hint="Upload it again.")
        if not form.file_seen:
            raise Refusal(422, "missing_field", "file: the field is missing.", field="file")
        await _give(queue, None, writer)
        await writer
    except BaseException:
        if not writer.done():
            writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await asyncio.shield(asyncio.to_thread(storage.delete, key))
        raise
    return Upload(key, form.file_name or "upload", digest.hexdigest(), size, form.fields)


async def _give(queue: "asyncio.Queue[bytes | None]", chunk: bytes | None, writer: "asyncio.Task[int]") -> None:
    """Waits for room, unless the writer has ended: then its error is the answer (a full disk, say)."""
    put = asyncio.create_task(queue.put(chunk))
    done, _ = await asyncio.wait({put, writer}, return_when=asyncio.FIRST_COMPLETED)
    if writer in done and put not in done:
        put.cancel()
        await writer


async def _from(queue: "asyncio.Queue[bytes | None]") -> AsyncIterator[bytes]:
    while True:
        chunk = await queue.get()
        if chunk is None:
            return
        yield chunk


def checked_name(fields: dict[str, str], file_name: str) -> str:
    """The data set's name: as given, else the file's own."""
    name = fields.get("name") or re.sub(r"\.(jsonl?|csv|parquet)$", "", file_name, flags=re.IGNORECASE)
    if not NAME.fullmatch(name):
        raise Refusal(
            422,
            "bad_name",
            f"{name[:100]!r} is not a name for a data set.",
            field="name",
            hint="Letters, digits, dots, dashes and underscores, at most 100, beginning with a letter or digit.",
        )
    return name


def checked_project(asked: str | None) -> str | None:
    if asked is not None and not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", asked):
        raise Refusal(
            422, "bad_project", f"{asked[:100]!r} is not the name of a project.", field="project", hint="Leave it out."
        )
    return asked


def checked_format(asked: str | None) -> DatasetFormat | None:
    if not asked:
        return None
    known = [str(name) for name in DatasetFormat if name != DatasetFormat.unknown]
    if asked not in known:
        close = nearest(asked, known)
        raise Refusal(
            422,
            "unknown_format",
            f"There is no data set format {asked[:50]!r}.",
            field="format",
            hint=f"Did you mean {close!r}?" if close else f"Known formats: {', '.join(known)}.",
        )
    return DatasetFormat(asked)
