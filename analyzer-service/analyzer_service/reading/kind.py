"""Which type of file it is: by its content first, for a name may lie."""

from pathlib import Path

import orjson

from analyzer_service.reading.row import BOM, Unreadable
from imts_shared.contracts.datasets import FileType

_PACKED = {
    b"\x1f\x8b": "compressed with gzip",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
}


def file_type(head: bytes, file_name: str) -> FileType:
    if head.startswith(b"PAR1"):
        return "parquet"
    for magic, what in _PACKED.items():
        if head.startswith(magic):
            raise Unreadable("compressed", f"The file is {what}; upload it unpacked.")
    text = head.removeprefix(BOM).lstrip()
    if not text:
        raise Unreadable("empty_file", "The file is empty.")
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in text[:200]:
        raise Unreadable("not_utf8", "The file is not UTF-8 text; save it as UTF-8.")
    suffix = Path(file_name).suffix.lower()
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl" if _is_lines(text, suffix) else "json"
    if suffix == ".json":
        return "json"
    if suffix in {".jsonl", ".ndjson"}:
        return "jsonl"
    if suffix in {".csv", ".txt", ""} and _is_csv(text):
        return "csv"
    raise Unreadable("unknown_file_type", "The file is neither JSON, JSON Lines, CSV nor Parquet.")


def _is_lines(text: bytes, suffix: str) -> bool:
    """An object spread over lines is JSON; anything else that begins with an object is taken line by line."""
    first, newline, rest = text.partition(b"\n")
    if not newline or not rest.strip():
        return True
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return first.strip() != b"{" and suffix != ".json"
    return True


def _is_csv(text: bytes) -> bool:
    first = text.partition(b"\n")[0]
    return all(byte >= 32 or byte in b"\t\r" for byte in first)
