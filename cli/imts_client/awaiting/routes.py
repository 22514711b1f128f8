"""Routes, and the gateway's routing for whoever asks models by a proxy of their own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from imts_client.answers import Accepted, ChatAnswer, Evaluation, RoutingStats
from imts_client.awaiting.gateway import AsyncGateway
from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import routes as calls
from imts_shared.contracts.routes import (
    Decision,
    DecisionLine,
    Route,
    RouteRequest,
    RouteSettings,
)


class AsyncRoutes:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, request: RouteRequest) -> Route:
        return await self._transport.send(calls.create(request))

    def list(self, *, project: str | None = None, most: int | None = None) -> AsyncIterator[Route]:
        return self._transport.every(calls.find(project), most)

    async def get(self, name: str, *, project: str | None = None) -> Route:
        return await self._transport.send(calls.get(name, project))

    async def put(self, name: str, settings: RouteSettings, *, project: str | None = None) -> Route:
        """All settings anew: what is left out gets its default."""
        return await self._transport.send(calls.put(name, settings, project))

    async def delete(self, name: str, *, project: str | None = None) -> None:
        await self._transport.send(calls.delete(name, project))


class AsyncRouting:
    """Whoever asks models by a proxy of their own needs two of these calls:

    decision = await client.routing.analyze("What is the notice period?")
    answer = await ask(decision.model)
    await client.routing.report(decision.decision_id, latency_seconds=answer.seconds, cost=answer.cost)

    `project` names whose routes and models are meant where the key is of all projects; a decision's id is enough for
    what is said of it.
    """

    def __init__(self, transport: AsyncTransport, gateway: AsyncGateway) -> None:
        self._transport = transport
        self._gateway = gateway

    async def analyze(
        self,
        query: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        route: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        project: str | None = None,
    ) -> Decision:
        """Which model shall answer, and why; `auto` is the route unless one is named."""
        return await self._gateway.send(calls.analyze(query, messages, route, tools, project))

    async def report(
        self,
        decision_id: str,
        *,
        failed: bool = False,
        cost: float | None = None,
        latency_seconds: float | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
    ) -> Accepted:
        """What came of a decision that was asked for."""
        call = calls.report(decision_id, failed, cost, latency_seconds, input_tokens, output_tokens)
        return await self._gateway.send(call)

    async def feedback(
        self, decision_id: str, *, rating: int | None = None, comment: str | None = None, label: str | None = None
    ) -> Accepted:
        """`rating`: 1 to 5. `label`: what the request really was, a domain, or simple, medium, hard."""
        return await self._gateway.send(calls.feedback(decision_id, rating, comment, label))

    async def stats(self, *, route: str | None = None, project: str | None = None) -> RoutingStats:
        return await self._gateway.send(calls.stats(route, project))

    async def evaluate(
        self,
        *,
        policies: Sequence[str],
        route: str = "auto",
        since: date | datetime | None = None,
        until: date | datetime | None = None,
        project: str | None = None,
    ) -> Evaluation:
        """What other policies would have been worth on the decisions that are kept. A policy is `fixed:MODEL`,
        `uniform`, `cheapest` or `learner`."""
        return await self._gateway.send(calls.evaluate(route, policies, since, until, project))

    async def chat(
        self,
        message: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        project: str | None = None,
    ) -> ChatAnswer:
        """One answer and who gave it; the route `auto` chooses unless a model or route is named."""
        return await self._gateway.send(calls.chat(message, messages, model, project))

    def decisions(
        self,
        *,
        route: str | None = None,
        model: str | None = None,
        since: date | datetime | None = None,
        until: date | datetime | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> AsyncIterator[DecisionLine]:
        return self._transport.every(calls.decisions(route, model, since, until, project), most)

    async def decision(self, decision_id: str) -> DecisionLine:
        return await self._transport.send(calls.decision(decision_id))
