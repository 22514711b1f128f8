"""The single-turn prompts of the Berkeley Function Calling Leaderboard, and its own checker, out of its wheel.

The wheel (bfcl-eval, Apache-2.0) is read as it is: nothing is installed or unpacked. Its checker asks one thing of its
list of models, whether a function's name may hold a dot; that list would import the clients of all providers, so it is
stood in for."""

import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

CALLED = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
)
DECLINED = ("irrelevance", "live_irrelevance")
RELEVANT = ("live_relevance",)
CATEGORIES = (*CALLED, *DECLINED, *RELEVANT)
Call = dict[str, dict[str, Any]]
"""A function's name, and its arguments."""
_DATA = "bfcl_eval/data/BFCL_v4_{}.json"
_ANSWERS = "bfcl_eval/data/possible_answer/BFCL_v4_{}.json"
_ANY_MODEL = "any"


@dataclass(frozen=True)
class Entry:
    id: str
    category: str
    messages: list[dict[str, Any]]
    functions: list[dict[str, Any]]
    answers: list[dict[str, Any]]

    def body(self) -> dict[str, Any]:
        """As an OpenAI client sends it."""
        return {"messages": self.messages, "tools": [_tool(function) for function in self.functions]}


def entries(wheel: Path) -> Iterator[Entry]:
    """Those of one turn of the user's, with or without a system message before it."""
    with zipfile.ZipFile(wheel) as files:
        for category in CATEGORIES:
            answers = {row["id"]: row["ground_truth"] for row in _rows(files, _ANSWERS.format(category))}
            for row in _rows(files, _DATA.format(category)):
                (messages,) = row["question"]
                if [each["role"] for each in messages if each["role"] != "system"] == ["user"]:
                    yield Entry(row["id"], category, messages, row["function"], answers.get(row["id"], []))


def right(wheel: Path, entry: Entry, calls: list[Call]) -> bool:
    if entry.category in DECLINED:
        return not calls
    if entry.category in RELEVANT:
        return bool(calls)
    check, python = _checker(wheel)
    found = check(entry.functions, calls, entry.answers, python, entry.category, _ANY_MODEL)
    return bool(found["valid"])


def _rows(files: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    if name not in files.namelist():
        return []
    return [json.loads(line) for line in files.read(name).decode().splitlines() if line.strip()]


@cache
def _checker(wheel: Path) -> tuple[Any, Any]:
    models = ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = {_ANY_MODEL: SimpleNamespace(underscore_to_dot=False)}  # type: ignore[attr-defined]
    sys.modules[models.__name__] = models
    sys.path.insert(0, str(wheel))
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    return ast_checker, Language.PYTHON


_TYPES = {"dict": "object", "tuple": "array", "list": "array", "float": "number", "any": "string", "bool": "boolean"}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    known = {"name": function["name"], "description": function.get("description", "")}
    return {"type": "function", "function": {**known, "parameters": _schema(function["parameters"])}}


def _schema(field: dict[str, Any]) -> dict[str, Any]:
    """Types by their names in JSON schema; all else as it is."""
    kind = str(field.get("type", "string")).lower()
    schema = {**field, "type": _TYPES.get(kind, kind)}
    if isinstance(field.get("properties"), dict):
        schema["properties"] = {
            name: _schema(inner) if isinstance(inner, dict) else inner for name, inner in field["properties"].items()
        }
    if isinstance(field.get("items"), dict):
        schema["items"] = _schema(field["items"])
    return schema
