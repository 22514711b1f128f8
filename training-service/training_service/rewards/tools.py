"""The tools a row offers, each with a check of the arguments it takes."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema
import referencing
import referencing.exceptions
from jsonschema.protocols import Validator

from training_service.rewards.calls import DEEPEST, read_json, without_nulls

MOST_TOOLS = 256
LONGEST_SCHEMA = 262_144

_TYPES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "map": "object",
    "list": "array",
    "tuple": "array",
    "set": "array",
}
_KNOWN = {"string", "integer", "number", "boolean", "object", "array", "null"}
_KEYWORDS = {"type", "properties", "required", "$ref", "$schema", "anyOf", "oneOf", "allOf", "additionalProperties"}
_NOT_SCHEMAS = {"enum", "const", "default", "examples", "required"}
_BROKEN_SCHEMA = (
    jsonschema.SchemaError,
    jsonschema.exceptions.UnknownType,
    jsonschema.exceptions.UndefinedTypeCheck,
    referencing.exceptions.Unresolvable,
    RecursionError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    re.error,
)


def read_tools(value: Any) -> list[dict[str, Any]]:
    """The functions on offer, from OpenAI tools, bare functions or either as JSON text; what is none is left out."""
    listed = read_json(value) if isinstance(value, str) else without_nulls(value)
    listed = [listed] if isinstance(listed, Mapping) else listed
    if not isinstance(listed, list):
        return []
    parsed = [read_json(tool) if isinstance(tool, str) else tool for tool in listed[:MOST_TOOLS]]
    functions = [tool.get("function", tool) for tool in parsed if isinstance(tool, Mapping)]
    return [
        dict(function)
        for function in functions
        if isinstance(function, Mapping) and isinstance(function.get("name"), str) and function["name"].strip()
    ]


def accepts(tools: Sequence[Mapping[str, Any]], name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether that function is on offer and takes those arguments."""
    return any(_takes(tool, arguments) for tool in tools if tool["name"].strip() == name)


def _takes(tool: Mapping[str, Any], arguments: Mapping[str, Any]) -> bool:
    schema = tool.get("parameters", tool.get("input_schema"))
    if isinstance(schema, str):
        schema = read_json(schema)
    if not schema or not isinstance(schema, Mapping):
        return True
    try:
        return _check(json.dumps(schema, sort_keys=True))(arguments)
    except (ValueError, TypeError, RecursionError):
        return True


@lru_cache(maxsize=256)
def _check(schema_text: str) -> Callable[[Mapping[str, Any]], bool]:
    """A schema that is itself wrong can refuse nothing."""
    if len(schema_text) > LONGEST_SCHEMA:
        return lambda arguments: True
    schema = _in_json_schema(json.loads(schema_text))
    try:
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        validator = _extended(kind)(schema, registry=referencing.Registry())
    except _BROKEN_SCHEMA:
        return lambda arguments: True

    def check(arguments: Mapping[str, Any]) -> bool:
        try:
            return bool(validator.is_valid(arguments))
        except _BROKEN_SCHEMA:
            return True

    return check


def _unique(validator: Validator, wanted: Any, instance: Any, schema: Any) -> Any:
    """The one of jsonschema compares each with each, which a long answer makes take hours."""
    if wanted is True and isinstance(instance, list):
        seen = {json.dumps(item, sort_keys=True) for item in instance}
        if len(seen) != len(instance):
            yield jsonschema.ValidationError("has the same item twice")


@lru_cache(maxsize=16)
def _extended(kind: Any) -> Any:
    extend: Any = jsonschema.validators.extend
    return extend(kind, {"uniqueItems": _unique})


def _in_json_schema(schema: Mapping[str, Any]) -> Any:
    """As JSON schema, also where parameters stand one beside another or types have Python's names."""
    if not _KEYWORDS & {key for key, value in schema.items() if key != "type" or not isinstance(value, Mapping)}:
        if not all(isinstance(value, Mapping) for value in schema.values()):
            return _typed(schema, DEEPEST)
        needed = [name for name, about in schema.items() if "default" not in about and not _optional(about)]
        schema = {"type": "object", "properties": dict(schema), "required": needed}
    return _typed(schema, DEEPEST)


def _optional(about: Mapping[str, Any]) -> bool:
    kind = about.get("type")
    return about.get("required") is False or (isinstance(kind, str) and "optional" in kind.lower())


def _typed(node: Any, depth: int) -> Any:
    if depth == 0:
        return node
    if isinstance(node, list):
        return [_typed(item, depth - 1) for item in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: value if key in _NOT_SCHEMAS else _typed(value, depth - 1) for key, value in node.items()}
    if isinstance(made.get("required"), bool):
        del made["required"]
    kind = made.get("type")
    if isinstance(kind, str) and kind not in _KNOWN:
        plain = re.split(r"[\[,(\s]", kind.strip().lower(), maxsplit=1)[0]
        named = _TYPES.get(plain, plain)
        del made["type"]
        if named in _KNOWN:
            made["type"] = named
    return made
