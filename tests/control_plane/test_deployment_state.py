"""The table of a deployment's states, and what becomes of its newest version."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.deployments.placing import GIB, Need, Nowhere, Place, choose_place
from control_plane.deployments.state import Failure, Seen, Serve, Standing, derive, rollout
from imts_shared.contracts.deployments import DeploymentReason, DeploymentState, Engine

S, R = DeploymentState, DeploymentReason


def rep(state: str, revision: int = 1, number: int = 0, **more: Any) -> Seen:
    return Seen(revision, number, S(state), **more)


LOADING = {"phase": "loading weights", "percent": 40.0}
BAD = Failure(2, R.bad_arguments, "No option max_modle_len.", "Did you mean max_model_len?")

TABLE: list[tuple[str, Standing, tuple[str, str | None, int]]] = [
    ("new, nobody there", Standing(1, 1, waiting=(R.no_worker, "none")), ("pending", "no_worker", 0)),
    ("given to a worker, not yet begun", Standing(1, 1, owned=True), ("pending", None, 0)),
    ("waits at its worker", Standing(1, 1, owned=True, replicas=[rep("pending", reason=R.no_room)]),
     ("pending", "no_room", 0)),
    ("starts", Standing(1, 1, owned=True, replicas=[rep("starting", progress=LOADING)]), ("starting", None, 0)),
    ("one failed, one still starts",
     Standing(2, 1, owned=True, replicas=[rep("failed", reason=R.no_room), rep("starting", number=1)]),
     ("starting", None, 0)),
    ("first version given up", Standing(1, 2, failure=BAD, owned=True), ("failed", "bad_arguments", 0)),
    ("ready", Standing(1, 1, 1, owned=True, replicas=[rep("ready")]), ("ready", None, 1)),
    ("some ready", Standing(2, 1, 1, owned=True, replicas=[rep("ready"), rep("starting", number=1)]),
     ("degraded", None, 1)),
    ("one of two failed",
     Standing(2, 1, 1, owned=True, replicas=[rep("ready"), rep("failed", number=1, reason=R.crash_loop)]),
     ("degraded", "crash_loop", 1)),
    ("comes back by itself", Standing(1, 1, 1, owned=True, replicas=[rep("starting", reason=R.unhealthy)]),
     ("starting", "unhealthy", 0)),
    ("crashed for good", Standing(1, 1, 1, owned=True, replicas=[rep("failed", reason=R.crash_loop)]),
     ("failed", "crash_loop", 0)),
    ("crashed for good, and another version is wanted",
     Standing(1, 2, 1, owned=True, replicas=[rep("failed", reason=R.crash_loop)]), ("pending", None, 0)),
    ("that other version comes up",
     Standing(1, 2, 1, owned=True, replicas=[rep("failed", reason=R.crash_loop), rep("starting", 2)]),
     ("starting", None, 0)),
    ("its worker is gone", Standing(1, 1, 1, waiting=(R.no_worker, "gone")), ("pending", "no_worker", 0)),
    ("new version beside it", Standing(1, 2, 1, owned=True, replicas=[rep("ready"), rep("starting", 2)]),
     ("ready", None, 1)),
    ("new version given up", Standing(1, 2, 1, failure=BAD, owned=True, replicas=[rep("ready")]),
     ("ready", "bad_arguments", 1)),
    ("old version drains", Standing(1, 2, 2, owned=True, replicas=[rep("ready", draining=True), rep("ready", 2)]),
     ("ready", None, 1)),
    ("surplus replica is not counted", Standing(1, 1, 1, owned=True, replicas=[rep("ready"), rep("ready", number=1)]),
     ("ready", None, 1)),
    ("stopped while one drains", Standing(1, 1, 1, stopped=True, owned=True, replicas=[rep("ready", draining=True)]),
     ("stopped", "user_stopped", 0)),
    ("asleep", Standing(1, 1, 1, asleep=True), ("stopped", "idle", 0)),
    ("no replicas wanted", Standing(0, 1, 1, owned=True, replicas=[rep("ready")]), ("stopped", "user_stopped", 0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "standing", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_state(name: str, standing: Standing, expected: tuple[str, str | None, int]) -> None:
    found = derive(standing)
    assert (found.state, found.reason, found.ready) == expected


def test_progress_messages_and_errors() -> None:
    assert derive(TABLE[3][1]).progress == LOADING
    beside = derive(Standing(1, 2, 1, owned=True, replicas=[rep("ready"), rep("starting", 2, progress=LOADING)]))
    assert (beside.progress, beside.message) == (LOADING, "Version 2 is coming up beside version 1.")
    rolled_back = derive(Standing(1, 2, 1, failure=BAD, owned=True, replicas=[rep("ready")]))
    assert rolled_back.message == "Version 2 failed and takes no traffic; version 1 goes on."
    assert rolled_back.error == {"code": "bad_arguments", "message": BAD.message, "hint": BAD.hint}
    draining = derive(Standing(1, 1, 1, stopped=True, owned=True, replicas=[rep("ready", draining=True)]))
    assert draining.message == "1 of its replicas end their running requests."


FAILED = rep("failed", 2, reason=R.out_of_memory, message="Killed.")
ROLLOUTS: list[tuple[str, Standing, Any]] = [
    ("nothing to do", Standing(1, 1, 1, replicas=[rep("ready")]), None),
    ("first one ready", Standing(2, 1, None, replicas=[rep("ready")]), Serve()),
    ("not yet all", Standing(2, 2, 1, replicas=[rep("ready"), rep("ready", 2)]), None),
    ("all of the new", Standing(2, 2, 1, replicas=[rep("ready"), rep("ready", 2), rep("ready", 2, 1)]), Serve()),
    ("old one is dead", Standing(2, 2, 1, replicas=[rep("starting"), rep("ready", 2)]), Serve()),
    ("draining does not count", Standing(1, 2, 1, replicas=[rep("ready"), rep("ready", 2, draining=True)]), None),
    ("surplus does not count", Standing(1, 2, 1, replicas=[rep("ready"), rep("ready", 2, 5)]), None),
    ("new one failed", Standing(1, 2, 1, replicas=[rep("ready"), FAILED]), Failure(2, R.out_of_memory, "Killed.")),
    ("one of the first failed", Standing(2, 2, None, replicas=[FAILED, rep("starting", 2, 1)]), None),
    ("all of the first failed", Standing(1, 2, None, replicas=[FAILED]), Failure(2, R.out_of_memory, "Killed.")),
    ("given up already", Standing(1, 2, 1, failure=BAD, replicas=[rep("ready", 2)]), None),
    ("stopped", Standing(1, 1, None, stopped=True, replicas=[rep("ready")]), None),
    ("asleep", Standing(1, 1, None, asleep=True, replicas=[rep("ready")]), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "standing", "expected"), ROLLOUTS, ids=[row[0] for row in ROLLOUTS])
def test_rollout(name: str, standing: Standing, expected: Any) -> None:
    assert rollout(standing) == expected


SEEN = st.builds(
    Seen, st.integers(1, 3), st.integers(0, 3), st.sampled_from(list(S)), st.none() | st.sampled_from(list(R)),
    draining=st.booleans(),
)  # fmt: skip


@given(
    st.integers(0, 3), st.integers(1, 3), st.none() | st.integers(1, 3), st.booleans(), st.booleans(), st.booleans(),
    st.lists(SEEN, max_size=6),
)  # fmt: skip
def test_what_never_is(
    wanted: int, newest: int, serving: int | None, stopped: bool, asleep: bool, owned: bool, replicas: list[Seen]
) -> None:
    standing = Standing(wanted, newest, serving, None, stopped, asleep and not stopped, owned, (None, None), replicas)
    found = derive(standing)
    if found.state in (S.ready, S.degraded):
        assert found.ready > 0
        assert serving is not None
    assert (found.state == S.ready) <= (found.ready >= wanted > 0)
    assert (found.state == S.stopped) == (not standing.runs)
    if rollout(standing) == Serve():
        assert standing.ready(newest) > 0
        assert newest != serving


def place(name: str, **fields: Any) -> Place:
    given = {"launcher": "process", "engines": {"vllm": "installed"}, "gpus": 0, "free_gpus": 0,
             "memory_left": 8 * GIB} | fields  # fmt: skip
    return Place(name, **given)


def chosen(places: list[Place], **fields: Any) -> str:
    found = choose_place(places, Need(Engine.vllm, **{"replicas": 1} | fields))
    return f"{found.reason}: {found.message}" if isinstance(found, Nowhere) else found.id


def test_who_gets_it() -> None:
    small, large = place("small", memory_left=GIB), place("large", memory_left=9 * GIB)
    assert chosen([small, large], memory_bytes=2 * GIB) == "large"
    assert chosen([place("full", memory_left=-GIB)], memory_bytes=2 * GIB) == "full", "its worker decides"
    gpus = place("gpus", gpus=2, free_gpus=2)
    assert chosen([large, gpus]) == "gpus"
    assert chosen([large, gpus], gpu=0) == "large", "the GPUs are left to who needs them"
    assert chosen([gpus], gpu=0) == "gpus"
    assert chosen([place("busy", gpus=2, free_gpus=0), place("free", gpus=1, free_gpus=1)], gpu=1) == "free"
    assert chosen([place("busy", gpus=2, free_gpus=0, sleepers=1)], gpu=2) == "busy", "others can sleep for it"
    new = place("new", engines={"vllm": "installable"}, memory_left=90 * GIB)
    assert chosen([new, small]) == "small"
    assert chosen([place("used", deployments=3), place("unused")]) == "unused"


def test_a_cluster_finds_room_by_itself() -> None:
    cluster = place("cluster", launcher="kubernetes", memory_left=0)
    assert chosen([cluster], gpu=8, memory_bytes=80 * GIB) == "cluster"
    assert chosen([place("machine", gpus=2, free_gpus=0), cluster], gpu=2) == "cluster"
    assert chosen([cluster, place("machine")], launcher="process") == "machine"
    cluster.give(Need(Engine.vllm, 2, 4))
    assert chosen([cluster], gpu=8) == "cluster"


def test_why_nobody_gets_it() -> None:
    assert chosen([]) == "no_worker: No inference worker is there."
    assert chosen([place("a", draining=True)]) == "no_worker: The workers are shutting down."
    assert chosen([place("a")], launcher="kubernetes") == "no_worker: No inference worker launches by 'kubernetes'."
    assert chosen([place("a", engines={"vllm": "missing"})]).startswith("engine_missing: No inference worker has")
    assert chosen([place("a", gpus=2)], gpu=4) == "no_room: No inference worker has 4 GPUs; the largest has 2."
    assert chosen([place("a", gpus=2, free_gpus=1)], gpu=2) == "no_room: GPUs needed on one worker: 2; free on one: 1."


def test_what_is_given_is_taken() -> None:
    there = place("a", gpus=4, free_gpus=4)
    there.give(Need(Engine.vllm, 2, 1))
    assert (there.free_gpus, there.deployments, there.memory_left) == (2, 1, 8 * GIB)
    there.give(Need(Engine.vllm, 2, 0, GIB))
    assert (there.free_gpus, there.memory_left) == (2, 6 * GIB)
