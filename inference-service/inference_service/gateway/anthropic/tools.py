"""Functions that the model may call, which of them it must, and the form that its words must have."""

from typing import Any

from inference_service.gateway.anthropic.parts import marking
from inference_service.gateway.anthropic.refusals import not_carried, wrong
from inference_service.gateway.anthropic.schema import enforceable

Fields = dict[str, Any]

JSON_ALONE = "Answer with one JSON object and nothing else: no words around it, and no code fence."
"""Anthropic enforces a schema but knows no JSON without one, so `json_object` is asked for in words. A forced function
with an open schema would be the other way; models tend to call that with nothing in it."""

_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def tools(content: Fields, called: dict[str, None]) -> Fields:
    """The fields `tools` and `tool_choice`. `called`: functions that the conversation shows as called."""
    offered = [_function(tool, f"tools[{number}]") for number, tool in enumerate(_list(content, "tools"))]
    for number, function in enumerate(_list(content, "functions")):
        offered.append(_tool(function, f"functions[{number}]"))
    if not offered:
        return _called_before(content, called)
    choice = _choice(content.get("tool_choice"), "tool_choice") or _choice(
        content.get("function_call"), "function_call"
    )
    single = content.get("parallel_tool_calls") is False or bool(content.get("functions"))
    if single and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": offered} if choice is None else {"tools": offered, "tool_choice": choice}


def forces_a_call(fields: Fields) -> bool:
    return fields.get("tool_choice", {}).get("type") in {"any", "tool"}


def answer_form(content: Fields) -> tuple[Fields | None, str | None]:
    """What `response_format` asks for: a format for Anthropic to enforce, or words for the system prompt."""
    form = content.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    if form is None or kind == "text":
        return None, None
    if kind == "json_object":
        return None, JSON_ALONE
    if not isinstance(form, dict) or kind != "json_schema":
        raise wrong("response_format.type", "must be text, json_object or json_schema")
    described = form.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise wrong("response_format.json_schema.schema", "must be a JSON schema, which is an object")
    return {"type": "json_schema", "schema": enforceable(schema, "response_format.json_schema.schema")}, None


def _list(content: Fields, name: str) -> list[Any]:
    given = content.get(name)
    if given is None:
        return []
    if not isinstance(given, list):
        raise wrong(name, "must be a list")
    return given


def _function(tool: object, at: str) -> Fields:
    if not isinstance(tool, dict):
        raise wrong(at, "must be an object")
    if tool.get("type") != "function":
        raise not_carried(f"{at}.type", "only tools of type function can be offered")
    return {**_tool(tool.get("function"), f"{at}.function"), **marking(tool, at)}


def _tool(function: object, at: str) -> Fields:
    if not isinstance(function, dict):
        raise wrong(at, "must be an object")
    name, description, schema = function.get("name"), function.get("description"), function.get("parameters")
    if not isinstance(name, str) or not name:
        raise wrong(f"{at}.name", "must be a string that is not empty")
    if description is not None and not isinstance(description, str):
        raise wrong(f"{at}.description", "must be a string")
    if schema is not None and not isinstance(schema, dict):
        raise wrong(f"{at}.parameters", "must be a JSON schema, which is an object")
    strict = function.get("strict") is True
    taken = {"type": "object", **(schema or {"properties": {}})}
    if strict:
        taken = {"additionalProperties": False, **taken} if not schema else taken
        taken = enforceable(taken, f"{at}.parameters")
    tool: Fields = {"name": name, "input_schema": taken}
    if description:
        tool["description"] = description
    return {**tool, "strict": True} if strict else tool


def _choice(given: object, param: str) -> Fields | None:
    if given is None:
        return None
    if isinstance(given, str) and given in _CHOICES:
        return {"type": _CHOICES[given]}
    if isinstance(given, dict):
        named = given.get("function", given if param == "function_call" else None)
        name = named.get("name") if isinstance(named, dict) else None
        if isinstance(name, str) and given.get("type", "function") == "function":
            return {"type": "tool", "name": name}
    if isinstance(given, dict) and given.get("type") in ("allowed_tools", "custom"):
        raise not_carried(f"{param}.type", "offer only the tools that may be called")
    raise wrong(param, 'must be auto, none, required or {"type": "function", "function": {"name": "..."}}')


def _called_before(content: Fields, called: dict[str, None]) -> Fields:
    """Calls in the conversation must be of functions that are offered; here the caller offers none any more."""
    _choice(content.get("tool_choice"), "tool_choice")
    if not called:
        return {}
    offered = [{"name": name, "input_schema": {"type": "object"}} for name in called]
    return {"tools": offered, "tool_choice": {"type": "none"}}
