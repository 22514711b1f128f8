"""Threads of an engine that the system has forgotten are moved, and no others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imts_shared.worker import guard
from imts_shared.worker.guard import Starved

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="by /proc")
BUSY = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nwhile True: pass"


def thread(proc: Path, process: int, number: int, state: str, ran: int, core: int, children: str = "") -> None:
    """As /proc tells of it: a name may hold what it likes."""
    there = proc / str(process) / "task" / str(number)
    there.mkdir(parents=True, exist_ok=True)
    before, after = ["0"] * 10, ["0"] * 23
    told = [state, *before, str(ran), "0", *after, str(core), "0"]
    (there / "stat").write_text(f"{number} (a) b (c) {' '.join(told)}")
    (there / "children").write_text(children)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, set[int]]]:
    found: list[tuple[int, set[int]]] = []
    cores = {0: {0, 1}, 7: {0, 1}, 11: {1}, 13: {0, 1}}
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: cores.get(number, {0, 1}))
    monkeypatch.setattr(os, "sched_setaffinity", lambda number, to: found.append((number, set(to))))
    return found


def test_who_is_ready_and_has_no_time_from_one_look_to_the_next_is_moved(
    tmp_path: Path, moved: list[tuple[int, set[int]]]
) -> None:
    starved = Starved(7, tmp_path)
    thread(tmp_path, 7, 7, "R", 5, 0, "11 12")
    thread(tmp_path, 7, 8, "S", 5, 0)
    thread(tmp_path, 11, 11, "R", 3, 1, "13")
    thread(tmp_path, 13, 13, "R", 3, 0)
    starved.move()
    assert moved == [], "one look tells nothing"
    thread(tmp_path, 13, 13, "R", 4, 0)
    starved.move()
    assert sorted(moved) == sorted([(7, {1}), (7, {0, 1}), (11, {0}), (11, {0, 1})]), "to another core, and not back"
    moved.clear()
    thread(tmp_path, 7, 7, "S", 5, 0, "11")
    thread(tmp_path, 11, 11, "R", 9, 1, "13")
    starved.move()
    assert moved == [(13, {1}), (13, {0, 1})]


def test_what_runs_and_what_is_gone_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    monkeypatch.setattr(guard, "_move", lambda number, _core: moved.append(number))
    with subprocess.Popen([sys.executable, "-c", BUSY]) as engine:
        starved = Starved(engine.pid)
        for _ in range(3):
            starved.move()
            os.sched_yield()
            subprocess.run(["sleep", "0.7"], check=True)
        engine.kill()
    starved.move()
    assert moved == []


@pytest.mark.parametrize("held", [False, True])
def test_a_thread_may_go_where_it_might_before_and_is_not_held_where_it_has_no_time(held: bool) -> None:
    cores = os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", BUSY]) as engine:
        if held:
            os.sched_setaffinity(engine.pid, {min(cores)})
        guard._move(engine.pid, min(cores))
        assert os.sched_getaffinity(engine.pid) == cores
        engine.kill()
