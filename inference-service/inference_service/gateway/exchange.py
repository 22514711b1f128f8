"""One try of one request at one upstream. Bytes pass through as they come; what a caller saw begin is never ended for
it as if it were whole."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime

import orjson

from inference_service.gateway import answers, at_once, bodies, messages
from inference_service.gateway.answers import Garbled
from inference_service.gateway.connection import Broken, Connection, Unreachable
from inference_service.gateway.connections import Connections
from inference_service.gateway.counting import BYTES_A_TOKEN, Tokens
from inference_service.gateway.errors import Cut, Headers, Lost, Refusal, Said, error_content
from inference_service.gateway.orders import CHAT, Order, Speech, Streamed
from inference_service.gateway.reply import Reply
from inference_service.gateway.speech import speech
from inference_service.gateway.targets import Target

WHOLE_BYTES = 4 * 2**20
"""An answer of this size or less that is no stream is taken whole before the caller gets a byte: if it breaks off,
another upstream can still be asked."""
MOST_ESTIMATED = 2**17
"""Tokens of one answer that tells none, however long it is: most models make no more."""
ERROR_BYTES = 64 * 2**10
END_SECONDS = 0.1
HOPS = "x-imts-hops"
MOST_HOPS = 4
TAIL_BYTES = 16 * 2**10
ELSEWHERE = frozenset({408, 429, 500, 502, 503, 504, 529})
"""It could not, and has said nothing else: another may."""
AGAINST_THE_REQUEST = frozenset({400, 404, 405, 413, 415, 422})
_NOT_THERE = frozenset({404, 405, 501})
"""On another path than that of chats, which all have, it may not have the path: nothing is wrong with it."""
_OURS = frozenset({401, 402, 403, 404})
"""What a provider says of our key, our account, or our name for its model: nothing that the caller could mend."""

_PASSED_UP = {
    b"accept": "accept",
    b"content-type": "content-type",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
}
"""The caller's key is not among them: it is none of the upstream's business."""
_NOT_PASSED_DOWN = frozenset(
    {
        b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"proxy-authenticate",
        b"proxy-connection", b"server", b"date", b"x-request-id", b"set-cookie", b"openai-organization",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    first_byte_seconds: float
    silence_seconds: float
    try_seconds: float


@dataclass(slots=True)
class Outcome:
    """`engine`: seconds from the moment the upstream was asked to its first byte."""

    engine: float = 0.0
    tokens: Tokens = field(default_factory=Tokens)
    asked: bool = False
    """The upstream has the question, and may be working on it."""
    failed: bool = False
    """The upstream said an error within its stream."""


def passed_up(headers: Mapping[bytes, bytes], identity: bytes) -> dict[str, str]:
    told = {name: headers[key].decode("latin-1") for key, name in _PASSED_UP.items() if key in headers}
    told.setdefault("content-type", "application/json")
    told["x-request-id"] = identity.decode()
    told[HOPS] = str(_hops(headers) + 1)
    return told


def _hops(headers: Mapping[bytes, bytes]) -> int:
    """Gateways that a request has passed: one whose provider is a gateway, or itself, must not go round for ever."""
    given = headers.get(HOPS.encode(), b"0")
    hops = int(given) if given.isdigit() and len(given) < 4 else 0
    if hops >= MOST_HOPS:
        raise Refusal(508, f"The request has passed {hops} gateways: one leads back to itself.", code="loop")
    return hops


async def exchange(
    connections: Connections,
    target: Target,
    order: Order,
    said: Speech,
    limits: Limits,
    reply: Reply,
    outcome: Outcome,
) -> None:
    """Raises Lost while the caller has seen nothing, Cut afterwards. `said`: the order in the target's words."""
    probed = target.begin()
    try:
        try:
            await _asked(connections, target, order, said, limits, reply, outcome)
        except _InOtherWords as other:
            await _asked(connections, target, order, other.said, limits, reply, outcome, other.if_taken)
    except Unreachable as error:
        raise Lost(str(error)) from error
    except (Broken, TimeoutError, Garbled) as error:
        problem = target.said_without_secrets(_said(error))
        if reply.started:
            raise Cut(problem) from error
        stale = isinstance(error, Broken) and error.stale
        raise Lost(problem, timed_out=isinstance(error, TimeoutError), again=stale) from error
    finally:
        target.end(probed=probed)


