"""Sweeps: checked, advanced by the watcher, ranked, pruned, given up, stopped, deleted."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from control_plane.database import Database
from control_plane.hints import Hints
from control_plane.jobs.intake import store
from control_plane.jobs.references import References
from control_plane.settings import ControlPlaneSettings
from control_plane.sweeps import advancing, search
from control_plane.training.checker import Checker
from control_plane.watcher.sweeps import SweepWatch
from imts_shared.contracts.access import Role
from imts_shared.contracts.internal import RunMessage
from imts_shared.storage import Storage
from tests.control_plane.conftest import NewKey
from tests.control_plane.worker_side import WorkerSide, execute

BASE = {"modelName": "builtin:tiny-qwen3", "dataset": "alpaca_en_demo", "maxSteps": 90}
RATES = [1e-3, 1e-4, 1e-5]


class Side:
    """The watcher's and the engines' side of sweeps."""

    def __init__(self, client: httpx.AsyncClient, worker: WorkerSide, references: References) -> None:
        self.client = client
        self.worker = worker
        self.references = references
        self.hints = Hints(worker.database.url)
        self.running: dict[int, RunMessage] = {}
        self._batch: dict[str, int] = {}

    async def sweep(self, **body: Any) -> str:
        answer = await self.client.post("/api/training/sweeps", json={"base": BASE, **body})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def advance(self) -> None:
        await advancing.advance_all(self.worker.database, self.references, self.hints)

    async def shown(self, sweep_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/api/training/sweeps/{sweep_id}")
        assert answer.status_code == 200, answer.text
        sweep: dict[str, Any] = answer.json()
        return sweep

    async def trials(self, sweep_id: str) -> dict[int, dict[str, Any]]:
        return {trial["number"]: trial for trial in (await self.shown(sweep_id))["trials"]}

    async def children(self, sweep_id: str) -> list[dict[str, Any]]:
        params = {"label": f"imts/sweep={sweep_id}", "limit": 500}
        found: list[dict[str, Any]] = (await self.client.get("/api/jobs", params=params)).json()["items"]
        return sorted(found, key=lambda job: int(job["labels"]["imts/trial"]))

    async def started(self, sweep_id: str) -> None:
        """Every job that was submitted gets a worker."""
        numbers = {job["id"]: int(job["labels"]["imts/trial"]) for job in await self.children(sweep_id)}
        for message in await self.worker.dispatch():
            assert (await self.worker.claim(message)).status_code == 200
            self.running[numbers[message.job_id]] = message

    async def report(self, number: int, **content: Any) -> None:
        message = self.running[number]
        batch = self._batch[message.job_id] = self._batch.get(message.job_id, 0) + 1
        answer = await self.worker.report(message, batch=batch, **content)
        assert answer.status_code == 200, answer.text

    async def measured(self, number: int, step: int, **values: float) -> None:
        event = {"type": "metric", "at": datetime.now(UTC).isoformat(), "data": {"step": step, **values}}
        await self.report(number, events=[event])

    async def ended(self, number: int, status: str = "succeeded", **outcome: Any) -> None:
        await self.report(number, outcome={"status": status, **outcome})


@pytest.fixture
async def references(config: ControlPlaneSettings, database: Database) -> AsyncIterator[References]:
    checker = Checker(config.training_url, config.service_key.get_secret_value())
    yield References(database, Storage(config.storage_url), checker)
    await checker.close()


@pytest.fixture
async def side(admin: httpx.AsyncClient, url: str, database: Database, references: References) -> Side:
    worker = WorkerSide(url, database)
    await worker.join(kinds=("training",), slots=100)
    return Side(admin, worker, references)


async def test_a_grid_is_tried_and_ranked(side: Side) -> None:
    sweep_id = await side.sweep(
        name="rates", priority=3, labels={"team": "blue"}, concurrency=2,
        parameters={"learningRate": {"values": RATES}, "advanced.neftune_noise_alpha": {"values": [1, 5]}},
    )  # fmt: skip
    assert (await side.shown(sweep_id))["counts"]["waiting"] == 6
    done = 0
    while (await side.shown(sweep_id))["state"] == "running":
        await side.advance()
        children = await side.children(sweep_id)
        assert len([job for job in children if job["state"] in {"queued", "running"}]) <= 2
        await side.started(sweep_id)
        for number in [n for n in side.running if n > done]:
            await side.measured(number, 1, loss=9.0)
            await side.measured(number, 2, loss=float(abs(number - 4)), learningRate=1.0)
            await side.ended(number)
            done = number
    sweep = await side.shown(sweep_id)
    assert (sweep["state"], sweep["metric"], sweep["goal"]) == ("succeeded", "loss", "minimize")
    assert sweep["counts"] | {"trials": 6, "succeeded": 6, "waiting": 0, "active": 0} == sweep["counts"]
    assert [trial["number"] for trial in sweep["trials"]] == [4, 3, 5, 2, 6, 1]
    assert [trial["rank"] for trial in sweep["trials"]] == [1, 2, 3, 4, 5, 6]
    assert sweep["best"]["parameters"] == {"learningRate": 1e-4, "advanced.neftune_noise_alpha": 5}
    assert (sweep["best"]["jobId"], sweep["best"]["value"]) == (sweep["trials"][0]["jobId"], 0.0)
    assert sweep["endedAt"]
    children = await side.children(sweep_id)
    assert [job["name"] for job in children] == [f"rates-{n}" for n in range(1, 7)]
    assert {(job["priority"], job["kind"], job["labels"]["team"]) for job in children} == {(3, "training", "blue")}
    assert children[3]["spec"].items() >= {**BASE, "learningRate": 1e-4}.items()
    assert children[3]["spec"]["advanced"] == {"neftune_noise_alpha": 5}
    assert children[3]["spec"]["datasets"][0]["name"] == "alpaca_en_demo"


async def test_a_watcher_that_dies_anywhere_submits_no_trial_twice(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_id = await side.sweep(parameters={"learningRate": {"values": RATES}}, concurrency=3)

    class Killed(BaseException):
        pass

    async def die(*_: Any, **__: Any) -> Any:
        raise Killed

    async def store_and_die(session: Any, draft: Any) -> Any:
        await store(session, draft)
        raise Killed

    for place, death in (("_submit", die), ("_store", die), ("_lock_waiting", die), ("store", store_and_die)):
        with monkeypatch.context() as patch:
            patch.setattr(advancing, place, death)
            with pytest.raises(Killed):
                await side.advance()
        assert await side.children(sweep_id) == []
        assert [trial["state"] for trial in (await side.trials(sweep_id)).values()] == ["waiting"] * 3
    await asyncio.gather(*(side.advance() for _ in range(5)))
    await side.advance()
    children = await side.children(sweep_id)
    assert [job["labels"]["imts/trial"] for job in children] == ["1", "2", "3"]
    trials = await side.trials(sweep_id)
    assert [trials[n]["jobId"] for n in (1, 2, 3)] == [job["id"] for job in children]


async def test_a_random_search_draws_the_same_for_the_same_seed(side: Side) -> None:
    space = {
        "learningRate": {"min": 1e-6, "max": 1e-2, "log": True},
        "loraRank": {"min": 4, "max": 16, "step": 4},
        "warmupRatio": {"min": 0, "max": 0.3, "step": 0.1},
        "schedule": {"values": ["linear", "cosine"]},
    }
    drawn = []
    for seed, concurrency in ((7, 12), (7, 5), (8, 12)):
        sweep_id = await side.sweep(method="random", trials=12, seed=seed, concurrency=concurrency, parameters=space)
        await side.advance()
        drawn.append([trial["parameters"] for _, trial in sorted((await side.trials(sweep_id)).items())])
    assert drawn[0][:5] == drawn[1]
    assert drawn[0] != drawn[2]
    assert all(1e-6 <= point["learningRate"] <= 1e-2 for point in drawn[0])
    assert {point["loraRank"] for point in drawn[0]} <= {4, 8, 12, 16}
    assert {point["warmupRatio"] for point in drawn[0]} <= {0.0, 0.1, 0.2, 0.3}
    assert {point["schedule"] for point in drawn[0]} == {"linear", "cosine"}
    assert min(point["learningRate"] for point in drawn[0]) < 1e-4 < max(point["learningRate"] for point in drawn[0])


@pytest.mark.parametrize(
    "told",
    [
        {"min": -(10**15), "max": 10**15, "integer": True},
        {"min": 1, "max": 10**15, "log": True, "integer": True},
        {"min": 5e-324, "max": 1e15, "log": True},
        {"min": 0, "max": 1e6, "step": 1e-9},
        {"min": 0.0, "max": 1.0, "step": 0.3},
        {"min": 0.5, "max": 4.5, "integer": False, "step": 10},
    ],
)
def test_any_range_is_drawn_within_its_ends(told: dict[str, Any]) -> None:
    for number in range(1, 20):
        value = search.choose("random", search.space_of({"a": told}), 3, number, [])["a"]
        assert told["min"] <= value <= told["max"]
        assert isinstance(value, int) == bool(told.get("integer"))


def test_optuna_is_imported_by_nobody_who_does_not_need_it() -> None:
    program = "import sys, control_plane.api.app, control_plane.watcher.main; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_a_sweep_that_cannot_go_on_holds_up_no_other(side: Side, database_url: str) -> None:
    broken = await side.sweep(parameters={"seed": {"values": [1]}})
    sound = await side.sweep(parameters={"seed": {"values": [1]}})
    execute(database_url, "UPDATE sweeps SET parameters = '{\"seed\": {}}' WHERE id = %s", broken)
    await side.advance()
    assert await side.children(broken) == []
    assert len(await side.children(sound)) == 1


def test_a_small_space_is_drawn_without_repeating() -> None:
    space = search.space_of({"a": {"values": [[1], [2], [3]]}, "b": {"min": 1, "max": 3, "integer": True}})
    taken: list[search.Point] = []
    for number in range(1, 10):
        taken.append(search.choose("random", space, 1, number, taken))
    assert len({str(point) for point in taken}) == 9
    assert len({str(point) for point in search.grid(space)}) == 9


async def test_asha_stops_those_that_fall_behind(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_id = await side.sweep(
        method="asha", trials=6, concurrency=3, asha={"minSteps": 10, "reductionFactor": 2},
        parameters={"learningRate": {"min": 1e-6, "max": 1e-2, "log": True}},
    )  # fmt: skip
    await side.advance()
    await side.started(sweep_id)
    for number in (1, 2, 3):
        await side.measured(number, 5, loss=0.1)
    await side.advance()
    assert {trial["state"] for trial in (await side.trials(sweep_id)).values()} == {"running"}
    for number, loss in ((1, 1.0), (2, 3.0), (3, 0.5)):
        await side.measured(number, 10, loss=loss)
    await side.measured(2, 11, loss=0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(advancing, "_stop", _killed)
        await side.advance()
    assert (await side.trials(sweep_id))[2]["state"] == "running"
    await side.advance()
    trials = await side.trials(sweep_id)
    assert [trials[n]["state"] for n in (1, 2, 3)] == ["running", "stopping", "running"]
    assert trials[2]["prunedAtStep"] == 10
    await side.advance()
    assert [row for row in await _reports(side) if row[0] == 2] == [[2, 10, 3.0]]
    await side.ended(2, "stopped")
    for number, loss in ((1, 2.0), (3, 4.0)):
        await side.measured(number, 20, loss=loss)
    await side.advance()
    await side.advance()
    trials = await side.trials(sweep_id)
    assert (trials[2]["state"], trials[2]["value"]) == ("pruned", 0.0)
    assert (trials[1]["state"], trials[3]["state"], trials[4]["state"]) == ("running", "stopping", "queued")
    await side.ended(3, "succeeded")
    await side.measured(1, 90, loss=0.7)
    await side.ended(1)
    await side.advance()
    trials = await side.trials(sweep_id)
    assert (trials[3]["state"], trials[3]["prunedAtStep"], trials[3]["rank"]) == ("succeeded", None, 2)
    await side.started(sweep_id)
    for number in (4, 5, 6):
        await side.measured(number, 10, loss=9.0)
    await side.advance()
    for number in (4, 5, 6):
        await side.ended(number, "stopped")
    await side.advance()
    sweep = await side.shown(sweep_id)
    assert (sweep["state"], sweep["best"]["number"]) == ("succeeded", 1)
    assert sweep["counts"] | {"succeeded": 2, "pruned": 4} == sweep["counts"]
    assert [trial["number"] for trial in sweep["trials"]] == [1, 3, 2, 4, 5, 6]


async def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


async def _reports(side: Side) -> list[list[Any]]:
    with psycopg.connect(side.worker.database.url) as connection:
        row = connection.execute("SELECT reports FROM sweeps").fetchone()
    assert row is not None
    reports: list[list[Any]] = row[0]
    return reports


async def test_reports_replayed_in_order_judge_alike() -> None:
    told = [(1, 10, 5.0), (2, 10, 4.0), (3, 10, 6.0), (1, 20, 3.0), (2, 20, 3.5)]
    whole = search.Halving("minimize", 10, 2, [])
    answers = [whole.hopeless(*one) for one in told]
    assert answers == [False, False, True, False, True]
    for place in range(len(told)):
        assert search.Halving("minimize", 10, 2, told[:place]).hopeless(*told[place]) == answers[place]
    best = search.Halving("maximize", 10, 2, [])
    assert [best.hopeless(n, 10, v) for n, v in ((1, 5.0), (2, 4.0), (3, 6.0))] == [False, True, False]


async def test_a_failed_child_is_a_failed_trial_and_the_sweep_goes_on(side: Side) -> None:
    sweep_id = await side.sweep(
        parameters={"learningRate": {"values": RATES}}, concurrency=1, goal="maximize", metric="x"
    )
    for number, outcome in ((1, {"status": "failed", "reason": "out_of_memory"}), (2, {}), (3, {})):
        await side.advance()
        await side.started(sweep_id)
        await side.ended(number, **{"result": {"metrics": {"x": number}}, **outcome})
    await side.advance()
    sweep = await side.shown(sweep_id)
    assert sweep["state"] == "succeeded"
    assert [(trial["number"], trial["state"], trial["rank"]) for trial in sweep["trials"]] == [
        (3, "succeeded", 1), (2, "succeeded", 2), (1, "failed", None),
    ]  # fmt: skip
    assert sweep["trials"][2]["error"]["code"] == "out_of_memory"
    assert sweep["best"]["value"] == 3.0


async def test_three_bad_configurations_in_a_row_end_the_sweep(side: Side) -> None:
    sweep_id = await side.sweep(parameters={"seed": {"min": 1, "max": 20}}, concurrency=4)
    await side.advance()
    await side.started(sweep_id)
    for number in (1, 2, 3):
        await side.ended(number, "failed", reason="bad_data", message="No column is called so.", hint="Rename it.")
    await side.advance()
    assert (await side.shown(sweep_id))["state"] == "stopping"
    assert (await side.trials(sweep_id))[4]["state"] == "stopping"
    await side.ended(4, "stopped")
    await side.advance()
    sweep = await side.shown(sweep_id)
    assert (sweep["state"], sweep["error"]["code"], sweep["error"]["hint"]) == ("failed", "bad_data", "Rename it.")
    assert len(await side.children(sweep_id)) == 4


async def test_what_a_trial_needs_may_go_before_it_is_submitted(side: Side, database_url: str) -> None:
    sweep_id = await side.sweep(parameters={"seed": {"values": [1, 2]}}, concurrency=1)
    await side.advance()
    await side.started(sweep_id)
    await side.ended(1, result={"metrics": {"loss": 1.5}})
    execute(database_url, 'UPDATE sweeps SET base = base || \'{"dataset": "gone"}\'')
    await side.advance()
    await side.advance()
    sweep = await side.shown(sweep_id)
    assert (sweep["state"], sweep["trials"][1]["state"]) == ("succeeded", "failed")
    assert "gone" in sweep["trials"][1]["error"]["message"]


async def test_a_full_queue_makes_trials_wait(side: Side) -> None:
    execute(side.worker.database.url, "UPDATE projects SET max_queued_jobs = 2")
    sweep_id = await side.sweep(parameters={"seed": {"min": 1, "max": 9}})
    await side.advance()
    assert len(await side.children(sweep_id)) == 2
    await side.started(sweep_id)
    await side.advance()
    assert len(await side.children(sweep_id)) == 4
    await side.advance()
    assert len(await side.children(sweep_id)) == 4


async def test_stopping_and_deleting(side: Side, admin: httpx.AsyncClient) -> None:
    sweep_id = await side.sweep(parameters={"seed": {"min": 1, "max": 9}}, concurrency=2)
    await side.advance()
    await side.started(sweep_id)
    path = f"/api/training/sweeps/{sweep_id}"
    assert (await admin.delete(path)).json()["code"] == "sweep_not_ended"
    assert (await admin.post(f"{path}/stop")).json()["state"] == "stopping"
    await side.advance()
    assert {job["state"] for job in await side.children(sweep_id)} == {"stopping"}
    for number in (1, 2):
        await side.measured(number, 1, loss=number)
        await side.ended(number, "stopped")
    await side.advance()
    sweep = await side.shown(sweep_id)
    assert (sweep["state"], sweep["counts"]["stopped"], sweep["counts"]["waiting"]) == ("stopped", 2, 0)
    assert sweep["best"] is None
    assert (await admin.post(f"{path}/stop")).json()["state"] == "stopped"
    assert (await admin.delete(path)).status_code == 204
    assert (await admin.get(path)).json()["code"] == "unknown_sweep"
    assert len(await side.children(sweep_id)) == 2


async def test_a_sweep_stopped_before_its_first_job(side: Side, admin: httpx.AsyncClient) -> None:
    sweep_id = await side.sweep(parameters={"seed": {"values": [1]}})
    await admin.post(f"/api/training/sweeps/{sweep_id}/stop")
    await side.advance()
    assert (await side.shown(sweep_id))["state"] == "stopped"
    assert await side.children(sweep_id) == []


async def test_a_deleted_job_leaves_its_trial(side: Side, admin: httpx.AsyncClient) -> None:
    sweep_id = await side.sweep(parameters={"seed": {"values": [1, 2]}}, concurrency=1)
    await side.advance()
    [job] = await side.children(sweep_id)
    await admin.post(f"/api/jobs/{job['id']}/stop")
    assert (await admin.delete(f"/api/jobs/{job['id']}")).status_code == 204
    await side.advance()
    trials = await side.trials(sweep_id)
    assert (trials[1]["state"], trials[1]["jobId"]) == ("stopped", None)
    assert [job["labels"]["imts/trial"] for job in await side.children(sweep_id)] == ["2"]


async def test_the_watcher_advances_by_itself(side: Side) -> None:
    watch = SweepWatch(side.worker.database, side.hints, side.references)
    side.hints.listen(watch.hear)
    task = asyncio.create_task(watch.run())
    sweep_id = await side.sweep(parameters={"seed": {"values": [1]}})
    try:
        for _ in range(100):
            if await side.children(sweep_id):
                break
            await asyncio.sleep(0.05)
        await side.started(sweep_id)
        await side.ended(1, result={"metrics": {"loss": 1.0}})
        for _ in range(100):
            if (await side.shown(sweep_id))["state"] == "succeeded":
                break
            await asyncio.sleep(0.05)
    finally:
        task.cancel()
    assert (await side.shown(sweep_id))["state"] == "succeeded"


REFUSED: list[tuple[dict[str, Any], int, str, str, str]] = [
    ({"parameters": {"learningrate_": {"values": [1]}}}, 422, "unknown_field", "parameters.learningrate_",
     "learningRate"),
    ({"parameters": {"learning_rate": {"values": [1]}, "learningRate": {"values": [1]}}}, 422, "conflicting_fields",
     "parameters.learningRate", "once"),
    ({"parameters": {"advanced.learning_rate": {"values": [1]}}}, 422, "conflicting_fields",
     "parameters.advanced.learning_rate", "learningRate"),
    ({"parameters": {"num_train_epochs": {"values": [1]}}}, 422, "unknown_field", "parameters.num_train_epochs",
     "epochs"),
    ({"parameters": {"name": {"values": ["a"]}}}, 422, "unknown_field", "parameters.name", "sweep"),
    ({"parameters": {"learningRate": {"values": [1e-4, "fast"]}}}, 422, "invalid_request",
     "parameters.learningRate", ""),
    ({"parameters": {"loraDropout": {"min": 0, "max": 1, "step": 0.5}}}, 422, "invalid_request",
     "parameters.loraDropout", ""),
    ({"parameters": {"learningRate": {"min": 1e-5, "max": 1e-3}}}, 422, "bad_range", "parameters.learningRate", "step"),
    ({"parameters": {"learningRate": {"min": 1e-3, "max": 1e-5, "step": 1}}}, 422, "bad_range",
     "parameters.learningRate", ""),
    ({"parameters": {"learningRate": {"min": 1e-5}}}, 422, "missing_field", "parameters.learningRate", ""),
    ({"parameters": {"learningRate": {"values": [1], "max": 1}}}, 422, "conflicting_fields",
     "parameters.learningRate", ""),
    ({"parameters": {"epochs": {"values": [1]}}}, 422, "conflicting_fields", "parameters.epochs", "maxSteps"),
    ({"parameters": {"advanced.x": {"min": 0, "max": 1e9, "step": 1e-9}}}, 422, "bad_range",
     "parameters.advanced.x", ""),
    ({"parameters": {"loraRank": {"min": 1.5, "max": 4}}}, 422, "bad_range", "parameters.loraRank", ""),
    ({"parameters": {"seed": {"min": 1, "max": 501}}}, 422, "too_many_trials", "parameters", "random"),
    ({"parameters": {"seed": {"values": [1, 2]}}, "method": "random", "trials": 3}, 422, "too_many_trials",
     "trials", "2"),
    ({"parameters": {"seed": {"values": [1, 2]}}, "method": "random"}, 422, "missing_field", "trials", ""),
    ({"parameters": {"seed": {"values": [1, 2]}}, "trials": 2}, 422, "conflicting_fields", "trials", "random"),
    ({"parameters": {"seed": {"values": [1]}}, "asha": {}}, 422, "conflicting_fields", "asha", ""),
    ({"parameters": {"seed": {"values": [1]}}, "base": {**BASE, "dataset": "nowhere"}}, 404, "unknown_dataset",
     "base.dataset", ""),
    ({"parameters": {"dataset": {"values": ["nowhere"]}}}, 404, "unknown_dataset", "parameters.dataset", ""),
    ({"parameters": {"seed": {"values": [1]}}, "base": {**BASE, "epochz": 3}}, 422, "invalid_request", "base.epochz",
     "epochs"),
    ({"parameters": {"seed": {"values": [1]}}, "labels": {"imts/sweep": "x"}}, 409, "conflicting_fields",
     "labels.imts/sweep", ""),
    ({"parameters": {"seed": {"values": [1]}}, "project": "nowhere"}, 404, "unknown_project", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "field", "hint"), REFUSED)
async def test_what_cannot_be_is_refused_at_once(
    admin: httpx.AsyncClient, database_url: str, body: dict[str, Any], status: int, code: str, field: str, hint: str
) -> None:
    answer = await admin.post("/api/training/sweeps", json={"base": BASE, **body})
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), answer.text
    assert told.get("field", "") == field
    assert hint in told.get("hint", "")
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM sweeps) + (SELECT count(*) FROM jobs)").fetchone() == (
            0,
        )


async def test_the_first_job_is_checked_as_an_ordinary_one(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from control_plane.problems import Refusal

    async def checked(self: Any, spec: dict[str, Any], *_: Any) -> dict[str, Any]:
        raise Refusal(422, "bad_config", "There is no argument 'neftune_alfa'.", field="advanced.neftune_alfa")

    monkeypatch.setattr(Checker, "checked", checked)
    body = {"base": {**BASE, "advanced": {"x": 1}}, "parameters": {"advanced.neftune_alfa": {"values": [1]}}}
    told = (await admin.post("/api/training/sweeps", json=body)).json()
    assert (told["code"], told["field"]) == ("bad_config", "parameters.advanced.neftune_alfa")
    body["parameters"] = {"seed": {"values": [1]}}
    told = (await admin.post("/api/training/sweeps", json=body)).json()
    assert told["field"] == "base.advanced.neftune_alfa"


async def test_roles_and_projects(side: Side, url: str, new_key: NewKey, member: httpx.AsyncClient) -> None:
    sweep_id = await side.sweep(parameters={"seed": {"values": [1]}})
    theirs = await side.sweep(parameters={"seed": {"values": [1]}}, project="other")
    assert [one["id"] for one in (await side.client.get("/api/training/sweeps")).json()["items"]] == [theirs, sweep_id]
    page = (await side.client.get("/api/training/sweeps", params={"limit": 1})).json()
    rest = await side.client.get("/api/training/sweeps", params={"limit": 1, "cursor": page["nextCursor"]})
    assert [one["id"] for one in rest.json()["items"]] == [sweep_id]
    assert [one["id"] for one in (await member.get("/api/training/sweeps")).json()["items"]] == [sweep_id]
    assert (await member.get(f"/api/training/sweeps/{theirs}")).status_code == 404
    assert (await member.post(f"/api/training/sweeps/{theirs}/stop")).status_code == 404
    headers = {"Authorization": f"Bearer {await new_key(Role.viewer)}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as viewer:
        assert (await viewer.get(f"/api/training/sweeps/{sweep_id}")).status_code == 200
        assert (await viewer.post(f"/api/training/sweeps/{sweep_id}/stop")).status_code == 403
        body = {"base": BASE, "parameters": {"seed": {"values": [1]}}}
        assert (await viewer.post("/api/training/sweeps", json=body)).status_code == 403
    await side.advance()
    assert {job["project"] for job in await side.children(theirs)} == {"other"}


async def test_the_same_key_makes_one_sweep(admin: httpx.AsyncClient) -> None:
    body = {"base": BASE, "parameters": {"seed": {"values": [1]}}}
    headers = {"Idempotency-Key": "k"}
    asked = [admin.post("/api/training/sweeps", json=body, headers=headers) for _ in range(4)]
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await admin.post("/api/training/sweeps", json={**body, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


async def test_evaluation_decides_what_is_measured(side: Side) -> None:
    parameters = {"seed": {"values": [1]}}
    evaluated = await side.sweep(base={**BASE, "valSize": 0.1}, parameters=parameters)
    assert (await side.shown(evaluated))["metric"] == "evalLoss"
    file = {"model_name_or_path": "builtin:tiny-qwen3", "dataset": "alpaca_en_demo", "max_steps": 90}
    plain = await side.sweep(base=file, method="asha", trials=1, parameters=parameters)
    sweep = await side.shown(plain)
    assert (sweep["metric"], sweep["asha"], sweep["base"]["maxSteps"]) == (
        "loss", {"minSteps": 10, "reductionFactor": 3}, 90,
    )  # fmt: skip
