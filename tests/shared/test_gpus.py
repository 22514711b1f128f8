"""GPUs of a worker: never lent twice, always given back."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from imts_shared.contracts.internal import Device
from imts_shared.worker.gpus import Gpus, found


def gpus(count: int) -> Gpus:
    return Gpus([Device(kind="cuda", index=number, name="GPU") for number in range(count)])


def test_as_many_as_asked_for_by_default_one() -> None:
    four = gpus(4)
    with four.lent(None) as one, four.lent(2) as two, four.lent(0) as none:
        assert (one, two, none) == (["0"], ["1", "2"], [])
    with four.lent(9) as everything:
        assert everything == ["0", "1", "2", "3"]
    with gpus(0).lent(2) as nothing:
        assert nothing == []


def test_never_the_same_to_two_at_once() -> None:
    shared = gpus(4)
    held: set[str] = set()
    lock = threading.Lock()
    faults: list[str] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            asked = chance.choice([None, 0, 1, 2, 3, 4])
            try:
                with shared.lent(asked) as mine:
                    with lock:
                        faults.extend(device for device in mine if device in held)
                        held.update(mine)
                        if len(mine) != (1 if asked is None else asked):
                            faults.append(f"{asked} gave {mine}")
                    time.sleep(chance.random() / 2_000)
                    with lock:
                        held.difference_update(mine)
                    if chance.random() < 0.3:
                        raise RuntimeError("the attempt failed")
            except RuntimeError:
                pass

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not faults
    with shared.lent(4) as all_back:
        assert all_back == ["0", "1", "2", "3"]


def test_who_waits_gets_what_is_given_back() -> None:
    one = gpus(1)
    got = threading.Event()

    def wait() -> None:
        with one.lent(None):
            got.set()

    with pytest.raises(ValueError), one.lent(1):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(0.1)
        raise ValueError
    assert got.wait(5)
    waiting.join(5)


@pytest.mark.parametrize(
    ("visible", "indexes"),
    [(None, [0, 1, 3]), ("1,3", [1, 3]), ("GPU-bbb", [1]), ("", []), ("-1", []), ("0, GPU-ccc", [0, 3])],
)
def test_only_what_the_worker_may_see_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, indexes: list[int]
) -> None:
    tool = tmp_path / "nvidia-smi"
    lines = ["0, GPU-aaa-1, NVIDIA X, 81559", "1, GPU-bbb-2, NVIDIA X, [N/A]", "3, GPU-ccc-3, NVIDIA Y, 100", "oops"]
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    devices = found(visible)
    assert [device.index for device in devices] == indexes
    if visible is None:
        assert [device.memory_bytes for device in devices] == [81559 * 2**20, None, 100 * 2**20]
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert found() == []


ANOTHER_PROCESS = """
import sys
from pathlib import Path
from imts_shared.contracts.internal import Device
from imts_shared.worker.gpus import Gpus
gpus = Gpus([Device(kind="cuda", index=i, name="X") for i in range(2)], Path(sys.argv[1]))
print(gpus.taken(1), flush=True)
sys.stdin.readline()
"""


def test_a_device_that_another_process_holds_is_lent_by_nobody_else(tmp_path: Path) -> None:
    mine = Gpus([Device(kind="cuda", index=i, name="X") for i in range(2)], tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER_PROCESS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as another:
        assert another.stdout is not None
        assert another.stdout.readline() == "['0']\n"
        assert mine.free() == 1
        assert mine.taken(2) is None
        assert mine.taken(1) == ["1"]
        assert mine.free() == 0
        another.kill()
        another.wait()
        assert mine.free() == 1
        with mine.lent(1) as lent:
            assert lent == ["0"]
    mine.give_back(["1"])
    assert mine.free() == 2
