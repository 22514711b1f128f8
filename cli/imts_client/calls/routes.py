"""Routes, what they decided, and the gateway's own answers about routing."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from imts_client.calls.call import Call, Listing, path, query

if TYPE_CHECKING:
    from imts_client.answers import Accepted, ChatAnswer, Evaluation, RoutingStats
    from imts_shared.contracts.routes import (
        Decision,
        DecisionLine,
        Route,
        RouteRequest,
        RouteSettings,
    )

ROUTE = "routes.Route"
DECISION = "routes.Decision"
KEPT = "routes.DecisionLine"
ANSWER_SECONDS = 600.0
EVALUATION_SECONDS = 600.0

Moment = date | datetime
Message = Mapping[str, Any]


def create(request: "RouteRequest") -> "Call[Route]":
    return create_fields(_plain(request))


def create_fields(fields: Mapping[str, Any]) -> "Call[Route]":
    """Not repeatable: the second would be refused, for the name is taken by the first."""
    return Call("POST", path("routes"), ROUTE, json=dict(fields))


def find(project: str | None = None, limit: int | None = None) -> "Listing[Route]":
    return Listing(path("routes"), "routes.RoutePage", ROUTE, query(project=project, limit=limit))


def get(name: str, project: str | None = None) -> "Call[Route]":
    return Call("GET", path("routes", name), ROUTE, query(project=project), repeatable=True)


def put(name: str, settings: "RouteSettings", project: str | None = None) -> "Call[Route]":
    return put_fields(name, _plain(settings), project)


def put_fields(name: str, fields: Mapping[str, Any], project: str | None = None) -> "Call[Route]":
    params = query(project=project)
    return Call("PUT", path("routes", name), ROUTE, params, json=dict(fields), repeatable=True)


def delete(name: str, project: str | None = None) -> "Call[None]":
    return Call("DELETE", path("routes", name), params=query(project=project), repeatable=True)


def decisions(
    route: str | None = None,
    model: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    project: str | None = None,
    limit: int | None = None,
) -> "Listing[DecisionLine]":
    params = query(route=route, model=model, project=project, limit=limit) | _span(since, until)
    return Listing(path("routing", "decisions"), "routes.DecisionPage", KEPT, params)


def decision(decision_id: str) -> "Call[DecisionLine]":
    return Call("GET", path("routing", "decisions", decision_id), KEPT, repeatable=True)


def analyze(
    query_text: str | None = None,
    messages: Sequence[Message] | None = None,
    route: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    project: str | None = None,
) -> "Call[Decision]":
    """To the gateway. Repeatable: a decision that nobody heard of is never reported on."""
    body = _said("query", query_text, messages) | query(route=route, tools=[dict(tool) for tool in tools or ()])
    address = path("routing", "analyze")
    return Call("POST", address, DECISION, json=body, headers=_of(project), repeatable=True)


def report(
    decision_id: str,
    failed: bool = False,
    cost: float | None = None,
    latency_seconds: float | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
) -> "Call[Accepted]":
    """To the gateway. Not repeatable: it would be learned from twice."""
    figures = query(cost=cost, latencySeconds=latency_seconds, inputTokens=input_tokens, outputTokens=output_tokens)
    body = {"decisionId": decision_id, "failed": failed, **figures}
    return Call("POST", path("routing", "report"), "answers.Accepted", json=body)


def feedback(
    decision_id: str, rating: int | None = None, comment: str | None = None, label: str | None = None
) -> "Call[Accepted]":
    """To the gateway. Not repeatable: it would be learned from twice."""
    body = {"decisionId": decision_id, **query(rating=rating, comment=comment, label=label)}
    return Call("POST", path("routing", "feedback"), "answers.Accepted", json=body)


def stats(route: str | None = None, project: str | None = None) -> "Call[RoutingStats]":
    """To the gateway."""
    address = path("routing", "stats")
    return Call("GET", address, "answers.RoutingStats", query(route=route), headers=_of(project), repeatable=True)


def evaluate(
    route: str,
    policies: Sequence[str],
    since: Moment | None = None,
    until: Moment | None = None,
    project: str | None = None,
) -> "Call[Evaluation]":
    """To the gateway. Repeatable: it changes nothing."""
    return Call(
        "POST",
        path("routing", "evaluate"),
        "answers.Evaluation",
        json={"route": route, "policies": list(policies)} | _span(since, until),
        headers=_of(project),
        repeatable=True,
        read_seconds=EVALUATION_SECONDS,
    )


def chat(
    message: str | None = None,
    messages: Sequence[Message] | None = None,
    model: str | None = None,
    project: str | None = None,
) -> "Call[ChatAnswer]":
    """To the gateway."""
    body = _said("message", message, messages) | query(model=model)
    headers = _of(project)
    return Call("POST", path("chat"), "answers.ChatAnswer", json=body, headers=headers, read_seconds=ANSWER_SECONDS)


def _said(name: str, text: str | None, messages: Sequence[Message] | None) -> dict[str, Any]:
    """Both where both are given: the gateway says that it takes one."""
    told: dict[str, Any] = {} if messages is None else {"messages": list(messages)}
    return told if messages is not None and text is None else told | {name: text or ""}


def _of(project: str | None) -> dict[str, str]:
    """For a key of all projects: whose routes and models are meant. Quoted, for a header holds little else."""
    return {"OpenAI-Project": quote(project, safe="")} if project else {}


def _span(since: Moment | None, until: Moment | None) -> dict[str, str]:
    """A day is UTC's, from its begin to its end."""
    ends = (("from", since, time.min), ("to", until, time.max))
    return {name: _aware(at, of_day).isoformat() for name, at, of_day in ends if at is not None}


def _aware(at: Moment, of_day: time) -> datetime:
    if not isinstance(at, datetime):
        return datetime.combine(at, of_day, UTC)
    return at if at.tzinfo else at.astimezone()


def _plain(request: "RouteSettings") -> dict[str, Any]:
    return request.model_dump(mode="json", by_alias=True, exclude_unset=True)
