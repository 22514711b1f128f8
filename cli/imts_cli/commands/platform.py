"""The platform as the commands see it: plain JSON in and out, connected when first needed."""

import functools
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imts_client.calls import Call, Listing
from imts_client.errors import ConnectionFailed, ServerFault

if TYPE_CHECKING:
    from imts_client.blocking.transport import Transport

PAGE = 500
PATIENCE_SECONDS = 600.0

AsJson = Annotated[bool, typer.Option("--json", help="Print the server's JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most.")]
All = Annotated[bool, typer.Option("--all", help="Everything, however many.")]
InProject = Annotated[str | None, typer.Option("--project", help="The key's own project unless given.")]


@functools.cache
def transport() -> "Transport":
    from imts_client.blocking.transport import Transport
    from imts_client.where import find

    return Transport(find())


@functools.cache
def gateway() -> "Transport":
    from imts_client.blocking.transport import Transport
    from imts_client.where import find, find_gateway

    return Transport(find_gateway(find()))


def ask_gateway(call: Call[Any]) -> Any:
    return gateway().fetch(call)


def fetch(call: Call[Any]) -> Any:
    return transport().fetch(call)


def patiently(call: Call[Any]) -> Any:
    """For who watches: a platform that is away for a while is waited for."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return fetch(call)
        except (ConnectionFailed, ServerFault):
            if time.monotonic() > until:
                raise
            time.sleep(1)


def fetch_list(listing: Listing[Any], most: int | None) -> dict[str, Any]:
    """One document like the server's, over as many pages as it takes; its nextCursor goes on where it ends."""
    from imts_client.exchange import items_of

    items: list[Any] = []
    cursor: str | None = None
    while True:
        size = PAGE if most is None else min(PAGE, most - len(items))
        asked = replace(listing, params={**listing.params, "limit": size})
        page: dict[str, Any] = fetch(asked.call(cursor))
        items += items_of(page)
        cursor = page.get("nextCursor")
        if cursor is None or (most is not None and len(items) >= most):
            return {**page, "items": items}


def print_json(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=2))


def print_json_line(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")), flush=True)
