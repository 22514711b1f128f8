"""The stand-in's providers, limits, usage, routes and routing. What is sent has to be what the contracts say."""

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from imts_shared.contracts.access import RequestLogRequest
from imts_shared.contracts.limits import Limits, LimitsAnswer
from imts_shared.contracts.providers import Provider, ProviderChange, ProviderRequest
from imts_shared.contracts.routes import (
    Decision,
    FeedbackRequest,
    ResultRequest,
    Route,
    RouteRequest,
    RouteSettings,
)
from imts_shared.contracts.usage import UsageLine, UsagePage
from tests.cli.shapes import now, page, problem

if TYPE_CHECKING:
    from tests.cli.stand_in import Platform

COUNTS = ("requests", "failed", "inputTokens", "cachedTokens", "outputTokens", "estimatedTokens", "totalTokens", "cost")


@dataclass
class Gateway:
    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent_keys: list[str | None] = field(default_factory=list)
    limits: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    routes: dict[str, dict[str, Any]] = field(default_factory=dict)
    usage: list[dict[str, Any]] = field(default_factory=list)
    asked_usage: dict[str, str] = field(default_factory=dict)
    analyzed: list[dict[str, Any]] = field(default_factory=list)
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    reports: list[ResultRequest] = field(default_factory=list)
    feedback: list[FeedbackRequest] = field(default_factory=list)
    evaluated: list[dict[str, Any]] = field(default_factory=list)
    projects: list[tuple[str, str | None]] = field(default_factory=list)
    """What was asked, and the project that its header named."""
    refusal: tuple[int, dict[str, Any]] | None = None
    """What the routing endpoints answer instead, in OpenAI's shape."""

    def decide(self, route: str = "auto", **more: Any) -> dict[str, Any]:
        decision = {
            "decisionId": f"d-{len(self.decisions) + 1}", "model": "qwen3", "route": route, "project": "default",
            "policy": "thompson", "at": now(), "reason": "cheapest of 2 that reach quality 0.8 for German law",
            "features": {"language": "de", "domain": "law", "complexity": 0.62, "complexityClass": "hard",
                         "lengthTokens": 1_234, "lengthClass": "long", "tools": 2, "code": True, "structured": False,
                         "confidence": 0.912},
            "context": [1.0, 0.5],
            "candidates": [
                {"model": "gpt-5-mini", "score": 0.81, "propensity": 0.25, "quality": 0.86, "cost": 0.00123,
                 "latencySeconds": 1.26},
                {"model": "qwen3", "score": 0.9, "propensity": 0.75, "quality": 0.82, "cost": 0.0002,
                 "latencySeconds": 0.4},
                {"model": "brand-new", "score": 0.1, "propensity": 0.0},
            ],
        } | more  # fmt: skip
        self.decisions[str(decision["decisionId"])] = decision
        return shown(Decision, decision)


def shown(kind: type[BaseModel], content: dict[str, Any]) -> dict[str, Any]:
    return kind.model_validate(content).model_dump(mode="json", by_alias=True)


def refused(error: ValidationError) -> JSONResponse:
    faults = [
        {"field": ".".join(str(part) for part in one["loc"]), "code": one["type"], "message": one["msg"]}
        for one in error.errors(include_input=False)
    ]
    first = faults[0]
    detail = f"{first['field']}: {first['message']}."
    return problem(422, "invalid_request", detail, field=first["field"], errors=faults)


def openai_error(status: int, message: str, code: str, **more: Any) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code} | more
    return JSONResponse({"error": error}, status)


def add_gateway(app: FastAPI, platform: "Platform") -> None:
    app.add_exception_handler(ValidationError, _refuse)
    _providers(app, platform)
    _limits(app, platform)
    _routes(app, platform)
    _routing(app, platform)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    return refused(error)


