"""A request to a model, from its first header to the last byte of its answer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loguru import logger
from opentelemetry.trace import Span

from imts_shared.contracts.routes import RouteSettings
from inference_service.gateway import bodies, metrics, requests, responses
from inference_service.gateway.accounts import Accounts, Bill
from inference_service.gateway.directory import DEFAULT_PROJECT, Caller, Directory, Model, may_ask
from inference_service.gateway.errors import Cut, Refusal
from inference_service.gateway.exchange import passed_up
from inference_service.gateway.holding import SMALL_BYTES
from inference_service.gateway.orders import Order
from inference_service.gateway.reply import Reply
from inference_service.gateway.requests import CallerGone, Incoming, TooLong
from inference_service.gateway.router import NO_MODEL, Router
from inference_service.gateway.speech import copies_made
from inference_service.gateway.tracing import NO_SPAN, Tracing, answered
from inference_service.gateway.tries import Course, Tries

PATHS = frozenset(
    {
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/tokenize",
        "/v1/detokenize",
    }
)  # fmt: skip
FALLBACKS = b"x-imts-fallbacks"
NO_FALLBACKS = "none"
MOST_FALLBACKS = 20


@dataclass(frozen=True)
class Bounds:
    body_bytes: int
    body_seconds: float
    whole_seconds: float


class Door:
    def __init__(
        self,
        directory: Directory,
        router: Router,
        tries: Tries,
        accounts: Accounts,
        bounds: Bounds,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._directory = directory
        self._router = router
        self._tries = tries
        self._accounts = accounts
        self._bounds = bounds

    async def serve(
        self, path: str, headers: Mapping[bytes, bytes], identity: bytes, incoming: Incoming, reply: Reply
    ) -> None:
        """Returns with the reply ended, or broken off: the server then closes the connection without its end."""
        if self._tracing is None:
            await self._serve(path, headers, identity, incoming, reply, NO_SPAN)
            return
        with self._tracing.request(path, headers, identity.decode()) as span:
            await self._serve(path, headers, identity, incoming, reply, span)

    async def _serve(
        self, path: str, headers: Mapping[bytes, bytes], identity: bytes, incoming: Incoming, reply: Reply, span: Span
    ) -> None:
        bounds = self._bounds
        caller = self._directory.caller(headers.get(b"authorization", b""), headers.get(b"openai-project"))
        may_ask(caller)
        body = await incoming.read(headers, bounds.body_bytes, bounds.body_seconds)
        begun = time.perf_counter()
        asked = requests.parse(body, headers)
        if path == responses.PATH and not asked.stream and asked.content.get("background"):
            raise _in_background()
        routed = self._router.routes(caller, asked.model)
        model = None if routed else self._directory.find(caller, asked.model)
        told = passed_up(headers, identity)
        order = Order(path, told, body, asked.content, asked.stream, asked.model, identity.decode(), bool(routed))
        project = routed[0] if routed else caller.bound or (model and model.project) or DEFAULT_PROJECT
        bill = Bill(caller, project, order, begun)
        counted = metrics.of_model(asked.model)
        counted.in_flight.inc()
        course = Course()
        try:
            await self._answer(bill, routed, model, headers.get(FALLBACKS), incoming, reply, course)
        except CallerGone:
            counted.hung_up.inc()
            course.left = True
        except Cut as error:
            counted.cut.inc()
            logger.warning("answer cut", model=asked.model, request=order.identity, problem=str(error))
            course.outcome.failed = True
            await reply.tell_break("The answer broke off at the model's side.")
        except Refusal as refusal:
            metrics.requests(asked.model, refusal.status).inc()
            course.outcome.failed = True
            raise
        else:
            metrics.requests(asked.model, reply.status).inc()
        finally:
            counted.in_flight.dec()
            self._accounts.settle(bill, course, reply)
            if span is not NO_SPAN:
                _tell_trace(span, bill, course, reply)

    async def _answer(
        self,
        bill: Bill,
        routed: tuple[str, RouteSettings] | None,
        model: Model | None,
        fallbacks: bytes | None,
        incoming: Incoming,
        reply: Reply,
        course: Course,
    ) -> None:
        seconds = self._bounds.whole_seconds
        try:
            with incoming.while_there(seconds):
                models = await self._models(bill, routed, model, fallbacks, reply, course)
                if len(bill.order.body) > SMALL_BYTES:
                    _hold_copies(incoming, bill.order, models)
                await self._accounts.admit(bill, models, reply)
                of_engines = any(one.served is not None for one in models)
                affinity = bodies.affinity(bill.order.content) if of_engines else None
                await self._tries.answer(models, bill.order, affinity, reply, course)
        except TooLong:
            message = f"The whole answer took longer than {seconds:g} seconds."
            if reply.started:
                raise Cut(message) from None
            raise Refusal(504, message, code="timeout") from None

    async def _models(
        self,
        bill: Bill,
        routed: tuple[str, RouteSettings] | None,
        model: Model | None,
        fallbacks: bytes | None,
        reply: Reply,
        course: Course,
    ) -> tuple[Model, ...]:
        """Whom the request is offered to, one after the other."""
        if routed is None:
            assert model is not None
            return self._in_place(bill.caller, model, fallbacks)
        order = bill.order
        decides_from = time.perf_counter()
        try:
            made = await self._router.decide(bill.caller, bill.project, order.model, routed[1], order)
        except Refusal as refusal:
            bill.refused = refusal.code != NO_MODEL
            raise
        bill.made = made
        bill.grants.append(made.held)
        if made.judged:
            course.not_ours += time.perf_counter() - decides_from
        reply.tells(b"x-imts-decision-id", made.id.encode())
        reply.meanwhile(self._router.rehearsal.again)
        names = made.in_order()
        if fallbacks is not None:
            names = [names[0], *(name for name in _named(fallbacks) if name != names[0])]
        found = tuple(filter(None, (self._directory.find_if_there(bill.caller, name) for name in names)))
        if not found:
            raise Refusal(404, f"The model `{names[0]}` is there no more.", code="model_not_found", param="model")
        return found

    def _in_place(self, caller: Caller, model: Model, told: bytes | None) -> tuple[Model, ...]:
        """The model, and those that take its place in their order: the caller's own, or the configured ones unless the
        caller wants none."""
        if told is None:
            if not model.fallbacks:
                return (model,)
            names = model.fallbacks
        else:
            names = _named(told)
        found = (self._directory.find_if_there(caller, name) for name in names)
        return (model, *(other for other in found if other is not None and other is not model))


def _hold_copies(incoming: Incoming, order: Order, models: Sequence[Model]) -> None:
    """With the name of another model, with the question for a stream's usage, and in an upstream's words."""
    copies = int(any(model.name != order.model for model in models))
    copies += order.stream and not order.hears_usage
    copies += max([copies_made(offer.target, model.name) for model in models for offer in model.offers], default=0)
    for _ in range(copies):
        incoming.copies(order.body)


def _in_background() -> Refusal:
    message = "An answer in the background could not be fetched afterwards: leave `background` out, or stream it."
    return Refusal(400, message, code="background_not_supported", param="background")


def _named(told: bytes) -> tuple[str, ...]:
    """Of the header x-imts-fallbacks."""
    text = told.decode("latin-1").strip()
    names = () if text.lower() == NO_FALLBACKS else tuple(filter(None, map(str.strip, text.split(","))))
    if len(names) > MOST_FALLBACKS:
        raise Refusal(
            400, f"At most {MOST_FALLBACKS} models may be named in x-imts-fallbacks.", code="too_many_fallbacks"
        )
    return names


def _tell_trace(span: Span, bill: Bill, course: Course, reply: Reply) -> None:
    tokens = course.outcome.tokens
    told = {
        "http.response.status_code": reply.status or None,
        "imts.project": bill.project,
        "imts.key.id": bill.caller.key_id,
        "imts.decision.id": bill.made.id if bill.made else None,
        "gen_ai.request.model": bill.order.model,
        "gen_ai.response.model": course.model.name if course.model else None,
        "gen_ai.usage.input_tokens": tokens.input,
        "gen_ai.usage.output_tokens": tokens.output,
    }
    answered(span, told, failed=not course.left and (course.outcome.failed or reply.status >= 500))
