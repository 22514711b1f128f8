"""A chat completion said to a provider that speaks Anthropic's messages."""

import time
from dataclasses import replace

from inference_service.gateway.answers import Garbled
from inference_service.gateway.anthropic import answer, request, sampling
from inference_service.gateway.anthropic.failures import Garbage
from inference_service.gateway.anthropic.stream import Stream
from inference_service.gateway.anthropic.usage import Usage
from inference_service.gateway.counting import BYTES_A_TOKEN, Tokens, text_bytes
from inference_service.gateway.orders import Order, Speech
from inference_service.gateway.targets import Target


def speech(order: Order, target: Target) -> Speech:
    """Raises Refusal for what cannot be carried over."""
    provided = target.provided
    assert provided is not None
    asked = request.to_anthropic(order.content, provided.model)
    if not target.takes_sampling:
        asked = sampling.relieved(asked, "temperature, top_p and top_k") or asked
    around = answer.envelope(order.content, f"chatcmpl-{order.identity}", int(time.time()))

    def whole(body: bytes) -> tuple[bytes, Tokens | None]:
        try:
            found = answer.completion(body, around)
        except Garbage as error:
            raise Garbled(str(error)) from error
        return found.content, _tokens(found.usage, told=True)

    headers = {**order.headers, **dict(provided.headers)}
    return Speech(
        request.PATH, headers, request.encoded(asked), whole, lambda: Translated(Stream(around)), native=asked
    )


def without_sampling(said: Speech, problem: str) -> Speech | None:
    """The same without what `problem` names of it; None if it names none."""
    asked = sampling.relieved(said.native, problem) if said.native is not None else None
    return replace(said, native=asked, body=request.encoded(asked)) if asked is not None else None


class Translated:
    """The first event says no more than that an answer begins, and is held until there is one: if an error comes
    instead, another upstream can still be asked."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._held = b""
        self._size = 0
        self.pieces = 0
        self.failed = False

    @property
    def finished(self) -> bool:
        return self._stream.finished

    def feed(self, piece: bytes) -> bytes:
        try:
            told = self._stream.feed(piece)
        except Garbage as error:
            raise Garbled(str(error)) from error
        if self._stream.error is not None:
            raise Garbled(self._stream.error.message)
        self.pieces += told.count(b"\n\n")
        self._size += text_bytes(told)
        if self.pieces < 2:
            self._held += told
            return b""
        held, self._held = self._held, b""
        return held + told

    def counted(self) -> Tokens:
        least = max(0, self.pieces - 1, self._size // BYTES_A_TOKEN)
        return _tokens(self._stream.usage, told=self._stream.finished, least=least)


def _tokens(usage: Usage, *, told: bool, least: int = 0) -> Tokens:
    output = usage.output if told else max(usage.output, least)
    return Tokens(usage.prompt, usage.cache_read, output, told)
