"""A conversation as Anthropic takes it: one system prompt, and turns of user and assistant that alternate.

Instructions in the midst of it go to the one system prompt, in their order. `name` of a message is left out."""

import re
from collections import Counter
from typing import Any

import orjson

from inference_service.gateway.anthropic.parts import Block, blocks, marking, text_blocks
from inference_service.gateway.anthropic.refusals import not_carried, wrong

OPENING = "(The conversation begins.)"
"""Said by the user where the caller lets the assistant speak first: the first turn must be the user's."""
UNREADABLE = "arguments"
"""Where arguments that are no JSON object are kept: some model said them once, and `input` must be an object."""

_THOUGHTS = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


class Conversation:
    """`called`: the names of all functions that were called in it, in their order."""

    def __init__(self, messages: object) -> None:
        self.system: list[Block] = []
        self.turns: list[dict[str, Any]] = []
        self.called: dict[str, None] = {}
        self._awaited: dict[str, str] = {}
        self._call_ids: Counter[str] = Counter()
        if not isinstance(messages, list):
            raise wrong("messages", "must be a list of messages")
        for number, message in enumerate(messages):
            at = f"messages[{number}]"
            if not isinstance(message, dict):
                raise wrong(at, 'must be an object such as {"role": "user", "content": "..."}')
            self._take(message, at)
        self._nothing_awaited("messages")
        self._round_off()

    def _take(self, message: dict[str, Any], at: str) -> None:
        content, where = message.get("content"), f"{at}.content"
        match message.get("role"):
            case "system" | "developer":
                self.system += text_blocks(content, where)
            case "user":
                self._nothing_awaited(at)
                self._say("user", blocks(content, where))
            case "assistant":
                self._nothing_awaited(at)
                said = _thoughts(message.get("thinking_blocks"), f"{at}.thinking_blocks")
                said += text_blocks(content, where)
                self._say("assistant", said + self._calls(message, at))
            case "tool":
                self._result(message.get("tool_call_id"), f"{at}.tool_call_id", message, at)
            case "function":
                self._result(message.get("name"), f"{at}.name", message, at)
            case _:
                raise wrong(f"{at}.role", "must be system, developer, user, assistant or tool")

    def _say(self, role: str, said: list[Block]) -> None:
        if not said:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += said
        else:
            self.turns.append({"role": role, "content": said})

    def _calls(self, message: dict[str, Any], at: str) -> list[Block]:
        given = message.get("tool_calls") or []
        if not isinstance(given, list):
            raise wrong(f"{at}.tool_calls", "must be a list")
        found = []
        for number, call in enumerate(given):
            here = f"{at}.tool_calls[{number}]"
            if not isinstance(call, dict):
                raise wrong(here, "must be an object")
            if call.get("type", "function") != "function":
                raise not_carried(f"{here}.type", "only calls of functions can be sent")
            found.append(self._call(call.get("id"), f"{here}.id", call.get("function"), f"{here}.function"))
        single = message.get("function_call")
        if single is not None:
            name = single.get("name") if isinstance(single, dict) else None
            found.append(self._call(name, f"{at}.function_call.name", single, f"{at}.function_call"))
        return found

    def _call(self, key: object, param: str, function: object, at: str) -> Block:
        if not isinstance(key, str) or not key:
            raise wrong(param, "must be a string that is not empty")
        if key in self._awaited:
            raise wrong(param, "must differ from those of the other calls of this message")
        if not isinstance(function, dict):
            raise wrong(at, "must be an object")
        name, arguments = function.get("name"), function.get("arguments", "")
        if not isinstance(name, str) or not name:
            raise wrong(f"{at}.name", "must be a string that is not empty")
        if not isinstance(arguments, str):
            raise wrong(f"{at}.arguments", "must be a string that holds a JSON object")
        self.called[name] = None
        self._awaited[key] = identity = self._own_id(key)
        return {"type": "tool_use", "id": identity, "name": name, "input": _input(arguments)}

    def _own_id(self, given: str) -> str:
        """Anthropic wants few characters in an id, and each id once in a conversation; other models are less strict."""
        fit = given if _CALL_ID.fullmatch(given) else _UNFIT.sub("_", given)[:100]
        identity = fit
        while identity in self._call_ids:
            self._call_ids[fit] += 1
            identity = f"{fit}_{self._call_ids[fit]}"
        self._call_ids[identity] += 1
        return identity

    def _result(self, key: object, param: str, message: dict[str, Any], at: str) -> None:
        if not isinstance(key, str) or key not in self._awaited:
            raise wrong(param, "must name a call of the assistant's message before it, each call once")
        block: Block = {"type": "tool_result", "tool_use_id": self._awaited.pop(key)}
        said = blocks(message.get("content"), f"{at}.content")
        self._say("user", [{**block, **({"content": said} if said else {}), **marking(message, at)}])

    def _nothing_awaited(self, param: str) -> None:
        if self._awaited:
            missing = ", ".join(key[:100] for key in sorted(self._awaited)[:5])
            raise wrong(param, f"must hold the result of each call before anything else is said; missing: {missing}")

    def _round_off(self) -> None:
        if not self.turns:
            raise wrong("messages", "must hold something that the user says")
        if self.turns[0]["role"] == "assistant":
            self.turns.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
        last = self.turns[-1]
        if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
            end = last["content"][-1]
            last["content"][-1] = {**end, "text": end["text"].rstrip()}


def _thoughts(given: object, where: str) -> list[Block]:
    """As an earlier answer gave them, whole or as a client joined them from a stream: with a budget to think, Anthropic
    wants them back beside the calls."""
    if given is None:
        return []
    if not isinstance(given, list):
        raise wrong(where, "must be a list of blocks as an answer gave them")
    found = []
    for number, block in enumerate(given):
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str) or kind not in _THOUGHTS:
            raise wrong(f"{where}[{number}]", "must be a block as an answer gave it")
        thought = {name: block.get(name, "") for name in _THOUGHTS[kind]}
        if not all(isinstance(value, str) for value in thought.values()):
            raise wrong(f"{where}[{number}]", "must hold strings")
        found.append({"type": kind, **thought})
    return found


def _input(arguments: str) -> dict[str, Any]:
    if not arguments or arguments.isspace():
        return {}
    try:
        read = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        read = None
    return read if isinstance(read, dict) else {UNREADABLE: arguments}
