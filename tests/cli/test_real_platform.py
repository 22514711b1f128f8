"""The command against the real control plane on a real database; this test plays the worker."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg

from control_plane.database import Database
from tests.cli.conftest import environment
from tests.cli.relay import relay_to
from tests.control_plane.conftest import NewKey, config, database, new_key, url
from tests.control_plane.worker_side import WorkerSide

__all__ = ["config", "database", "new_key", "url"]


async def imts(address: str, key: str, *arguments: str) -> "asyncio.subprocess.Process":
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "imts_cli",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(address, key),
    )


async def ran(address: str, key: str, *arguments: str) -> tuple[int, str, str]:
    process = await imts(address, key, *arguments)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def reported(kind: str, **data: object) -> dict[str, object]:
    return {"type": kind, "at": datetime.now(UTC).isoformat(), "data": data}


def line(text: str) -> dict[str, object]:
    return {"at": datetime.now(UTC).isoformat(), "stream": "log", "text": text}


async def test_a_job_is_watched_to_its_end_through_breaks(url: str, database: Database, new_key: NewKey) -> None:
    key = await new_key()
    worker = WorkerSide(url, database)
    await worker.join(kinds=("export",))
    code, out, err = await ran(
        url, key, "jobs", "submit", "export", "modelName=org/model", "format=gguf", "--label", "a=b", "--json"
    )
    assert code == 0, err
    job = json.loads(out)["id"]
    (message,) = await worker.dispatch()
    assert (await worker.claim(message)).status_code == 200
    with relay_to(urlsplit(url).port or 0) as relay:
        relay.cut_after = 1_500
        drawn = await imts(relay.url, key, "jobs", "watch", job)
        events = await imts(relay.url, key, "jobs", "watch", job, "--json")
        for step in range(1, 11):
            news = [reported("progress", percent=step * 10, step=step), reported("metric", step=step, loss=1 / step)]
            answer = await worker.report(message, batch=step, events=news, logs=[line(f"step {step} done")])
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.1)
        end = {"status": "succeeded", "result": {"rows": 3}}
        assert (await worker.report(message, batch=11, outcome=end)).status_code == 200
        drawn_out, drawn_err = await asyncio.wait_for(drawn.communicate(), 30)
        events_out, _ = await asyncio.wait_for(events.communicate(), 30)
    assert (drawn.returncode, events.returncode) == (0, 0), drawn_err
    lines = [text for text in drawn_out.decode().splitlines() if text.startswith("step")]
    assert lines == [f"step {step} done" for step in range(1, 11)]
    seqs = [json.loads(text)["seq"] for text in events_out.decode().splitlines()]
    with psycopg.connect(database.url) as connection:
        stored = connection.execute("SELECT count(*) FROM job_events WHERE job_id = %s", [job]).fetchone()
    assert stored is not None
    assert seqs == list(range(1, stored[0] + 1))
    code, out, _ = await ran(url, key, "jobs", "logs", job, "-f")
    assert (code, out.splitlines()) == (0, lines)
    code, out, _ = await ran(url, key, "jobs", "list", "--label", "a=b", "--state", "succeeded", "--json")
    assert [found["id"] for found in json.loads(out)["items"]] == [job]
    assert "w1" in (await ran(url, key, "workers"))[1]
    assert (await ran(url, key, "jobs", "delete", job))[0] == 0


async def test_refusals_keys_and_projects(url: str, new_key: NewKey) -> None:
    admin = await new_key()
    code, _, err = await ran(url, admin, "jobs", "submit", "analysis", "datset=faq")
    assert code == 4
    assert "dataset" in err
    code, key, _ = await ran(url, admin, "keys", "create", "ci", "--role", "viewer", "--expires", "1d")
    assert code == 0
    viewer = key.strip()
    assert (await ran(url, viewer, "jobs", "list"))[1] == "There are no such jobs.\n"
    assert (await ran(url, viewer, "jobs", "submit", "export", "modelName=org/model"))[0] == 4
    code, out, _ = await ran(url, admin, "projects", "create", "blue", "--queued", "1", "--json")
    assert json.loads(out)["maxQueuedJobs"] == 1
    assert "blue" in (await ran(url, admin, "projects", "list"))[1]
    assert (await ran(url, admin, "projects", "quota", "blue", "--queued", "none"))[0] == 0
    listed = json.loads((await ran(url, admin, "keys", "list", "--json"))[1])["items"]
    identity = next(one["id"] for one in listed if one["name"] == "ci")
    assert (await ran(url, admin, "keys", "revoke", identity))[0] == 0
    assert (await ran(url, viewer, "jobs", "list"))[0] == 4


async def test_the_same_submission_makes_one_job_when_answers_get_lost(url: str, new_key: NewKey) -> None:
    key = await new_key()
    with relay_to(urlsplit(url).port or 0) as relay:
        relay.swallow = 2
        code, out, err = await ran(relay.url, key, "jobs", "submit", "export", "modelName=org/model", "--json")
        assert code == 0, err
    listed = json.loads((await ran(url, key, "jobs", "list", "--json"))[1])["items"]
    assert [job["id"] for job in listed] == [json.loads(out)["id"]]
    order = ("stop", "retry", "pause", "resume", "stop")
    states = [json.loads((await ran(url, key, "jobs", what, listed[0]["id"], "--json"))[1])["state"] for what in order]
    assert states == ["stopped", "queued", "paused", "queued", "stopped"]
    assert (await ran(url, key, "jobs", "watch", listed[0]["id"]))[0] == 5