def as_said(refusal: Refusal) -> Said:
    headers = {**refusal.headers, "content-type": "application/json", "content-length": str(len(refusal.content))}
    return Said(refusal.status, [(name.encode(), value.encode()) for name, value in headers.items()], refusal.content)


async def _asked(
    connections: Connections,
    target: Target,
    order: Order,
    said: Speech,
    limits: Limits,
    reply: Reply,
    outcome: Outcome,
    if_taken: Callable[[], None] | None = None,
) -> None:
    async with asyncio.timeout(limits.first_byte_seconds if order.stream else limits.try_seconds) as patience:
        asked_at = time.perf_counter()
        answer = await connections.take(target.origin)
        try:
            answer.ask(request_head(target, said), said.body, _enough)
            outcome.asked = True
            reply.prepare()
            first = await answer.beginning()
            outcome.engine = time.perf_counter() - asked_at
            if answer.status >= 400:
                await _refused(answer, first, said, target, order, reply, final=if_taken is not None)
                return
            if if_taken is not None:
                if_taken()
            if _is_events(answer):
                if not order.stream:
                    raise Garbled("a stream, which was not asked for")
                await _pass_stream(answer, first, said.stream(), reply, patience, limits, outcome)
            elif answer.ended:
                await _pass_whole(answer, first, said, order, reply, outcome)
            else:
                await _pass_large(answer, first, said, order, reply, patience, limits, outcome)
        finally:
            connections.done(target.origin, answer)


class _InOtherWords(Exception):
    """It is asked once more without what it may have refused. That it refused this is believed only `if_taken`: what it
    says against a request may hold the caller's own words."""

    def __init__(self, said: Speech, if_taken: Callable[[], None]) -> None:
        super().__init__()
        self.said = said
        self.if_taken = if_taken


def _other_words(said: Speech, target: Target, order: Order, body: bytes) -> _InOtherWords | None:
    if said.asks_usage and b"stream_options" in body:
        other = replace(speech(order, target, may_ask_usage=False), headers=said.headers)
        return _InOtherWords(other, target.does_not_tell_usage)
    relieved = messages.without_sampling(said, _message(body, 400))
    return _InOtherWords(relieved, target.does_not_take_sampling) if relieved is not None else None


def request_head(target: Target, said: Speech) -> bytes:
    told = "".join([f"{name}: {value}\r\n" for name, value in said.headers.items()])
    return b"%b%bcontent-length: %d\r\n\r\n" % (target.head(said.path), told.encode("latin-1"), len(said.body))


def _enough(answer: Connection) -> int:
    """All of the answer, if that is to be had at once, else its first piece.

    An answer without a length or chunks ends where its connection ends, and so cannot be told from one that was cut:
    it is not believed.
    """
    status = answer.status
    if status >= 400:
        return ERROR_BYTES
    if status >= 300:
        raise Broken(f"a redirection ({status}), which no upstream should give")
    length = answer.header(b"content-length")
    if status != 204 and not length and b"chunked" not in answer.header(b"transfer-encoding").lower():
        raise Broken("an answer with neither a length nor chunks")
    return 1 if _is_events(answer) or int(length or 0) > WHOLE_BYTES else WHOLE_BYTES


def _is_events(answer: Connection) -> bool:
    return answer.header(b"content-type").startswith(b"text/event-stream")


