"""What the gateway answers beside OpenAI's paths: a plain chat, and the routing alone for those who ask models
themselves."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import Field, ValidationError, model_validator

from imts_shared.contracts.base import Request
from imts_shared.contracts.faults import fault
from imts_shared.contracts.routes import AUTO, Feedback, FeedbackRequest, ResultRequest, RouteSettings
from inference_service.gateway.accounts import Accounts
from inference_service.gateway.directory import Caller, Directory, may_ask
from inference_service.gateway.door import Door
from inference_service.gateway.elsewhere import Elsewhere
from inference_service.gateway.errors import Cut, Refusal
from inference_service.gateway.learners import Learners
from inference_service.gateway.orders import CHAT, Order
from inference_service.gateway.replay import EvaluateRequest, Replay
from inference_service.gateway.reply import Reply
from inference_service.gateway.requests import Incoming, read_json
from inference_service.gateway.router import Router, rating, reported
from inference_service.gateway.targets import Offer
from inference_service.gateway.within import Given, Heard

_Asked = TypeVar("_Asked", bound=Request)
SMALL_BODY_SECONDS = 30.0
ANALYZE = "/api/routing/analyze"
ANALYZE_BYTES = 8 * 2**20
"""A query of as many characters as it may have, however they are written."""
NOTE_BYTES = 256 * 2**10
MOST_COST = 1e9
MOST_TOKENS = 10**12
"""Of one request: more would be nobody's, and would spoil all statistics."""


class AnalyzeRequest(Request):
    query: str | None = Field(None, min_length=1, max_length=1_000_000)
    messages: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=10_000)
    tools: list[dict[str, Any]] | None = None
    route: str = AUTO

    @model_validator(mode="after")
    def one_of_both(self) -> "AnalyzeRequest":
        if (self.query is None) == (self.messages is None):
            raise ValueError("give query or messages, and not both")
        return self

    def content(self) -> dict[str, Any]:
        messages = self.messages or [{"role": "user", "content": self.query}]
        return {"messages": messages, **({"tools": self.tools} if self.tools else {})}


class ChatRequest(Request):
    message: str | None = Field(None, min_length=1, max_length=1_000_000)
    messages: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=10_000)
    model: str = AUTO
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)

    @model_validator(mode="after")
    def one_of_both(self) -> "ChatRequest":
        if (self.message is None) == (self.messages is None):
            raise ValueError("give message or messages, and not both")
        return self


