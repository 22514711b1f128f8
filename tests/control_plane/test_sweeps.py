"""Sweeps: checked, advanced by the watcher, ranked, pruned, given up, stopped, deleted."""

import asyncio
from typing import Any

import httpx
import pytest

from control_plane.jobs.intake import store
from control_plane.sweeps import advancing
from control_plane.watcher.sweeps import SweepWatch
from tests.control_plane.sweeps_side import BASE, RATES, Side
from tests.control_plane.worker_side import execute


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


async def test_a_sweep_that_cannot_go_on_holds_up_no_other(side: Side, database_url: str) -> None:
    broken = await side.sweep(parameters={"seed": {"values": [1]}})
    sound = await side.sweep(parameters={"seed": {"values": [1]}})
    execute(database_url, "UPDATE sweeps SET parameters = '{\"seed\": {}}' WHERE id = %s", broken)
    await side.advance()
    assert await side.children(broken) == []
    assert len(await side.children(sound)) == 1


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
