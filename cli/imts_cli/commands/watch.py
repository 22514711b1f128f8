"""Watching a job until it rests."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from imts_cli.commands.exits import FAILED, HALTED, INTERRUPTED, OK, insistent, note
from imts_cli.commands.output import clean, clock
from imts_cli.commands.platform import PATIENCE_SECONDS, fetch, patiently, print_json_line, transport
from imts_cli.commands.views import View, view_for_stdout
from imts_client.calls import jobs as calls
from imts_client.errors import ConnectionFailed

LOG_PAGE = 1_000

EXIT_CODES = {"succeeded": OK, "failed": FAILED, "stopped": HALTED, "paused": HALTED}


def watch(job_id: str, as_json: bool, after: int = 0) -> int:
    """Shows what happens to the job until it rests; answers with the exit code that tells how."""
    try:
        with insistent():
            fetch(calls.get(job_id))
            job = _as_lines(job_id, after) if as_json else _drawn(job_id, after)
    except KeyboardInterrupt:
        note(f"\nNo longer watching; the job goes on. Come back with: imts jobs watch {job_id}")
        return INTERRUPTED
    return EXIT_CODES[job["state"]]


def wait_quietly(job_id: str) -> dict[str, Any]:
    fetch(calls.get(job_id))
    watched = Watched(job_id, 0, note)
    for _ in watched.events():
        pass
    return watched.job


def follow_log(job_id: str, attempt: int | None, as_json: bool) -> int:
    try:
        with insistent():
            for line in transport().follow(calls.follow_logs(job_id, attempt), _reattaching(note), PATIENCE_SECONDS):
                if as_json:
                    print_json_line(line)
                else:
                    print(clean(line["text"]), flush=True)
    except KeyboardInterrupt:
        note(f"\nNo longer following; the job goes on. Come back with: imts jobs logs -f {job_id}")
        return INTERRUPTED
    return OK


def _reattaching(aside: Callable[[str], None]) -> Callable[[ConnectionFailed], None]:
    return lambda error: aside(f"{error} Reattaching…")


class Watched:
    """`job` is how the job stood when its events came to rest."""

    def __init__(self, job_id: str, after: int, aside: Callable[[str], None]) -> None:
        self._job_id = job_id
        self._after = after
        self._on_break = _reattaching(aside)
        self.job: dict[str, Any] = {}

    def events(self) -> Iterator[dict[str, Any]]:
        """Each event once, until the job has ended or is paused.

        An old event may tell of a pause that is long over, so a pause counts when nothing has happened since; and
        somebody may try a job again in the moment between its end and our question.
        """
        paused = False
        while True:
            for event in transport().follow(calls.watch(self._job_id, self._after), self._on_break, PATIENCE_SECONDS):
                self._after = event["seq"]
                yield event
                if event["type"] == "state":
                    paused = event["data"].get("state") == "paused"
                if paused and not self._later_events() and self._rests():
                    return
            if self._rests():
                return
            time.sleep(0.5)

    def _later_events(self) -> bool:
        page = patiently(calls.events(self._job_id, limit=1).call(str(self._after)))
        return bool(page["items"])

    def _rests(self) -> bool:
        self.job = patiently(calls.get(self._job_id))
        return self.job["state"] in EXIT_CODES


def _as_lines(job_id: str, after: int) -> dict[str, Any]:
    watched = Watched(job_id, after, note)
    for event in watched.events():
        print_json_line(event)
    return watched.job


def _drawn(job_id: str, after: int) -> dict[str, Any]:
    with view_for_stdout() as view:
        watched = Watched(job_id, after, view.aside)
        drawing = _Drawing(job_id, view)
        for event in watched.events():
            drawing.take(event)
    for line in closing_lines(watched.job):
        print(line)
    return watched.job


def closing_lines(job: dict[str, Any]) -> Iterator[str]:
    error = job.get("error")
    if error:
        yield f"Error ({clean(error['code'])}): {clean(error['message'])}"
        if error.get("hint"):
            yield f"  hint: {clean(error['hint'])}"
    if job["state"] == "paused":
        yield f"The job is paused. Go on with: imts jobs resume {job['id']}"
    else:
        yield f"Job {job['id']} {job['state']}."


class _Drawing:
    def __init__(self, job_id: str, view: View) -> None:
        self._job_id = job_id
        self._view = view
        self._lines_shown = 0

    def take(self, event: dict[str, Any]) -> None:
        kind, data, at = event["type"], event["data"], clock(event["at"])
        if kind == "state":
            self._view.state(str(data.get("state")))
            self._view.line(f"{at} {_state_text(data)}")
        elif kind == "progress":
            self._view.progress(data)
        elif kind == "metric":
            self._view.metrics(data)
        elif kind == "log":
            self._show_log(int(data.get("firstLine", 1)), int(data.get("count", 0)))
        else:
            self._view.line(f"{at} {event_text(kind, data)}")

    def _show_log(self, first: int, count: int) -> None:
        """The event only points at lines; those that were shown already are not shown again."""
        last = first + count - 1
        cursor = max(first - 1, self._lines_shown)
        while cursor < last:
            listing = calls.logs(self._job_id, limit=min(last - cursor, LOG_PAGE))
            page = patiently(listing.call(str(cursor)))["items"]
            if not page:  # pruned meanwhile
                break
            for line in page:
                self._view.line(line["text"])
            cursor = page[-1]["line"]
        self._lines_shown = max(self._lines_shown, last)


def _state_text(data: dict[str, Any]) -> str:
    text = str(data.get("state"))
    if data.get("attempt") and data.get("state") in {"dispatched", "running"}:
        text += f" (attempt {data['attempt']})"
    if data.get("reason"):
        text += f": {data['reason']}"
    return text


def event_text(kind: str, data: dict[str, Any]) -> str:
    if kind == "state":
        return _state_text(data)
    if kind == "message" and data.get("text", data.get("message")):
        return str(data.get("text", data.get("message")))
    shown = ", ".join(f"{name} {value}" for name, value in data.items() if not isinstance(value, dict | list))
    return f"{kind}: {shown}" if shown else kind
