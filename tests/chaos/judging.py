"""What must hold after any amount of chaos. Each check names the job and what is wrong with it."""

import json
from itertools import pairwise
from typing import Any

from tests.chaos.platform import ChaosPlatform
from tests.chaos.rounds import Story, Submitted
from tests.chaos.watching import Watching

FINAL = {"succeeded", "failed", "stopped"}


def judge(platform: ChaosPlatform, story: Story, watching: Watching) -> list[str]:
    faults: list[str] = []
    with platform.http() as client:
        for job in story.jobs:
            answer = client.get(f"/api/jobs/{job.job_id}")
            if answer.status_code != 200:
                faults.append(f"{job.job_id} is lost: {answer.status_code}")
                continue
            found = answer.json()
            events = _all_events(client, job.job_id)
            series = client.get(f"/api/jobs/{job.job_id}/metrics", params={"points": 10_000}).json()["points"]
            checks = [
                _ended(job, found),
                _events_whole(events),
                _watched(events, watching.seen[job.job_id]),
                _one_runner(platform, job),
                _no_dead_writer(events),
                _every_step(job, found, [point["step"] for point in series]),
            ]
            faults += [f"{job.job_id}: {check}" for check in checks if check]
    return faults


def _all_events(client: Any, job_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = client.get(f"/api/jobs/{job_id}/events", params={"limit": 500, "cursor": cursor}).json()
        events += page["items"]
        if not page["nextCursor"]:
            return events
        cursor = page["nextCursor"]


def _ended(job: Submitted, found: dict[str, Any]) -> str | None:
    allowed = {"stopped", "succeeded"} if job.asked == "stop" else {"succeeded"}
    if found["state"] not in allowed:
        return f"ended as {found['state']} ({found['reason']}, {found['error']}), expected {allowed}"
    return None


def _events_whole(events: list[dict[str, Any]]) -> str | None:
    numbers = [event["seq"] for event in events]
    if numbers != list(range(1, len(numbers) + 1)):
        return f"events are not whole: {numbers}"
    return None


def _watched(events: list[dict[str, Any]], seen: list[dict[str, Any]]) -> str | None:
    if seen != events:
        return f"the watcher saw {len(seen)} of {len(events)} events: {[e['seq'] for e in seen]}"
    return None


def _one_runner(platform: ChaosPlatform, job: Submitted) -> str | None:
    """The file was appended to in real time: once a later attempt has ticked, no earlier one may."""
    path = platform.ticks / f"{job.job_id}.jsonl"
    if not path.exists():
        return None
    ticks = [json.loads(line) for line in path.read_text().splitlines()]
    for before, after in pairwise(ticks):
        if after["attempt"] < before["attempt"]:
            return f"attempts {after['attempt']} and {before['attempt']} ran at once (step {after['step']})"
        if after["attempt"] == before["attempt"] and after["pid"] != before["pid"]:
            return f"attempt {after['attempt']} ran in two processes"
        if after["attempt"] == before["attempt"] and after["step"] != before["step"] + 1:
            return f"attempt {after['attempt']} went from step {before['step']} to {after['step']}"
    return None


def _no_dead_writer(events: list[dict[str, Any]]) -> str | None:
    """What an attempt says stands between its claim and its end, and each of its steps stands there once."""
    running: int | None = None
    said: set[tuple[int, int]] = set()
    for event in events:
        data = event["data"]
        if event["type"] == "state":
            running = data["attempt"] if data["state"] in {"running", "stopping"} else None
        elif event["type"] in {"metric", "checkpoint"}:
            if data["attempt"] != running:
                return f"attempt {data['attempt']} wrote event {event['seq']} while attempt {running} ran"
            if event["type"] == "metric":
                key = (data["attempt"], data["step"])
                if key in said:
                    return f"step {key[1]} of attempt {key[0]} came twice"
                said.add(key)
    return None


def _every_step(job: Submitted, found: dict[str, Any], steps: list[int]) -> str | None:
    if found["state"] == "succeeded" and steps != list(range(1, job.steps + 1)):
        return f"its metrics show steps {steps} of {job.steps}"
    return None
