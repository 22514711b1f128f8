"""A JSON schema within what Anthropic enforces when it is to enforce one.

It wants every object closed, and knows few keywords. What it does not know is told to the model in the description of
that place: it will mostly be kept, but nobody enforces it.
"""

from typing import Any

import orjson

from inference_service.gateway.anthropic.refusals import not_carried, wrong

DEPTH = 50

_KEPT = frozenset({"type", "enum", "const", "title", "$ref", "default", "required"})
_SEVERAL = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_NAMED = frozenset({"properties", "$defs", "definitions"})
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)  # fmt: skip


def enforceable(schema: object, where: str, depth: int = 0) -> Any:
    if not isinstance(schema, dict):
        return schema
    if depth > DEPTH:
        raise wrong(where, f"must not be nested deeper than {DEPTH} levels")
    fit: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for key, value in schema.items():
        at = f"{where}.{key}"
        if key in _KEPT:
            fit[key] = value
        elif key == "items":
            fit[key] = enforceable(value, at, depth + 1)
        elif key in _SEVERAL and isinstance(value, list):
            fit[_SEVERAL[key]] = [enforceable(one, f"{at}[{n}]", depth + 1) for n, one in enumerate(value)]
        elif key in _NAMED and isinstance(value, dict):
            fit[key] = {name: enforceable(one, f"{at}.{name}", depth + 1) for name, one in value.items()}
        elif (key == "format" and isinstance(value, str) and value in _FORMATS) or (
            key == "minItems" and value in (0, 1)
        ):
            fit[key] = value
        elif key not in {"description", "additionalProperties", "$schema", "$id"}:
            told[key] = value
    if schema.get("type") == "object" or "properties" in schema:
        fit["additionalProperties"] = _closed(schema, where)
    words = [schema["description"]] if isinstance(schema.get("description"), str) else []
    words += [_json(told, where)] if told else []
    return {**fit, "description": "\n".join(words)} if words else fit


def _closed(schema: dict[str, Any], where: str) -> bool:
    """An open object is closed where its properties are named. One that is a map of free keys would come out empty."""
    if isinstance(schema.get("additionalProperties"), dict) or not (
        schema.get("properties") or schema.get("additionalProperties") is False
    ):
        raise not_carried(f"{where}.additionalProperties", "name the properties of every object, and add no others")
    return False


def _json(told: dict[str, Any], where: str) -> str:
    try:
        return orjson.dumps(told).decode()
    except orjson.JSONEncodeError:
        raise wrong(where, f"must not be nested deeper than {DEPTH} levels") from None
