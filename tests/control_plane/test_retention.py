"""What is pruned, what stays, and that nothing goes without a word."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg

from control_plane.database import Database
from control_plane.hints import Hints
from control_plane.jobs import logs
from control_plane.settings import ControlPlaneSettings
from control_plane.watcher.upkeep import Upkeep
from imts_shared.storage import Storage
from tests.control_plane.test_jobs import submit
from tests.control_plane.test_journey import metric, started
from tests.control_plane.worker_side import WorkerSide, execute


def upkeep(database: Database, config: ControlPlaneSettings) -> Upkeep:
    return Upkeep(database, Hints(database.url), Storage(config.storage_url), config)


async def finished(admin: httpx.AsyncClient, url: str, database: Database) -> str:
    worker = WorkerSide(url, database)
    await worker.join(kinds=("training",))
    job_id, message, _ = await started(admin, worker)
    for batch in range(1, 4):
        lines = [{"at": datetime.now(UTC).isoformat(), "text": f"line {batch}-{n}"} for n in range(3)]
        await worker.report(message, batch=batch, events=[metric(batch, loss=1.0)], logs=lines)
    await worker.report(message, batch=4, outcome={"status": "succeeded"})
    return job_id


async def test_old_events_and_logs_go_and_it_is_said(
    admin: httpx.AsyncClient, url: str, database: Database, config: ControlPlaneSettings, database_url: str
) -> None:
    job_id = await finished(admin, url, database)
    fresh = await finished(admin, url, database)
    execute(database_url, "UPDATE jobs SET ended_at = now() - interval '400 days' WHERE id = %s", job_id)
    await upkeep(database, config).prune()
    events = (await admin.get(f"/api/jobs/{job_id}/events")).json()["items"]
    assert [event["type"] for event in events] == ["state"] * 4
    assert (await admin.get(f"/api/jobs/{job_id}/logs")).json()["items"] == []
    job = (await admin.get(f"/api/jobs/{job_id}")).json()
    assert job["eventsPrunedAt"]
    assert len((await admin.get(f"/api/jobs/{job_id}/metrics")).json()["points"]) == 3
    assert len((await admin.get(f"/api/jobs/{fresh}/logs")).json()["items"]) == 9
    told = (await admin.get("/api/retention")).json()
    assert {r["rule"]: r["days"] for r in told["rules"]} == {
        "events": 30, "logs": 90, "checkpoints": 30, "jobs": None, "deliveries": 30, "requests": 30,
        "decisions": 90, "lessons": 90,
    }  # fmt: skip
    assert {(r["rule"], r["removed"]) for r in told["recent"]} == {("events", 6), ("logs", 9)}


async def test_old_jobs_go_whole_when_the_rule_says_so(
    admin: httpx.AsyncClient, url: str, database: Database, config: ControlPlaneSettings, database_url: str,
    storage_folder: Path,
) -> None:  # fmt: skip
    job_id = await finished(admin, url, database)
    queued = await submit(admin)
    file = storage_folder / "jobs" / job_id / "1" / "artifact"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    execute(database_url, "UPDATE jobs SET ended_at = now() - interval '3 days' WHERE state = 'succeeded'")
    chores = upkeep(database, config.model_copy(update={"keep_job_days": 2.0}))
    await chores.prune()
    assert (await admin.get(f"/api/jobs/{job_id}")).status_code == 404
    assert (await admin.get(f"/api/jobs/{queued['id']}")).status_code == 200
    assert file.exists()
    await chores.take_out_trash()
    assert not file.exists()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM storage_trash").fetchone() == (0,)


async def test_sealed_logs_read_the_same(
    admin: httpx.AsyncClient, url: str, database: Database, config: ControlPlaneSettings, database_url: str,
    storage_folder: Path,
) -> None:  # fmt: skip
    job_id = await finished(admin, url, database)
    before = (await admin.get(f"/api/jobs/{job_id}/logs")).json()["items"]
    execute(database_url, "UPDATE jobs SET ended_at = now() - interval '2 minutes'")
    async with database.transaction() as session:
        assert [str(i) for i in await logs.jobs_to_seal(session, 10)] == [job_id]
    await upkeep(database, config).seal_logs()
    assert len(list((storage_folder / "jobs" / job_id / "logs").iterdir())) == 1
    assert (await admin.get(f"/api/jobs/{job_id}/logs")).json()["items"] == before
    page = (await admin.get(f"/api/jobs/{job_id}/logs", params={"cursor": "4", "limit": 2})).json()
    assert [line["line"] for line in page["items"]] == [5, 6]
    assert (await admin.delete(f"/api/jobs/{job_id}")).status_code == 204
    await upkeep(database, config).take_out_trash()
    assert not (storage_folder / "jobs" / job_id).exists()
