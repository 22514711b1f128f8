"""Watching a deployment until it is ready, or has failed or stopped."""

import time
from collections.abc import Iterator
from typing import Any

from imts_cli.commands.exits import FAILED, HALTED, INTERRUPTED, OK, insistent, note
from imts_cli.commands.output import clean, clock
from imts_cli.commands.platform import patiently, print_json_line
from imts_cli.commands.views import View, view_for_stdout
from imts_client.calls import deployments as calls

LOOK_SECONDS = 0.5
PAGE = 100


def newest(deployment: str) -> int:
    """The number of what happened to it last, for who changes it and watches what comes of that."""
    seen = 0
    for event in _after(deployment, seen):
        seen = event["seq"]
    return seen


def watch(deployment: str, as_json: bool, after: int = 0) -> int:
    """Shows what happens to it after the event of that number; answers with the exit code that tells how it came
    out."""
    try:
        with insistent():
            found = _followed(deployment, None, after) if as_json else _drawn(deployment, after)
    except KeyboardInterrupt:
        note(f"\nNo longer watching; it goes on. Come back with: imts deployments show {deployment}")
        return INTERRUPTED
    return _exit_code(found)


def _drawn(deployment: str, after: int) -> dict[str, Any]:
    with view_for_stdout() as view:
        found = _followed(deployment, view, after)
    for line in _closing_lines(found):
        print(line)
    return found


def _exit_code(found: dict[str, Any]) -> int:
    """A change that was rolled back has failed, though the deployment serves as before; so has an adapter that cannot
    be loaded."""
    if found.get("error") or found["state"] == "failed" or "failed" in _adapter_states(found):
        return FAILED
    return HALTED if found["state"] == "stopped" else OK


def _after(deployment: str, seen: int) -> Iterator[dict[str, Any]]:
    while True:
        page = patiently(calls.events(deployment, limit=PAGE).call(str(seen)))["items"]
        for event in page:
            seen = event["seq"]
            yield event
        if len(page) < PAGE:
            return


def _followed(deployment: str, view: View | None, seen: int) -> dict[str, Any]:
    """The state is read before the events: so none that led to it is missed."""
    while True:
        found: dict[str, Any] = patiently(calls.get(deployment))
        for event in _after(deployment, seen):
            seen = event["seq"]
            if view is None:
                print_json_line(event)
            else:
                _draw(view, event)
        if _rests(found):
            return found
        time.sleep(LOOK_SECONDS)


def _rests(found: dict[str, Any]) -> bool:
    error, states = bool(found.get("error")), _adapter_states(found)
    serving = found.get("servingRevision")
    return calls.rests(found["state"], found["revision"], serving, has_error=error, adapters=states)


def _adapter_states(found: dict[str, Any]) -> list[str]:
    return [adapter["state"] for adapter in found["adapters"]]


def _draw(view: View, event: dict[str, Any]) -> None:
    data, at = event["data"], clock(event["at"])
    if event["type"] == "state":
        view.state(str(data.get("state")))
    if event["type"] == "progress":
        view.state(str(data.get("phase")))
        view.progress(data)
    view.line(f"{at} {event_text(event['type'], data)}")


def event_text(kind: str, data: dict[str, Any]) -> str:
    if kind == "state":
        text = str(data.get("state"))
        text += f" ({data['reason']})" if data.get("reason") else ""
        return text + (f": {data['message']}" if data.get("message") else "")
    if kind == "progress":
        percent = f" {data['percent']:.0f}%" if data.get("percent") is not None else ""
        return f"{data.get('phase')}{percent}" + (f": {data['message']}" if data.get("message") else "")
    if kind == "adapter":
        seconds = f" in {data['seconds']:.2f} s" if data.get("seconds") is not None else ""
        why = f": {data['message']}" if data.get("message") else ""
        return f"adapter {data.get('name')} {data.get('state')}{seconds}{why}"
    return str(data.get("text", ""))


def _closing_lines(found: dict[str, Any]) -> list[str]:
    error = found.get("error")
    lines = []
    if error:
        lines.append(f"Error ({clean(error['code'])}): {clean(error['message'])}")
        if error.get("hint"):
            lines.append(f"  hint: {clean(error['hint'])}")
    return [*lines, f"Deployment {clean(found['name'])} is {found['state']}."]
