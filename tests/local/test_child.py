"""A child cannot outlive its parent: by the kernel here, by a guard and a pipe where the kernel cannot help."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imts_cli.local import child, processes
from tests.local.conftest import eventually

PARENT = """
import os, subprocess, sys
read, write = os.pipe()
guarded = sys.argv[2] == "guard"
more = ["--guard-pipe", str(read)] if guarded else []
launcher = [sys.executable, sys.argv[1], "--parent", str(os.getpid()), "--death-signal", "9", *more, "--"]
inner = "import os, pathlib, time; pathlib.Path(%r).write_text(str(os.getpid())); time.sleep(60)" % sys.argv[3]
subprocess.Popen([*launcher, sys.executable, "-c", inner], pass_fds=(read,) if guarded else ()).wait()
"""


@pytest.mark.parametrize("how", ["kernel", "guard"])
def test_a_child_dies_with_its_killed_parent(tmp_path: Path, how: str) -> None:
    file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, child.__file__, how, str(file)])
    assert eventually(lambda: file.exists() and file.read_text() != "")
    inner = processes.record(int(file.read_text()))
    assert inner.alive
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not inner.alive, within=5)


def test_a_child_whose_parent_died_before_it_began_does_not_begin(tmp_path: Path) -> None:
    file = tmp_path / "began"
    arguments = [
        "--parent",
        "1" if os.getppid() != 1 else "2",
        "--death-signal",
        "9",
        "--",
        "/usr/bin/touch",
        str(file),
    ]
    assert subprocess.run([sys.executable, child.__file__, *arguments], check=False).returncode == 1
    assert not file.exists()