class Api:
    def __init__(
        self,
        directory: Directory,
        door: Door,
        router: Router,
        learners: Learners,
        accounts: Accounts,
        elsewhere: Elsewhere,
        replay: Replay,
        body_bytes: int,
    ) -> None:
        self._directory = directory
        self._door = door
        self._router = router
        self._learners = learners
        self._accounts = accounts
        self._elsewhere = elsewhere
        self._replay = replay
        self._body_bytes = body_bytes
        self.posts: dict[str, Callable[[Caller, bytes, Reply], Awaitable[None]]] = {
            ANALYZE: self._analyze,
            "/api/routing/feedback": self._feedback,
            "/api/routing/report": self._report,
        }

    async def post(self, path: str, headers: Mapping[bytes, bytes], incoming: Incoming, reply: Reply) -> None:
        caller = self._caller(headers)
        may_ask(caller)
        body = await incoming.read(headers, ANALYZE_BYTES if path == ANALYZE else NOTE_BYTES, SMALL_BODY_SECONDS)
        await self.posts[path](caller, body, reply)

    async def evaluate(self, headers: Mapping[bytes, bytes], incoming: Incoming, reply: Reply) -> None:
        caller = self._caller(headers)
        body = await incoming.read(headers, NOTE_BYTES, SMALL_BODY_SECONDS)
        asked = _understood(EvaluateRequest, body)
        project, settings = self._route(caller, asked.route)
        told = {"authorization": headers[b"authorization"].decode("latin-1")}
        with incoming.while_there():
            found = await self._replay.value(told, project, asked, settings)
        await _json(reply, found)

    async def stats(self, headers: Mapping[bytes, bytes], query: str, reply: Reply) -> None:
        caller = self._caller(headers)
        wanted = dict(part.partition("=")[::2] for part in query.split("&")).get("route")
        routes = [
            {"name": name, "project": project, **learner.stats()}
            for project, name, learner in self._learners.all()
            if caller.bound in (None, project) and wanted in (None, "", name)
        ]
        await _json(reply, {"routes": routes})

    async def models(self, headers: Mapping[bytes, bytes], reply: Reply) -> None:
        caller = self._caller(headers)
        found = []
        for model in self._directory.models(caller):
            served = model.served
            found.append(
                {
                    "name": model.name,
                    "project": model.project,
                    "state": "ready" if model.engines or model.offers else served.state if served else "failed",
                    "adapter": bool(served and served.adapter),
                    "upstreams": [
                        *(
                            {"kind": "deployment", "name": one.replica, "free": not one.failures}
                            for one in model.engines
                        ),
                        *(_offer(one) for one in model.offers),
                    ],
                    "fallbacks": list(model.fallbacks),
                }
            )
        project = self._directory.project_of(caller)
        await _json(reply, {"models": found, "routes": sorted({AUTO, *self._directory.routes(project)})})

    def _caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        return self._directory.caller(headers.get(b"authorization", b""), headers.get(b"openai-project"))

    async def _analyze(self, caller: Caller, body: bytes, reply: Reply) -> None:
        asked = _understood(AnalyzeRequest, body)
        project, settings = self._route(caller, asked.route)
        await self._accounts.admit_question(caller, project)
        order = Order(CHAT, {}, body, asked.content(), stream=False, model=asked.route, identity="analyze", routed=True)
        made = await self._router.analyze(caller, project, asked.route, settings, order)
        told = made.answer().model_dump(mode="json", by_alias=True, exclude={"context"})
        told["features"].pop("rows", None)
        await _json(reply, told)

    def _route(self, caller: Caller, name: str) -> tuple[str, RouteSettings]:
        found = self._router.routes(caller, name)
        if found is None:
            known = sorted({AUTO, *self._directory.routes(self._directory.project_of(caller))})
            message = f"There is no route `{name[:100]}` here: the routes are {', '.join(known)}."
            raise Refusal(404, message, code="unknown_route", param="route")
        return found

    async def _feedback(self, caller: Caller, body: bytes, reply: Reply) -> None:
        said = _understood(FeedbackRequest, body)
        if said.rating is None and said.comment is None and said.label is None:
            raise Refusal(400, "Feedback says a rating, a comment or a label.", code="invalid_request", param="rating")
        if said.label is not None and not said.label.strip():
            message = "label: must not be empty; a domain or simple, medium, hard teaches, anything else is kept."
            raise Refusal(400, message, code="invalid_request", param="label")
        for name, text in (("comment", said.comment), ("label", said.label)):
            if "\0" in (text or ""):
                raise Refusal(400, f"{name}: must not contain U+0000.", code="invalid_request", param=name)
        await self._take(caller, rating(caller, said), reply)

    async def _report(self, caller: Caller, body: bytes, reply: Reply) -> None:
        said = _understood(ResultRequest, body)
        for name, value, most in (
            ("cost", said.cost, MOST_COST),
            ("inputTokens", said.input_tokens, MOST_TOKENS),
            ("outputTokens", said.output_tokens, MOST_TOKENS),
        ):
            if value is not None and value > most:
                raise Refusal(400, f"{name}: must be at most {most:g}.", code="invalid_request", param=name)
        await self._take(caller, reported(caller, said), reply)

    async def _take(self, caller: Caller, feedback: Feedback, reply: Reply) -> None:
        made = self._router.find(caller, feedback.decision_id)
        if made is not None:
            self._router.take(made, feedback)
        else:
            await self._elsewhere.take(feedback)
        await _json(reply, {"decisionId": feedback.decision_id, "accepted": True})

    async def chat(self, headers: Mapping[bytes, bytes], identity: bytes, incoming: Incoming, reply: Reply) -> None:
        """A chat completion in few words."""
        may_ask(self._caller(headers))
        body = await incoming.read(headers, self._body_bytes, SMALL_BODY_SECONDS)
        asked = _understood(ChatRequest, body)
        content: dict[str, Any] = {
            "model": asked.model,
            "messages": asked.messages or [{"role": "user", "content": asked.message}],
        }
        content |= {
            name: value for name in ("max_tokens", "temperature") if (value := getattr(asked, name)) is not None
        }
        heard = Heard()
        inner = Reply(heard, identity)
        kept = {name: value for name, value in headers.items() if name not in {b"content-length", b"content-encoding"}}
        try:
            asked_within = incoming.same_caller(Given(orjson.dumps(content)))
        except orjson.JSONEncodeError:
            raise Refusal(400, "messages: nested too deeply: use fewer levels.", code="invalid_json") from None
        try:
            await self._door.serve(CHAT, kept, identity, asked_within, inner)
        except Cut:
            raise Refusal(502, "The answer broke off at the model's side.", code="engine_failed") from None
        finally:
            asked_within.let_go()
        if heard.status != 200:
            await reply.whole(heard.status, b"application/json", heard.whole, heard.said(b"retry-after"))
            return
        try:
            answer = orjson.loads(heard.whole)
            message = dict(answer["choices"][0]["message"])
            told = {
                "model": heard.one(b"x-imts-model") or answer.get("model"),
                "content": message.get("content"),
                "toolCalls": message.get("tool_calls"),
                "decisionId": heard.one(b"x-imts-decision-id"),
                "usage": answer.get("usage"),
            }
            body = orjson.dumps(told)
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
            message_told = "The model's answer is no chat completion."
            raise Refusal(502, message_told, code="engine_failed") from None
        await reply.whole(200, b"application/json", body)


def _offer(offer: Offer) -> dict[str, Any]:
    target = offer.target
    return {
        "kind": "provider",
        "name": target.name,
        "weight": offer.weight,
        "free": not target.failures,
        "inputPrice": target.prices.input,
        "outputPrice": target.prices.output,
    }


def _understood(kind: type[_Asked], body: bytes) -> _Asked:
    content = read_json(body)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = [str(part) for part in first["loc"]]
        said = fault(".".join(path) or "body", first, path, kind)
        message = f"{said.field}: {said.message}."
        told = f"{message[:500]} {said.hint}" if said.hint else message[:500]
        raise Refusal(400, told, code="invalid_request", param=said.field[:200] if path else None) from None


async def _json(reply: Reply, content: dict[str, Any]) -> None:
    await reply.whole(200, b"application/json", orjson.dumps(content))
