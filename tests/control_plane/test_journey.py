"""A job's journey through dispatch, claim, reports and its end, spoken to over real HTTP."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from control_plane.database import Database
from control_plane.hints import Hints
from control_plane.watcher.leases import end_silent_attempts
from control_plane.watcher.looking import Found, look
from imts_shared.contracts.internal import RunMessage
from tests.conftest import SERVICE_KEY
from tests.control_plane.test_jobs import submit
from tests.control_plane.worker_side import WorkerSide, execute


@pytest.fixture
async def worker(url: str, database: Database) -> WorkerSide:
    side = WorkerSide(url, database)
    await side.join(kinds=("training",))
    return side


def now() -> str:
    return datetime.now(UTC).isoformat()


def metric(step: int, **values: float) -> dict[str, Any]:
    return {"type": "metric", "at": now(), "data": {"step": step, **values}}


async def started(admin: httpx.AsyncClient, worker: WorkerSide, **body: Any) -> tuple[str, RunMessage, dict[str, Any]]:
    job = await submit(admin, **body)
    [message] = await worker.dispatch()
    claimed = await worker.claim(message)
    assert claimed.status_code == 200, claimed.text
    return job["id"], message, claimed.json()


async def show(admin: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = (await admin.get(f"/api/jobs/{job_id}")).json()
    return job


async def test_from_queued_to_succeeded(admin: httpx.AsyncClient, worker: WorkerSide) -> None:
    job_id, message, claimed = await started(admin, worker)
    assert claimed["prefix"] == f"jobs/{job_id}/1/"
    assert claimed["spec"]["modelName"]
    assert (await show(admin, job_id))["state"] == "running"
    first = await worker.report(
        message,
        batch=1,
        events=[metric(1, loss=2.0), {"type": "progress", "at": now(), "data": {"percent": 50, "step": 1}}],
        logs=[{"at": now(), "text": "one"}, {"at": now(), "text": "two"}],
    )
    assert first.json()["order"] == "continue"
    again = await worker.report(message, batch=1, events=[metric(1, loss=2.0)])
    assert again.status_code == 200
    skipped = await worker.report(message, batch=3, events=[metric(9, loss=9)])
    assert skipped.json()["code"] == "batch_missing"
    last = await worker.report(
        message, batch=2, events=[metric(2, loss=1.0)], outcome={"status": "succeeded", "result": {"a": 1}}
    )
    assert last.status_code == 200
    job = await show(admin, job_id)
    assert (job["state"], job["result"], job["progress"]["percent"], job["reason"]) == (
        "succeeded",
        {"a": 1},
        100,
        None,
    )
    events = (await admin.get(f"/api/jobs/{job_id}/events")).json()["items"]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert [e["type"] for e in events] == ["state"] * 3 + ["log", "metric", "progress", "metric", "state"]
    lines = (await admin.get(f"/api/jobs/{job_id}/logs")).json()["items"]
    assert [(line["line"], line["text"]) for line in lines] == [(1, "one"), (2, "two")]
    series = (await admin.get(f"/api/jobs/{job_id}/metrics")).json()
    assert [(p["step"], p["values"]) for p in series["points"]] == [(1, {"loss": 2.0}), (2, {"loss": 1.0})]
    late = await worker.report(message, batch=3, events=[metric(3, loss=0.0)])
    assert (late.status_code, late.json()["code"]) == (409, "attempt_over")


async def test_only_the_attempts_own_token_is_heard(admin: httpx.AsyncClient, worker: WorkerSide) -> None:
    job = await submit(admin)
    [message] = await worker.dispatch()
    key = admin.headers["authorization"].removeprefix("Bearer ")
    for token in (key, SERVICE_KEY, "x", message.token + "x"):
        stranger = message.model_copy(update={"token": token})
        assert (await worker.claim(stranger)).status_code == 401
        assert (await worker.report(stranger, batch=1)).status_code == 401
    assert (await worker.claim(message, worker_id="other")).status_code == 409
    assert (await worker.report(message, batch=1)).json()["code"] == "not_claimed"
    assert (await worker.claim(message, claim_id="c1")).status_code == 200
    assert (await worker.claim(message, claim_id="c1")).status_code == 200
    assert (await worker.claim(message, claim_id="c2")).status_code == 409
    for field in ("token", "tokenHash", "token_hash", message.token):
        assert field not in json.dumps(await show(admin, job["id"]))


async def test_stop_and_pause_reach_the_worker(admin: httpx.AsyncClient, worker: WorkerSide) -> None:
    job_id, message, _ = await started(admin, worker)
    assert (await admin.post(f"/api/jobs/{job_id}/pause")).json()["state"] == "stopping"
    assert (await worker.report(message)).json()["order"] == "pause"
    checkpoint = {
        "type": "checkpoint",
        "at": now(),
        "data": {"step": 5, "prefix": f"jobs/{job_id}/1/checkpoints/step-5/", "bytes": 3, "attempt": 1},
    }
    ended = await worker.report(message, batch=1, events=[checkpoint], outcome={"status": "stopped"})
    assert ended.status_code == 200
    assert (await show(admin, job_id))["state"] == "paused"
    assert (await admin.post(f"/api/jobs/{job_id}/resume")).json()["state"] == "queued"
    [second] = await worker.dispatch()
    claimed = (await worker.claim(second)).json()
    assert claimed["attempt"] == 2
    assert claimed["resumeFrom"]["step"] == 5
    assert (await admin.post(f"/api/jobs/{job_id}/stop")).json()["state"] == "stopping"
    assert (await worker.report(second)).json()["order"] == "stop"
    await worker.report(second, batch=1, outcome={"status": "stopped"})
    job = await show(admin, job_id)
    assert (job["state"], job["reason"]) == ("stopped", "user_stopped")


async def test_an_attempt_may_not_name_foreign_files(admin: httpx.AsyncClient, worker: WorkerSide) -> None:
    job_id, message, _ = await started(admin, worker)
    for key in ("jobs/other/1/x", f"jobs/{job_id}/2/x", f"jobs/{job_id}/1/../../x", ""):
        event = {"type": "artifact", "at": now(), "data": {"key": key, "name": "x"}}
        assert (await worker.report(message, batch=1, events=[event])).json()["code"] == "foreign_file"
    assert len((await admin.get(f"/api/jobs/{job_id}/events")).json()["items"]) == 3


async def test_failures_are_retried_only_when_hardware_was_lost(
    admin: httpx.AsyncClient, worker: WorkerSide, database_url: str
) -> None:
    job_id, message, _ = await started(admin, worker)
    await worker.report(
        message, batch=1, outcome={"status": "failed", "reason": "bad_data", "message": "row 3", "hint": "mend it"}
    )
    job = await show(admin, job_id)
    assert (job["state"], job["reason"]) == ("failed", "bad_data")
    assert job["error"] == {"code": "bad_data", "message": "row 3", "hint": "mend it"}
    job_id, message, _ = await started(admin, worker, maxAttempts=2)
    await worker.report(message, batch=1, outcome={"status": "failed", "reason": "engine_killed"})
    job = await show(admin, job_id)
    assert (job["state"], job["reason"], job["waitingFor"]["code"]) == ("queued", "engine_killed", "backoff")
    assert await worker.dispatch() == []
    execute(database_url, "UPDATE jobs SET not_before = NULL")
    [second] = await worker.dispatch()
    await worker.claim(second)
    await worker.report(second, batch=1, outcome={"status": "failed", "reason": "engine_killed"})
    job = await show(admin, job_id)
    assert (job["state"], job["tries"], job["attempt"]) == ("failed", 2, 2)


async def test_a_worker_that_shuts_down_gives_its_job_back_for_free(
    admin: httpx.AsyncClient, worker: WorkerSide
) -> None:
    job_id, message, _ = await started(admin, worker, maxAttempts=1)
    await worker.report(message, batch=1, outcome={"status": "released", "reason": "worker_shutdown"})
    job = await show(admin, job_id)
    assert (job["state"], job["tries"], job["attempt"]) == ("queued", 0, 1)
    assert len(await worker.dispatch()) == 1


async def test_silence_ends_an_attempt_but_not_the_apis_own(
    admin: httpx.AsyncClient, worker: WorkerSide, database: Database, database_url: str
) -> None:
    job_id, message, _ = await started(admin, worker)
    hints = Hints(database.url)
    execute(database_url, "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'")
    await asyncio.sleep(1.2)
    assert await end_silent_attempts(database, hints) == 0, "the api has only just come back"
    assert await look(database) == Found(queued=False, silent=False, amiss=False)
    execute(database_url, "UPDATE presence SET since = clock_timestamp() - interval '1 hour'")
    assert await look(database) == Found(queued=False, silent=True, amiss=False)
    assert await end_silent_attempts(database, hints) == 1
    assert await look(database) == Found(queued=True, silent=False, amiss=False)
    assert (await worker.report(message, batch=1)).json()["code"] == "attempt_over"
    job = await show(admin, job_id)
    assert (job["state"], job["reason"]) == ("queued", "worker_lost")


async def test_an_unclaimed_message_is_sent_again_and_costs_nothing(
    admin: httpx.AsyncClient, worker: WorkerSide, database: Database, database_url: str
) -> None:
    job = await submit(admin)
    [first] = await worker.dispatch()
    execute(database_url, "UPDATE jobs SET dispatched_at = clock_timestamp() - interval '1 minute'")
    assert (await look(database)).silent
    assert await end_silent_attempts(database, Hints(database.url)) == 1
    [second] = await worker.dispatch()
    assert (second.attempt, second.token) != (first.attempt, first.token)
    assert (await worker.claim(first)).status_code == 409
    assert (await worker.claim(second)).status_code == 200
    assert (await show(admin, job["id"]))["tries"] == 1


async def test_watchers_see_every_event_once_and_then_the_end(admin: httpx.AsyncClient, worker: WorkerSide) -> None:
    job_id, message, _ = await started(admin, worker)

    async def watch(after: str | None) -> list[tuple[str, str]]:
        seen = []
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        async with admin.stream("GET", f"/api/jobs/{job_id}/events", headers=headers) as stream:
            name = number = ""
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    number = line[4:]
                elif line.startswith("event: "):
                    name = line[7:]
                    if name == "end":
                        return seen
                elif line.startswith("data: "):
                    assert json.loads(line[6:])["seq"] == int(number)
                    seen.append((number, name))
        return seen

    async def follow() -> list[str]:
        headers = {"Accept": "text/event-stream"}
        async with admin.stream("GET", f"/api/jobs/{job_id}/logs", headers=headers) as stream:
            return [json.loads(x[6:])["text"] async for x in stream.aiter_lines() if x.startswith('data: {"line"')]

    watchers = [asyncio.create_task(watch(after)) for after in (None, "2", "3")]
    follower = asyncio.create_task(follow())
    for batch in range(1, 21):
        await worker.report(
            message, batch=batch, events=[metric(batch, loss=1.0)], logs=[{"at": now(), "text": f"line {batch}"}]
        )
    await worker.report(message, batch=21, outcome={"status": "succeeded"})
    whole, after2, after3 = await asyncio.wait_for(asyncio.gather(*watchers), 20)
    assert [int(n) for n, _ in whole] == list(range(1, 45))
    assert after2 == whole[2:]
    assert after3 == whole[3:]
    assert await asyncio.wait_for(follower, 20) == [f"line {n}" for n in range(1, 21)]
    assert await asyncio.wait_for(watch("44"), 5) == []


async def test_workers_are_listed_with_their_slots(admin: httpx.AsyncClient, worker: WorkerSide) -> None:
    await started(admin, worker)
    [listed] = (await admin.get("/api/workers")).json()["items"]
    assert (listed["id"], listed["slots"], listed["busy"], listed["alive"]) == ("w1", 1, 1, True)
    job = await submit(admin)
    shown = await show(admin, job["id"])
    assert shown["waitingFor"]["code"] == "busy"


async def test_a_repeated_step_of_a_resumed_attempt_is_one_point(
    admin: httpx.AsyncClient, worker: WorkerSide, database_url: str
) -> None:
    job_id, message, _ = await started(admin, worker)
    await worker.report(message, batch=1, events=[metric(s, loss=float(s)) for s in (1, 2, 3)] + [metric(3, lr=0.1)])
    await worker.report(message, batch=2, outcome={"status": "failed", "reason": "engine_killed"})
    execute(database_url, "UPDATE jobs SET not_before = NULL")
    [second] = await worker.dispatch()
    await worker.claim(second)
    await worker.report(second, batch=1, events=[metric(s, loss=float(s) + 0.5) for s in (3, 4)])
    series = (await admin.get(f"/api/jobs/{job_id}/metrics", params={"names": "loss"})).json()
    assert [(p["step"], p["values"]["loss"]) for p in series["points"]] == [(1, 1.0), (2, 2.0), (3, 3.5), (4, 4.5)]


async def test_a_report_is_never_refused_for_what_an_engine_printed(
    admin: httpx.AsyncClient, worker: WorkerSide
) -> None:
    job_id, message, _ = await started(admin, worker)
    taken = await worker.report(message, batch=1, logs=[{"at": now(), "text": "a\x00b \\u0000"}])
    assert taken.status_code == 200, taken.text
    [line] = (await admin.get(f"/api/jobs/{job_id}/logs")).json()["items"]
    assert line["text"] == "a\ufffdb \\u0000"


async def test_free_slots_go_to_priority_first_and_then_fairly_round_the_projects(
    admin: httpx.AsyncClient, worker: WorkerSide
) -> None:
    await worker.join(kinds=("training",), slots=4)
    mine = [(await submit(admin))["id"] for _ in range(5)]
    theirs = (await submit(admin, project="other"))["id"]
    urgent = (await submit(admin, priority=5))["id"]
    sent = [message.job_id for message in await worker.dispatch()]
    assert sent == [urgent, theirs, mine[0], mine[1]]
    assert await worker.dispatch() == [], "no more than there is room for"
