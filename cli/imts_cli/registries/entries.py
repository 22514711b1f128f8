"""The entries of a registry: which file each names, and how that file's columns and roles are called.

Columns mean what they mean to LLaMA-Factory: where an entry names any, those that it does not name are not read. A tag
that is not named has the default that LLaMA-Factory documents.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_NAME = "dataset_info.json"

_ELSEWHERE = {
    "hf_hub_url": "It lies on the Hugging Face hub",
    "ms_hub_url": "It lies on ModelScope",
    "om_hub_url": "It lies on openMind",
    "script_url": "It is made by a script, which is never run",
    "cloud_file_name": "It lies in a cloud storage",
}
_MEDIA = {"images": "pictures", "videos": "videos", "audios": "sound"}
_DEFAULT_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output"}
_TAGS = {
    "sharegpt": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    },
    "openai": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "tool",
        "function_tag": "function_call",
        "system_tag": "system",
    },
}
_SPEAKERS = {
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


class RegistryFault(Exception):
    """The registry itself cannot be read; the message is a sentence."""


class EntryFault(Exception):
    """One of its entries cannot be imported; the message is a sentence."""


class Elsewhere(EntryFault):
    """It names no local file: nothing is wrong with it."""


@dataclass(frozen=True)
class Entry:
    name: str
    source: Path
    """A file, or a folder of files."""
    formatting: str
    form: str
    """The platform's name of the format that the rows are rewritten into."""
    columns: Mapping[str, str]
    role: str
    content: str
    speakers: Mapping[str, str]
    """What the file calls a speaker: what ShareGPT calls him."""


def registry_file(given: Path) -> Path:
    return given / FILE_NAME if given.is_dir() else given


def read(file: Path) -> dict[str, Any]:
    """The entries by name, as they are written."""
    try:
        found = json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise RegistryFault(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RegistryFault(f"{file} is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise RegistryFault(f"{file} is not JSON: {error.msg} in line {error.lineno}.") from None
    except RecursionError:
        raise RegistryFault(f"{file} is nested too deeply to be read.") from None
    if not isinstance(found, dict):
        raise RegistryFault(f"{file} is no registry: it must be an object with a data set under each name.")
    return found


def entry(name: str, written: Any, folder: Path) -> Entry:
    if not isinstance(written, dict):
        raise EntryFault("The entry is not an object.")
    for field, reason in _ELSEWHERE.items():
        if field in written:
            raise Elsewhere(f"{reason} ({field}: {str(written[field])[:100]}); only local files are imported.")
    named = written.get("file_name")
    if not isinstance(named, str) or not named:
        raise EntryFault("The entry has no file_name.")
    source = folder / named
    if not source.exists():
        raise EntryFault(f"{source} is not there.")
    formatting = written.get("formatting", "alpaca")
    if formatting not in ("alpaca", *_TAGS):
        raise EntryFault(f"There is no formatting {str(formatting)[:50]!r}; it is alpaca, sharegpt or openai.")
    ranking = written.get("ranking", False)
    if not isinstance(ranking, bool):
        raise EntryFault("`ranking` must be true or false.")
    columns = _columns(written, ranking)
    if formatting != "alpaca":
        columns.setdefault("messages", "conversations")
    tags = {**_TAGS.get(formatting, {}), **_texts(written, "tags")}
    return Entry(
        name=name,
        source=source,
        formatting=formatting,
        form=_form(formatting, columns, ranking),
        columns=columns,
        role=tags.get("role_tag", ""),
        content=tags.get("content_tag", ""),
        speakers={tags[tag]: said for tag, said in _SPEAKERS.items() if tag in tags},
    )


def _columns(written: Mapping[str, Any], ranking: bool) -> dict[str, str]:
    columns = _texts(written, "columns") if "columns" in written else dict(_DEFAULT_COLUMNS)
    for name, what in _MEDIA.items():
        if name in columns:
            raise EntryFault(f"Its rows hold {what} (column {columns[name]!r}); only text is trained on.")
    if ranking:
        columns.setdefault("chosen", "chosen")
        columns.setdefault("rejected", "rejected")
    return columns


def _texts(written: Mapping[str, Any], field: str) -> dict[str, str]:
    found = written.get(field, {})
    if not isinstance(found, dict):
        raise EntryFault(f"`{field}` must be an object.")
    for name, value in found.items():
        if not isinstance(value, str | None):
            raise EntryFault(f"`{field}.{name}` must be text.")
    return {name: value for name, value in found.items() if value}


def _form(formatting: str, columns: Mapping[str, str], ranking: bool) -> str:
    if "kto_tag" in columns:
        return "kto"
    if ranking:
        return "preference"
    if formatting != "alpaca":
        return "sharegpt"
    if "response" in columns:
        return "alpaca"
    if "prompt" not in columns and "query" not in columns:
        raise EntryFault("Its `columns` name neither `prompt` nor `response`.")
    return "text"