async def _refused(
    answer: Connection, body: bytes, said: Speech, target: Target, order: Order, reply: Reply, *, final: bool
) -> None:
    status, body = answer.status, target.without_secrets(body)
    headers = [(target.without_secrets(name), target.without_secrets(value)) for name, value in _passed_down(answer)]
    if status == 400 and not final and (other := _other_words(said, target, order, body)) is not None:
        raise other
    if status in _NOT_THERE and order.path != CHAT:
        raise Lost(f"{status} at {order.path}", blameless=True, said=_not_there(order, target, status, body))
    if target.provided is not None and status in _OURS:
        raise Lost(f"the provider refuses the gateway ({status})")
    if said.native is not None or not _openai_error(body):
        body = error_content(status, _message(body, status), code="engine_error")
        headers = [(b"content-type", b"application/json"), *((n, v) for n, v in headers if n.lower() == b"retry-after")]
    headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    against_it = order.routed and status in AGAINST_THE_REQUEST
    if status in ELSEWHERE or against_it:
        kept = Said(503 if status == 529 else status, headers, body, _retry_after(answer))
        raise Lost(f"{status}: {_message(body, status)[:300]}", said=kept, blameless=against_it)
    await reply.start(status, headers)
    await reply.end(body)


def _not_there(order: Order, target: Target, status: int, body: bytes) -> Said:
    """A provider's own words are of our name for its model, or our account."""
    code, param = "unsupported_endpoint", "model"
    words = f"No upstream of the model `{order.model}` answers at {order.path}"
    if order.content.get("previous_response_id") is not None:
        code, param = "response_not_found", "previous_response_id"
        words += f", or none keeps the response that `{param}` names"
    words += "." if target.provided is not None else f". {_message(body, status)}"
    return as_said(Refusal(404, words, code=code, param=param, headers={"x-should-retry": "false"}))


async def _pass_whole(
    answer: Connection, body: bytes, said: Speech, order: Order, reply: Reply, outcome: Outcome
) -> None:
    headers = [(name, value) for name, value in _passed_down(answer) if name.lower() != b"content-length"]
    if answer.status != 204:
        body, told = said.whole(body)
        tokens = told or _estimated(len(body), order)
        if _wants_events(order):
            body = at_once.as_stream(body, order.path, with_usage=order.hears_usage)
            headers = [(name, value) for name, value in headers if name.lower() != b"content-type"]
            headers.append((b"content-type", b"text/event-stream"))
        outcome.tokens = tokens
        headers.append((b"content-length", str(len(body)).encode()))
    await reply.start(answer.status, headers)
    await reply.end(body)


def _wants_events(order: Order) -> bool:
    return order.stream and order.path in at_once.STREAMED


