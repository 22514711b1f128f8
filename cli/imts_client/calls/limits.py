"""What keys and projects may ask of models, what of their requests is kept, and what they have used."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from imts_client.calls.call import Call, Listing, path, query

if TYPE_CHECKING:
    from imts_shared.contracts.access import Project
    from imts_shared.contracts.limits import Limits, LimitsAnswer
    from imts_shared.contracts.usage import UsageLine

Holder = Literal["keys", "projects"]
ANSWER = "limits.LimitsAnswer"


def get(holder: Holder, name: str) -> "Call[LimitsAnswer]":
    return Call("GET", path(holder, name, "limits"), ANSWER, repeatable=True)


def put(holder: Holder, name: str, limits: "Limits") -> "Call[LimitsAnswer]":
    return put_fields(holder, name, fields_of(limits))


def put_fields(holder: Holder, name: str, fields: Mapping[str, Any]) -> "Call[LimitsAnswer]":
    return Call("PUT", path(holder, name, "limits"), ANSWER, json=dict(fields), repeatable=True)


def fields_of(limits: "Limits") -> dict[str, Any]:
    return limits.model_dump(mode="json", by_alias=True)


def set_request_log(project: str, level: str) -> "Call[Project]":
    body = query(level=level)
    return Call("PUT", path("projects", project, "requestLog"), "access.Project", json=body, repeatable=True)


def usage(
    by: Sequence[str] = (),
    since: date | None = None,
    until: date | None = None,
    *,
    project: str | None = None,
    key: str | None = None,
    model: str | None = None,
    upstream: str | None = None,
    limit: int | None = None,
) -> "Listing[UsageLine]":
    days = {name: day.isoformat() for name, day in (("from", since), ("to", until)) if day is not None}
    params = query(by=",".join(by) or None, project=project, key=key, model=model, upstream=upstream, limit=limit)
    return Listing(path("usage"), "usage.UsagePage", "usage.UsageLine", params | days)