def _providers(app: FastAPI, platform: "Platform") -> None:
    def found(named: str) -> dict[str, Any] | None:
        return next((one for one in platform.gateway.providers.values() if named in (one["id"], one["name"])), None)

    def absent(named: str) -> JSONResponse:
        return problem(404, "unknown_provider", f"There is no provider {named!r} here.")

    def keep(one: dict[str, Any], asked: ProviderRequest | ProviderChange) -> dict[str, Any]:
        told = asked.model_dump(mode="json", by_alias=True, exclude_unset=isinstance(asked, ProviderChange))
        if "apiKey" in told:
            platform.gateway.sent_keys.append(asked.api_key.get_secret_value() if asked.api_key else None)
            one["hasApiKey"] = asked.api_key is not None
        one |= {name: value for name, value in told.items() if name != "apiKey"} | {"updatedAt": now()}
        platform.gateway.providers[one["id"]] = one
        return shown(Provider, one)

    @app.post("/api/providers")
    async def create(request: Request) -> Any:
        asked = ProviderRequest.model_validate(await request.json())
        if found(asked.name):
            return problem(409, "name_taken", f"There is a provider {asked.name!r} already.")
        return JSONResponse(keep({"id": str(uuid.uuid4()), "createdAt": now(), "problem": None}, asked), 201)

    @app.get("/api/providers")
    async def listed(request: Request) -> Any:
        return page([shown(Provider, one) for one in platform.gateway.providers.values()], request)

    @app.get("/api/providers/{named}")
    async def show(named: str) -> Any:
        one = found(named)
        return shown(Provider, one) if one else absent(named)

    @app.patch("/api/providers/{named}")
    async def change(named: str, request: Request) -> Any:
        one = found(named)
        return keep(one, ProviderChange.model_validate(await request.json())) if one else absent(named)

    @app.delete("/api/providers/{named}")
    async def delete(named: str) -> Any:
        one = found(named)
        if one is None:
            return absent(named)
        del platform.gateway.providers[one["id"]]
        return Response(status_code=204)

    @app.post("/api/providers/{named}/check")
    async def check(named: str) -> Any:
        one = found(named)
        if one is None:
            return absent(named)
        if not one["hasApiKey"]:
            return {"ok": False, "message": "It answered 401: the key is missing or wrong.", "models": []}
        return {"ok": True, "message": "It answered in 0.2 s with 2 models.", "models": ["gpt-5-mini", "gpt-5"]}


def _limits(app: FastAPI, platform: "Platform") -> None:
    def answer(kind: str, name: str) -> dict[str, Any]:
        limits = platform.gateway.limits.get((kind, name), {})
        spent = {"period": limits.get("budgetPeriod", "month"), "since": "2026-11-01T00:00:00Z", "requests": 1_234,
                 "tokens": 1_250_000, "money": 12.5}  # fmt: skip
        return shown(LimitsAnswer, {"limits": limits, "spent": spent})

    @app.get("/api/{kind}/{name}/limits")
    async def show(kind: str, name: str) -> Any:
        return answer(kind, name)

    @app.put("/api/{kind}/{name}/limits")
    async def put(kind: str, name: str, request: Request) -> Any:
        platform.gateway.limits[kind, name] = shown(Limits, await request.json())
        return answer(kind, name)

    @app.put("/api/projects/{name}/requestLog")
    async def level(name: str, request: Request) -> Any:
        platform.gateway.levels[name] = RequestLogRequest.model_validate(await request.json()).level
        return {"name": name, "maxRunningJobs": None, "maxQueuedJobs": None, "createdAt": now(),
                "requestLog": platform.gateway.levels[name]}  # fmt: skip

    @app.get("/api/usage")
    async def usage(request: Request) -> Any:
        platform.gateway.asked_usage = dict(request.query_params)
        lines = [shown(UsageLine, one) for one in platform.gateway.usage]
        total = {name: sum(line[name] for line in lines) for name in COUNTS}
        return shown(UsagePage, page(lines, request, total=total))


def _routes(app: FastAPI, platform: "Platform") -> None:
    def absent(name: str) -> JSONResponse:
        return problem(404, "unknown_route", f"There is no route {name!r} here.")

    @app.post("/api/routes")
    async def create(request: Request) -> Any:
        asked = RouteRequest.model_validate(await request.json()).model_dump(mode="json", by_alias=True)
        route = asked | {"project": asked["project"] or "default", "createdAt": now(), "updatedAt": now()}
        platform.gateway.routes[asked["name"]] = route
        return JSONResponse(shown(Route, route), 201)

    @app.get("/api/routes")
    async def listed(request: Request) -> Any:
        return page([shown(Route, one) for one in platform.gateway.routes.values()], request)

    @app.get("/api/routes/{name}")
    async def show(name: str) -> Any:
        return shown(Route, platform.gateway.routes[name]) if name in platform.gateway.routes else absent(name)

    @app.put("/api/routes/{name}")
    async def put(name: str, request: Request) -> Any:
        if name not in platform.gateway.routes:
            return absent(name)
        platform.gateway.routes[name] |= shown(RouteSettings, await request.json()) | {"updatedAt": now()}
        return shown(Route, platform.gateway.routes[name])

    @app.delete("/api/routes/{name}")
    async def delete(name: str) -> Any:
        if platform.gateway.routes.pop(name, None) is None:
            return absent(name)
        return Response(status_code=204)