def _estimated(size: int, order: Order) -> Tokens:
    """Of an answer that tells nothing; where none is made of tokens, the question is what it took."""
    if not order.answers:
        return Tokens(bodies.guessed_prompt(order.body))
    _, bound = bodies.guessed_tokens(order.path, order.body, order.content)
    return Tokens(output=min(size // BYTES_A_TOKEN, (bound or MOST_ESTIMATED) * order.answers))


async def _pass_stream(
    answer: Connection,
    piece: bytes,
    stream: Streamed,
    reply: Reply,
    patience: asyncio.Timeout,
    limits: Limits,
    outcome: Outcome,
) -> None:
    """What the upstream ends without the protocol's own end is broken off. Its silence has a bound, and as soon as the
    caller has seen something, whatever it says counts as life; how slowly the caller reads is none of its doing."""
    passing = _Passing(stream, reply)
    told = b""
    try:
        while piece and not stream.finished and not (told := stream.feed(piece)):
            piece = await answer.piece()
        patience.reschedule(None)
        if stream.failed:
            raise Garbled("an error where the answer should begin")
        if stream.finished and not stream.pieces:
            raise Garbled("the stream ended before an answer")
        if told:
            headers = [one for one in _passed_down(answer) if one[0].lower() != b"content-length"]
            await reply.start(answer.status, headers)
            await reply.piece(told)
            while not stream.finished and (answer.held or not answer.ended):
                await answer.pass_to(passing.take, limits.silence_seconds)
                await passing.make_good()
    finally:
        outcome.tokens = stream.counted()
        outcome.failed = stream.failed
    if not stream.finished:
        raise Garbled("the stream ended before its end")
    await reply.end()
    await _to_its_end(answer)


class _Passing:
    """Passes a stream's pieces on as they come, unless the caller reads too slowly for that."""

    def __init__(self, stream: Streamed, reply: Reply) -> None:
        self._stream = stream
        self._reply = reply
        self._left = b""
        self._error: Exception | None = None

    def take(self, piece: bytes) -> bool:
        """False: there is something to make good, or the stream is finished."""
        try:
            told = self._stream.feed(piece)
            if told and not self._reply.piece_now(told):
                self._left = told
                return False
        except Exception as error:  # noqa: BLE001 - within a parser's callback: it is raised where it is waited for
            self._error = error
            return False
        return not self._stream.finished

    async def make_good(self) -> None:
        if self._error is not None:
            raise self._error
        if self._left:
            told, self._left = self._left, b""
            await self._reply.piece(told)


async def _to_its_end(answer: Connection) -> None:
    """The answer is given; what ends the upstream's own lets its connection be used again."""
    if answer.ended:
        return
    try:
        async with asyncio.timeout(END_SECONDS):
            while await answer.piece():
                pass
    except (TimeoutError, Broken):
        return


async def _pass_large(
    answer: Connection,
    piece: bytes,
    said: Speech,
    order: Order,
    reply: Reply,
    patience: asyncio.Timeout,
    limits: Limits,
    outcome: Outcome,
) -> None:
    """What is no JSON object by its beginning, and what would have to be understood whole, is not passed."""
    if said.native is not None or _wants_events(order):
        raise Garbled("an answer too large to be told in other words")
    piece = await _beginning_of_json(answer, piece)
    now = asyncio.get_running_loop().time
    head, tail, size = piece[:TAIL_BYTES], b"", 0
    await reply.start(answer.status, _passed_down(answer))
    try:
        while piece:
            patience.reschedule(None)
            await reply.piece(piece)
            patience.reschedule(now() + limits.silence_seconds)
            tail = (tail + piece)[-TAIL_BYTES:]
            size += len(piece)
            piece = await answer.piece()
    finally:
        outcome.tokens = answers.in_passing(tail) or answers.in_passing(head) or _estimated(size, order)
    await reply.end()


async def _beginning_of_json(answer: Connection, piece: bytes) -> bytes:
    kind = answer.header(b"content-type").lower()
    if kind and b"json" not in kind:
        raise Garbled(f"an answer that is {kind.decode(errors='replace')[:100]}")
    begun = bytearray(piece)
    while piece and not piece.strip():
        if len(begun) > WHOLE_BYTES:
            raise Garbled("nothing but white space")
        piece = await answer.piece()
        begun += piece
    if not begun.lstrip().startswith(b"{"):
        raise Garbled("an answer that is no JSON object")
    return bytes(begun)


def _passed_down(answer: Connection) -> Headers:
    return [(name, value) for name, value in answer.headers if _goes_down(name.lower())]


def _goes_down(name: bytes) -> bool:
    return name not in _NOT_PASSED_DOWN and not name.startswith((b"x-imts-", b"x-ratelimit-"))


def _retry_after(answer: Connection) -> float | None:
    """Seconds, or a date by the upstream's own clock."""
    told = answer.header(b"retry-after").decode("latin-1").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", told):
        return float(told)
    try:
        until, said_at = (parsedate_to_datetime(text) for text in (told, answer.header(b"date").decode("latin-1")))
        return max(0.0, (until - said_at).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _openai_error(body: bytes) -> bool:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(content, dict) and isinstance(content.get("error"), dict) and "message" in content["error"]


def _message(body: bytes, status: int) -> str:
    """The upstream's own words, wherever it put them."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = body.decode(errors="replace").strip()
    if isinstance(content, dict):
        content = content.get("message") or content.get("detail") or content.get("error") or content
    if isinstance(content, dict):
        content = content.get("message") or content
    try:
        text = content if isinstance(content, str) else orjson.dumps(content).decode()
    except orjson.JSONEncodeError:  # deeper than it writes
        text = body.decode(errors="replace")
    return text[:2_000] or f"The engine answered {status} and said no more."


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
