"""Checking the tools that a row offers and the calls that are made of them."""

from collections.abc import Mapping
from typing import Any

import orjson

from analyzer_service.reading import Fault


def call_text_fault(number: int, value: str) -> Fault | None:
    """A ShareGPT function call: an object or a list of them, as text."""
    try:
        calls = orjson.loads(value)
    except orjson.JSONDecodeError:
        return Fault("invalid_tool_call", f"Turn {number}: a function call must be JSON.")
    if calls == []:
        return Fault("invalid_tool_call", f"Turn {number}: no function is called.")
    for call in calls if isinstance(calls, list) else [calls]:
        if not (isinstance(call, Mapping) and isinstance(call.get("name"), str) and "arguments" in call):
            return Fault("invalid_tool_call", f"Turn {number}: a function call needs `name` and `arguments`.")
        if not _is_object(call["arguments"]):
            name = call["name"][:100]
            return Fault("invalid_tool_call", f"Turn {number}: the arguments of {name!r} are not a JSON object.")
    return None


def tool_calls_fault(number: int, role: str, calls: Any) -> Fault | None:
    if role != "assistant":
        return Fault("invalid_tool_call", f"Message {number}: only the assistant calls tools.")
    if not isinstance(calls, list):
        return Fault("invalid_tool_call", f"Message {number}: `tool_calls` must be a list.")
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            return Fault("invalid_tool_call", f"Message {number}: a tool call needs `function.name`.")
        if not _is_object(function.get("arguments")):
            name = function["name"][:100]
            return Fault("invalid_tool_call", f"Message {number}: the arguments of {name!r} are not a JSON object.")
    return None


def _is_object(arguments: Any) -> bool:
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return False
    return isinstance(arguments, Mapping)


def tools_fault(tools: Any) -> Fault | None:
    """A list of tools, or that list as JSON text."""
    if isinstance(tools, str):
        if not tools.strip():
            return None
        try:
            tools = orjson.loads(tools)
        except orjson.JSONDecodeError:
            return Fault("invalid_tools", "`tools` is not valid JSON.")
    if tools is None:
        return None
    if not isinstance(tools, list):
        return Fault("invalid_tools", "`tools` must be a list.")
    for number, tool in enumerate(tools, 1):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
            return Fault("invalid_tools", f"Tool {number} has no name.")
        if not isinstance(function.get("parameters"), Mapping | str | None):
            return Fault("invalid_tools", f"Tool {number}: `parameters` must be an object.")
    return None
