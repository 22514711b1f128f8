"""Which trials a search draws, and which of them it stops early."""

import subprocess
import sys
from typing import Any

import psycopg
import pytest

from control_plane.sweeps import advancing, search
from tests.control_plane.sweeps_side import Side


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
