"""A part of what a gateway tells, read: what of it can be kept, and why the rest cannot."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from control_plane.gateway import pieces
from control_plane.gateway.kept import KeptDecision, KeptFeedback, KeptReport, KeptRequest, KeptUsed
from control_plane.gateway.pieces import KINDS, Kind
from control_plane.problems import Refusal
from control_plane.storable import mended
from imts_shared.contracts.routes import Feedback

_LISTS: dict[Kind, TypeAdapter[Any]] = {
    "used": TypeAdapter(list[KeptUsed]),
    "decisions": TypeAdapter(list[KeptDecision]),
    "feedback": TypeAdapter(list[KeptFeedback]),
    "requests": TypeAdapter(list[KeptRequest]),
}
_FEW = 50
_TOO_DEEP = "item: nested too deep"


@dataclass(repr=False)
class Part:
    """Items on their way into a table are JSON, told anew from what was understood of them."""

    gateway: str
    number: int
    rows: dict[Kind, list[bytes]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    """Of all but feedback; JSON lists without their brackets."""
    feedback: list[Feedback] = field(default_factory=list)
    left_out: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    """How many of which list, and why."""

    def json(self, kind: Kind) -> str:
        return f"[{b','.join(self.rows[kind]).decode()}]"

    def take(self, kind: Kind, content: bytes) -> None:
        """A JSON list of items, if every one of them can be kept."""
        items = _LISTS[kind].validate_json(content)
        if kind == "feedback":
            self.feedback += items
        else:
            self.rows[kind].append(_LISTS[kind].dump_json(items, exclude_none=True)[1:-1])

    def take_each(self, kind: Kind, items: list[Any]) -> None:
        """Those that can be kept."""
        for item in items:
            try:
                self.take(kind, json.dumps([item]).encode())
            except ValidationError as error:
                self.left_out[kind, _reason(error)] += 1
            except (PydanticSerializationError, RecursionError):
                self.left_out[kind, _TOO_DEEP] += 1


async def read(body: bytes) -> Part:
    """Raises Refusal or RequestValidationError for what is no report at all."""
    found = pieces.cut(body)
    if found is not None:
        head, lists = found
        try:
            told = KeptReport.model_validate_json(mended(head))
            return await _read(Part(told.gateway, told.number), lists)
        except (ValueError, RecursionError):
            pass  # it was cut within an item, or is no report: which, shows when it is read whole
    return await _read_whole(body)


async def _read(part: Part, lists: list[tuple[Kind, bytes]]) -> Part:
    for kind, piece in lists:
        content = mended(piece)
        try:
            part.take(kind, content)
        except (ValidationError, PydanticSerializationError):
            part.take_each(kind, _loads(content))
        await asyncio.sleep(0)
    return part


async def _read_whole(body: bytes) -> Part:
    try:
        whole = _loads(mended(body))
    except json.JSONDecodeError as error:
        why = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise Refusal(400, "invalid_json", f"The body is not valid JSON: {why}.", field="body") from None
    except (ValueError, RecursionError):
        why = "it is nested too deep, or holds a number that is too long"
        raise Refusal(400, "invalid_json", f"The body cannot be read: {why}.", field="body") from None
    lists: dict[Kind, list[Any]] = {}
    if isinstance(whole, dict):
        lists = {kind: whole.pop(kind) for kind in KINDS if isinstance(whole.get(kind), list)}
    try:
        told = KeptReport.model_validate(whole)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None
    part = Part(told.gateway, told.number)
    for kind, items in lists.items():
        for place in range(0, len(items), _FEW):
            part.take_each(kind, items[place : place + _FEW])
            await asyncio.sleep(0)
    return part


def _loads(content: bytes) -> Any:
    """What pydantic does not read: bytes that are no UTF-8, and what is nested deeper than 200 times."""
    return json.loads(content.decode(errors="replace"))


def _reason(error: ValidationError) -> str:
    """Which field and which rule, and nothing of what was told."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return _TOO_DEEP
    return f"{'.'.join(map(str, first['loc'][1:])) or 'item'}: {first['type']}"
