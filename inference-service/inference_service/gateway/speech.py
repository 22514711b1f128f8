"""A request in the words of the upstream that is asked."""

from functools import partial

from imts_shared.contracts.providers import ProviderKind
from inference_service.gateway import answers, bodies, messages
from inference_service.gateway.orders import Order, Speech
from inference_service.gateway.targets import Target

STREAMED_USAGE = frozenset({"/v1/chat/completions", "/v1/completions"})
OF_ENGINES_ALONE = {"/v1/tokenize": "/tokenize", "/v1/detokenize": "/detokenize"}


def copies_made(target: Target, model: str) -> int:
    """Of a body, to say it to the target: what is translated has another form before it has other words."""
    if _is_native(target):
        return 2
    return int(target.provided is not None and target.provided.model != model)


def _is_native(target: Target) -> bool:
    """It speaks another protocol than OpenAI's."""
    return target.provided is not None and target.provided.kind == ProviderKind.anthropic


def can_say(order_path: str, target: Target) -> bool:
    if target.provided is None:
        return True
    if _is_native(target):
        return order_path == "/v1/chat/completions"
    return order_path not in OF_ENGINES_ALONE


def speech(order: Order, target: Target, *, may_ask_usage: bool = True) -> Speech:
    provided = target.provided
    if _is_native(target):
        return messages.speech(order, target)
    asks = order.stream and order.path in STREAMED_USAGE and not order.hears_usage
    asks = asks and may_ask_usage and target.tells_usage
    body = order.body
    if asks:
        body = bodies.with_usage(body, order.content)
    path, headers = OF_ENGINES_ALONE.get(order.path, order.path), order.headers
    if provided is not None:
        if provided.model != order.content.get("model"):
            body = bodies.with_model(body, order.content, provided.model)
        path, headers = order.path.removeprefix("/v1"), {**headers, **dict(provided.headers)}
    hearing = partial(answers.Stream, hide_usage=asks, redacted=target.without_secrets)
    return Speech(path, headers, body, partial(answers.whole, path=order.path), hearing, asks)
