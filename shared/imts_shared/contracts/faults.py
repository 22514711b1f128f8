"""What is wrong with what somebody sent, in words for people: the same at every address."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from imts_shared.contracts.problems import FieldProblem

COMPARED: Final = 200
_NO_OBJECT: Final = frozenset({"model_type", "model_attributes_type", "dict_type"})


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Of a name that may be megabytes long."""
    found = difflib.get_close_matches(name[:COMPARED].lower(), {k.lower(): k for k in known}, n=1, cutoff=0.6)
    if not found:
        return None
    return next(k for k in known if k.lower() == found[0])


def fault(field: str, error: Mapping[str, Any], path: Sequence[str], model: object) -> FieldProblem:
    """Of pydantic's error about the field, whose `path` in a body of this model tells its neighbours."""
    if error["type"] == "extra_forbidden":
        known = known_fields(model, path[:-1])
        close = nearest(path[-1], known)
        return FieldProblem(
            field=field,
            code="unknown_field",
            message=f"there is no field {path[-1]!r}",
            hint=f"Did you mean {close!r}?" if close else f"Known fields: {', '.join(known)}." if known else None,
        )
    if error["type"] == "missing":
        return FieldProblem(field=field, code="missing_field", message="the field is missing", hint=None)
    if error["type"] in _NO_OBJECT:
        return FieldProblem(field=field, code=str(error["type"]), message="must be a JSON object", hint=None)
    message = str(error["msg"]).removeprefix("Value error, ")
    return FieldProblem(field=field, code=str(error["type"]), message=message[0].lower() + message[1:], hint=None)


def known_fields(model: object, path: Sequence[str]) -> list[str]:
    """The names that a body of this model takes at the place of the path."""
    for part in path:
        fields = getattr(model, "model_fields", {})
        model = next((f.annotation for n, f in fields.items() if part in (n, f.alias)), None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]
