"""Routes, what they decided, and the gateway's own answers about routing."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from imts_client.calls.call import Call, Listing, path, query

if TYPE_CHECKING:
    from imts_client.answers import Accepted, ChatAnswer, Evaluation, RoutingStats
    from imts_shared.contracts.routes import (
        Decision,
        DecisionLine,
        FeedbackRequest,
        ResultRequest,
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
) -> "Call[Decision]":
    """To the gateway. Repeatable: a decision that nobody heard of is never reported on."""
    body: dict[str, Any] = {"messages": list(messages)} if messages is not None else {"query": query_text or ""}
    body |= query(route=route, tools=[dict(tool) for tool in tools or ()])
    return Call("POST", path("routing", "analyze"), DECISION, json=body, repeatable=True)


def report(request: "ResultRequest") -> "Call[Accepted]":
    """To the gateway. Not repeatable: it would be learned from twice."""
    return Call("POST", path("routing", "report"), "answers.Accepted", json=_plain(request))


def feedback(request: "FeedbackRequest") -> "Call[Accepted]":
    return feedback_fields(_plain(request))


def feedback_fields(fields: Mapping[str, Any]) -> "Call[Accepted]":
    """To the gateway. Not repeatable: it would be learned from twice."""
    return Call("POST", path("routing", "feedback"), "answers.Accepted", json=dict(fields))


def stats(route: str | None = None) -> "Call[RoutingStats]":
    """To the gateway."""
    return Call("GET", path("routing", "stats"), "answers.RoutingStats", query(route=route), repeatable=True)


def evaluate(
    route: str, policies: Sequence[str], since: Moment | None = None, until: Moment | None = None
) -> "Call[Evaluation]":
    """To the gateway. Repeatable: it changes nothing."""
    body = {"route": route, "policies": list(policies)} | _span(since, until)
    address = path("routing", "evaluate")
    return Call("POST", address, "answers.Evaluation", json=body, repeatable=True, read_seconds=EVALUATION_SECONDS)


def chat(
    message: str | None = None, messages: Sequence[Message] | None = None, model: str | None = None
) -> "Call[ChatAnswer]":
    """To the gateway."""
    body: dict[str, Any] = {"messages": list(messages)} if messages is not None else {"message": message or ""}
    body |= query(model=model)
    return Call("POST", path("chat"), "answers.ChatAnswer", json=body, read_seconds=ANSWER_SECONDS)


def _span(since: Moment | None, until: Moment | None) -> dict[str, str]:
    """A day is UTC's, from its begin to its end."""
    ends = (("from", since, time.min), ("to", until, time.max))
    return {name: _aware(at, of_day).isoformat() for name, at, of_day in ends if at is not None}


def _aware(at: Moment, of_day: time) -> datetime:
    if not isinstance(at, datetime):
        return datetime.combine(at, of_day, UTC)
    return at if at.tzinfo else at.astimezone()


def _plain(request: "RouteSettings | ResultRequest | FeedbackRequest") -> dict[str, Any]:
    return request.model_dump(mode="json", by_alias=True, exclude_unset=True)
