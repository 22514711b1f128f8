"""A caller's body for OpenAI's chat completions as one for Anthropic's messages.

Every field is known by name here: it is translated, or dropped because the answer means the same without it, or
refused because the caller relies on it. A field that is not known at all is refused as well.
"""

import re
from hashlib import sha256
from typing import Any

import orjson

from inference_service.gateway.anthropic.refusals import not_carried, wrong
from inference_service.gateway.anthropic.sampling import sampling
from inference_service.gateway.anthropic.tools import answer_form, forces_a_call, tools
from inference_service.gateway.anthropic.turns import Conversation
from inference_service.gateway.errors import Refusal

PATH = "/v1/messages"
VERSION = "2023-06-01"
"""The newest version that still knows temperature and its kin."""
MAX_TOKENS = 8_192
"""Anthropic must be told a limit. This one is used where the caller names none; a longer answer ends with `length`."""
STOPS = 4

TRANSLATED = frozenset(
    {
        "model", "messages", "max_tokens", "max_completion_tokens", "stop", "temperature", "top_p", "top_k", "stream",
        "stream_options", "user", "safety_identifier", "tools", "tool_choice", "parallel_tool_calls", "functions",
        "function_call", "response_format", "reasoning_effort", "thinking", "cache_control",
    }
)  # fmt: skip
DROPPED = frozenset(
    {
        "metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "prediction",
        "seed", "verbosity",
    }
)  # fmt: skip
"""Book-keeping, speed, and wishes that OpenAI itself promises nothing about: the answer is as good without them."""
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "ask once for each answer"),
    "logprobs": ((False,), "leave it out"),
    "top_logprobs": ((0,), "leave it out"),
    "logit_bias": (({},), "leave it out"),
    "frequency_penalty": ((0,), "leave it out"),
    "presence_penalty": ((0,), "leave it out"),
    "modalities": ((["text"],), "ask for text alone"),
    "audio": ((), "ask for text alone"),
    "web_search_options": ((), "offer a search of your own as a function"),
    "moderation": ((), "leave it out"),
    "store": ((False,), "leave it out"),
}
"""Refused, save with these values, which ask for nothing."""

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_OPAQUE = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_:.-]{1,256}")


def headers(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": VERSION, "content-type": "application/json"}


def to_anthropic(content: dict[str, Any], model: str) -> dict[str, Any]:
    """`model`: its name at Anthropic. Raises Refusal with the field that cannot be carried."""
    _refuse_what_is_not_carried(content)
    conversation = Conversation(content.get("messages"))
    offered = tools(content, conversation.called)
    form, words = answer_form(content)
    system = conversation.system + ([{"type": "text", "text": words}] if words else [])
    thinking, effort = _thinking(content, forced=forces_a_call(offered))
    output = {**({"format": form} if form else {}), **({"effort": effort} if effort else {})}
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": _limit(content, thinking),
        "messages": conversation.turns,
        **({"system": _joined(system)} if system else {}),
        **offered,
        **({"thinking": thinking} if thinking else {}),
        **({"output_config": output} if output else {}),
        **sampling(content, thinks=thinking is not None and thinking.get("type") != "disabled"),
    }
    if stops := _stops(content.get("stop")):
        asked["stop_sequences"] = stops
    if user := _user(content):
        asked["metadata"] = {"user_id": user}
    if content.get("cache_control") is not None:
        asked["cache_control"] = content["cache_control"]
    if content.get("stream") is True:
        asked["stream"] = True
    return asked


def encoded(asked: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(asked)
    except orjson.JSONEncodeError:
        raise Refusal(400, "The body is nested too deeply: use fewer levels.", code="invalid_json") from None


def _refuse_what_is_not_carried(content: dict[str, Any]) -> None:
    for name, value in content.items():
        if value is None or name in TRANSLATED or name in DROPPED:
            continue
        harmless, cure = REFUSED.get(name, ((), "leave it out"))
        if value not in harmless:
            raise not_carried(name, cure)


def _joined(system: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    return system if any(len(block) > 2 for block in system) else "\n\n".join(block["text"] for block in system)


def _limit(content: dict[str, Any], thinking: dict[str, Any] | None) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        given = content.get(name)
        if given is None:
            continue
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise wrong(name, "must be a whole number above 0")
        return given
    budget = (thinking or {}).get("budget_tokens")
    return MAX_TOKENS + (budget if isinstance(budget, int) and 0 < budget < 2**31 else 0)


def _thinking(content: dict[str, Any], *, forced: bool) -> tuple[dict[str, Any] | None, str | None]:
    """Anthropic's `thinking` as the caller gives it, else what `reasoning_effort` comes to: thinking as the model sees
    fit, at that effort. A call that is forced leaves no room to think."""
    thinking, effort = content.get("thinking"), content.get("reasoning_effort")
    if thinking is not None and not isinstance(thinking, dict):
        raise wrong("thinking", 'must be an object such as {"type": "adaptive"}')
    if effort is None:
        return thinking, None
    if effort == "none":
        return thinking or {"type": "disabled"}, None
    if not isinstance(effort, str) or effort not in _EFFORTS:
        raise wrong("reasoning_effort", f"must be none, {', '.join(_EFFORTS)}")
    return thinking or (None if forced else {"type": "adaptive"}), _EFFORTS[effort]


def _stops(given: object) -> list[str]:
    stops = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or len(stops) > STOPS or not all(isinstance(stop, str) for stop in stops):
        raise wrong("stop", f"must be a string or a list of at most {STOPS} strings")
    if not all(stop.strip() for stop in stops):
        raise not_carried("stop", "name stops that hold more than white space")
    return stops


def _user(content: dict[str, Any]) -> str | None:
    """Anthropic wants a name that tells nobody who it is. One that looks as if it did goes as its hash."""
    for name in ("safety_identifier", "user"):
        given = content.get(name)
        if given is None:
            continue
        if not isinstance(given, str):
            raise wrong(name, "must be a string")
        if given:
            return given if _OPAQUE.fullmatch(given) else sha256(given.encode()).hexdigest()
    return None
