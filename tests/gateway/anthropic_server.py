"""Anthropic's messages over a real socket, as strict about requests as the real ones are."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from tests.conftest import free_port

Fields = dict[str, Any]

REQUEST = {
    "model", "max_tokens", "messages", "system", "stop_sequences", "temperature", "top_p", "top_k", "stream",
    "metadata", "thinking", "tools", "tool_choice", "output_config", "service_tier", "cache_control",
}  # fmt: skip
SAMPLING = {"temperature", "top_p", "top_k"}
BLOCKS = {
    "text": {"type", "text", "cache_control"},
    "image": {"type", "source", "cache_control"},
    "document": {"type", "source", "title", "cache_control"},
    "tool_use": {"type", "id", "name", "input", "cache_control"},
    "tool_result": {"type", "tool_use_id", "content", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
}
OF_ROLE = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "tool_use", "thinking", "redacted_thinking"},
}
TOOL = {"name", "description", "input_schema", "strict", "cache_control"}
CHOICE = {"type", "name", "disable_parallel_tool_use"}
_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")


class Refused(Exception):
    pass


def want(fits: bool, problem: str) -> None:
    if not fits:
        raise Refused(problem)


def check(body: Any) -> None:
    """Raises Refused where the real ones answer 400."""
    want(isinstance(body, dict), "the body is no object")
    want(body.keys() <= REQUEST, f"{sorted(body.keys() - REQUEST)}: Extra inputs are not permitted")
    want(isinstance(body.get("model"), str), "model: Field required")
    limit = body.get("max_tokens")
    want(type(limit) is int and limit > 0, "max_tokens: Field required")
    want(0 <= body.get("temperature", 1) <= 1, "temperature: range: 0..1")
    want(all(stop.strip() for stop in body.get("stop_sequences", [])), "stop_sequences: must contain non-whitespace")
    want(body.get("metadata", {}).keys() <= {"user_id"}, "metadata: Extra inputs are not permitted")
    want(body.get("output_config", {}).keys() <= {"format", "effort"}, "output_config: Extra inputs")
    system = body.get("system", [])
    for block in system if isinstance(system, list) else [{"type": "text", "text": system}]:
        check_block(block, {"text"})
    thinks = body.get("thinking", {"type": "disabled"})["type"] != "disabled"
    want(not (thinks and body.keys() & SAMPLING), "temperature may only be set to 1 when thinking is enabled")
    want(not thinks or limit > body["thinking"].get("budget_tokens", 0), "max_tokens must be above budget_tokens")
    check_tools(body)
    check_messages(body.get("messages"), body.get("tools", []))


def check_tools(body: Fields) -> None:
    tools = body.get("tools", [])
    for tool in tools:
        want(tool.keys() <= TOOL and tool["input_schema"].get("type") == "object", "tools: Input tag not found")
        if tool.get("strict"):
            check_closed(tool["input_schema"])
    names = [tool["name"] for tool in tools]
    want(len(names) == len(set(names)), "tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is not None:
        want(bool(tools), "tool_choice may only be specified while providing tools")
        want(choice.keys() <= CHOICE and choice["type"] in {"auto", "any", "tool", "none"}, "tool_choice")
        want(choice["type"] != "none" or "disable_parallel_tool_use" not in choice, "tool_choice.none: Extra inputs")
        want(choice["type"] != "tool" or choice["name"] in names, "tool_choice: Tool not found in provided tools")
    form = body.get("output_config", {}).get("format")
    if form is not None:
        want(form.keys() == {"type", "schema"} and form["type"] == "json_schema", "output_config.format")
        check_closed(form["schema"])


def check_closed(schema: Any) -> None:
    if isinstance(schema, list):
        for one in schema:
            check_closed(one)
    elif isinstance(schema, dict):
        if schema.get("type") == "object":
            want(schema.get("additionalProperties") is False, "additionalProperties must be explicitly set to false")
        want(not schema.keys() & {"minimum", "maximum", "maxLength", "oneOf", "pattern"}, "schema: not supported")
        for key, value in schema.items():
            check_closed(list(value.values()) if key in {"properties", "$defs"} else value)


def check_messages(messages: Any, tools: list[Fields]) -> None:
    want(isinstance(messages, list) and bool(messages), "messages: at least one message is required")
    awaited: set[str] = set()
    seen: set[str] = set()
    before = "assistant"
    for message in messages:
        want(message.keys() == {"role", "content"}, "messages: Extra inputs are not permitted")
        role, content = message["role"], message["content"]
        want(role in OF_ROLE and role != before, "messages: roles must alternate between user and assistant")
        before = role
        want(isinstance(content, list) and bool(content), "messages: all messages must have non-empty content")
        for block in content:
            check_block(block, OF_ROLE[role])
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        want(set(results) == awaited and len(results) == len(awaited), "tool_result blocks must answer tool_use blocks")
        want([block["type"] for block in content[: len(results)]] == ["tool_result"] * len(results), "results first")
        calls = [block for block in content if block["type"] == "tool_use"]
        awaited = {call["id"] for call in calls}
        want(len(awaited) == len(calls) and not awaited & seen, "messages: tool_use ids must be unique")
        want(bool(tools) or not calls, "Requests which include `tool_use` blocks must define tools")
        seen |= awaited
    want(not awaited, "tool_use ids were found without tool_result blocks immediately after")
    last = messages[-1]["content"][-1]
    want(before == "user" or last.get("text", "x") == last.get("text", "x").rstrip(), "trailing whitespace")


def check_block(block: Fields, kinds: set[str]) -> None:
    kind = block.get("type")
    want(kind in kinds, f"{kind}: not permitted here")
    want(block.keys() <= BLOCKS[kind], f"{sorted(block.keys() - BLOCKS[kind])}: Extra inputs are not permitted")
    if kind == "text":
        want(bool(block["text"].strip()), "text content blocks must contain non-whitespace text")
    elif kind == "image":
        source = block["source"]
        if source["type"] == "url":
            want(source["url"].lower().startswith("https://"), "Only HTTPS URLs are supported.")
        else:
            kinds_of_image = {"image/jpeg", "image/png", "image/gif", "image/webp"}
            want(source["type"] == "base64" and source["media_type"] in kinds_of_image, "image.source")
    elif kind == "tool_use":
        want(bool(_ID.fullmatch(block["id"])) and isinstance(block["input"], dict), "tool_use.id or input")
    elif kind == "tool_result":
        for inner in block.get("content", []):
            check_block(inner, {"text", "image", "document"})


def message(content: list[Fields], stop_reason: str = "end_turn", **more: Any) -> Fields:
    usage = {"input_tokens": 11, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3, "output_tokens": 7}
    return {
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-test", "content": content,
        "stop_reason": stop_reason, "stop_sequence": None, "usage": usage, **more,
    }  # fmt: skip


def events(whole: Fields, cut: Callable[[str], list[str]]) -> Iterator[Fields]:
    """The message as it is streamed; `cut` parts a text into the pieces that come one by one."""
    first = {**whole["usage"], "output_tokens": 1}
    yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "usage": first}}
    yield {"type": "ping"}
    for index, block in enumerate(whole["content"]):
        match block["type"]:
            case "text":
                begun, deltas = {**block, "text": ""}, [("text_delta", "text", part) for part in cut(block["text"])]
            case "thinking":
                begun = {**block, "thinking": "", "signature": ""}
                deltas = [("thinking_delta", "thinking", part) for part in cut(block["thinking"])]
                deltas.append(("signature_delta", "signature", block["signature"]))
            case "tool_use":
                begun, text = {**block, "input": {}}, orjson.dumps(block["input"]).decode() if block["input"] else ""
                deltas = [("input_json_delta", "partial_json", part) for part in ["", *cut(text)]]
            case _:
                begun, deltas = block, []
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for kind, name, part in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: part}}
        yield {"type": "content_block_stop", "index": index}
    stopped = {name: whole[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in whole}
    output = {"output_tokens": whole["usage"]["output_tokens"]}
    yield {"type": "message_delta", "delta": stopped, "usage": output}
    yield {"type": "message_stop"}


def wire(event: Fields, end: bytes = b"\n") -> bytes:
    return b"event: " + event["type"].encode() + end + b"data: " + orjson.dumps(event) + end * 2


def halves(text: str) -> list[str]:
    return [part for part in (text[: len(text) // 2], text[len(text) // 2 :]) if part]


class AnthropicServer:
    """Answers with `says`. `breaks`: events that a stream has before it is cut; `fails`: an event in place of its
    last one."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.key = "sk-test"
        self.asked: list[Fields] = []
        self.says = message([{"type": "text", "text": "Hello there."}])
        self.breaks: int | None = None
        self.fails: Fields | None = None
        self.status = 200

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("anthropic-version") != "2023-06-01":
            return problem(400, "invalid_request_error", "anthropic-version: header is required")
        if request.headers.get("x-api-key") != self.key:
            return problem(401, "authentication_error", "invalid x-api-key")
        body = orjson.loads(await request.read())
        try:
            check(body)
        except Refused as refused:
            return problem(400, "invalid_request_error", str(refused))
        self.asked.append(body)
        if self.status != 200:
            return problem(self.status, "overloaded_error", "Overloaded")
        if not body.get("stream"):
            return web.json_response(self.says)
        return await self._stream(request)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        told = list(events(self.says, halves))
        if self.fails is not None:
            told[-1] = self.fails
        for event in told[: self.breaks]:
            await response.write(wire(event))
            await asyncio.sleep(0)
        if self.breaks is not None and request.transport is not None:
            request.transport.abort()
        return response


def problem(status: int, kind: str, words: str) -> web.Response:
    error = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_01"}
    return web.json_response(error, status=status, headers={"retry-after": "7"} if status in {429, 529} else None)


@asynccontextmanager
async def anthropic_server() -> AsyncIterator[AnthropicServer]:
    here = AnthropicServer(free_port())
    app = web.Application(client_max_size=100 * 2**20)
    app.router.add_post("/v1/messages", here.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", here.port).start()
    try:
        yield here
    finally:
        await runner.cleanup()