def _routing(app: FastAPI, platform: "Platform") -> None:
    def refusal() -> JSONResponse | None:
        if platform.gateway.refusal is None:
            return None
        status, error = platform.gateway.refusal
        return openai_error(status, **error)

    def heard(request: Request) -> None:
        platform.gateway.projects.append((request.url.path, request.headers.get("openai-project")))

    def unknown(decision_id: str) -> JSONResponse:
        return openai_error(404, f"No decision {decision_id!r} is known.", "unknown_decision", param="decisionId")

    @app.post("/api/routing/analyze")
    async def analyze(request: Request) -> Any:
        heard(request)
        body = await request.json()
        if len({"query", "messages"} & body.keys()) != 1:
            return openai_error(400, "give query or messages, and not both", "invalid_request")
        assert body.keys() <= {"query", "messages", "route", "tools"}
        platform.gateway.analyzed.append(body)
        return refusal() or platform.gateway.decide(body.get("route", "auto"))

    @app.post("/api/routing/report")
    async def report(request: Request) -> Any:
        heard(request)
        asked = ResultRequest.model_validate(await request.json())
        if asked.decision_id not in platform.gateway.decisions:
            return unknown(asked.decision_id)
        platform.gateway.reports.append(asked)
        return {"decisionId": asked.decision_id, "accepted": True}

    @app.post("/api/routing/feedback")
    async def feedback(request: Request) -> Any:
        heard(request)
        asked = FeedbackRequest.model_validate(await request.json())
        if asked.decision_id not in platform.gateway.decisions:
            return unknown(asked.decision_id)
        platform.gateway.feedback.append(asked)
        said = asked.model_dump(mode="json", by_alias=True) | {"at": now()}
        platform.gateway.decisions[asked.decision_id].setdefault("feedback", []).append(said)
        return {"decisionId": asked.decision_id, "accepted": True}

    @app.get("/api/routing/stats")
    async def stats(request: Request, route: str = "auto") -> Any:
        heard(request)
        known = {"model": "qwen3", "requests": 12_345, "failures": 3, "quality": 0.875, "qualityCount": 1_200,
                 "latency": 0.42, "cost": 0.0004}  # fmt: skip
        new = {"model": "brand-new", "requests": 0, "failures": 0, "quality": None, "qualityCount": 0,
               "latency": None, "cost": None}  # fmt: skip
        languages = [known | {"language": "zh", "failures": 0}]
        return {"routes": [{"name": route, "project": "default", "models": [known, new], "languages": languages}]}

    @app.post("/api/routing/evaluate")
    async def evaluate(request: Request) -> Any:
        heard(request)
        body = await request.json()
        assert body.keys() <= {"route", "policies", "from", "to"}
        platform.gateway.evaluated.append(body)
        values = [
            {"policy": policy, "value": 0.5 + number / 10, "standardError": 0.0123, "effectiveSamples": 1_500.4,
             "note": None}
            for number, policy in enumerate(body["policies"])
        ]  # fmt: skip
        values[0] |= {"value": None, "standardError": None, "effectiveSamples": 3,
                      "note": "Too few of the decisions could have been its own."}  # fmt: skip
        return {"decisions": 2_345, "policies": values, "note": "There are more: the newest count."}

    @app.post("/api/chat")
    async def chat(request: Request) -> Any:
        heard(request)
        body = await request.json()
        if len({"message", "messages"} & body.keys()) != 1:
            return openai_error(400, "give message or messages, and not both", "invalid_request")
        assert body.keys() <= {"message", "messages", "model"}
        return {"model": "qwen3", "content": f"You said: {body['message']}", "decisionId": "d-1",
                "usage": {"total_tokens": 7}}  # fmt: skip

    @app.get("/api/routing/decisions")
    async def listed(request: Request) -> Any:
        asked = request.query_params
        lines = [one for one in platform.gateway.decisions.values() if one["route"] == asked.get("route", one["route"])]
        return page(lines, request)

    @app.get("/api/routing/decisions/{decision_id}")
    async def show(decision_id: str) -> Any:
        found = platform.gateway.decisions.get(decision_id)
        return found or problem(404, "unknown_decision", f"There is no decision {decision_id!r} here.")
