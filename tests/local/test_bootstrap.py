"""`./imts` from nothing: only this Python and what the lock names."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imts_cli import bootstrap
from tests.local.conftest import TREE


def command(home: Path) -> tuple[list[str], dict[str, str]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IMTS_")}
    environment = {**clean, "IMTS_HOME": str(home), "PATH": "/usr/bin:/bin"}
    return [sys.executable, str(TREE / "imts"), "status"], environment


def imts(home: Path) -> "subprocess.CompletedProcess[str]":
    arguments, environment = command(home)
    return subprocess.run(arguments, check=False, capture_output=True, text=True, env=environment, timeout=110)


@pytest.mark.slow
def test_a_bare_python_becomes_a_platform_once_even_when_asked_twice_or_cut_off(tmp_path: Path) -> None:
    home = tmp_path / "home"
    arguments, environment = command(home)
    both = [subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for one in both:
        assert one.communicate(timeout=110)[0] == "IMTS is not running: start it with `imts up`.\n"
        assert one.returncode == 3
    began = time.monotonic()
    again = imts(home)
    assert time.monotonic() - began < 3
    assert "Installing" not in again.stderr

    (home / "envs" / "platform.stamp").unlink()
    next((home / "envs" / "platform").glob("lib/python3*/site-packages/typer/__init__.py")).unlink()
    repaired = imts(home)
    assert "Installing" in repaired.stderr
    assert repaired.returncode == 3


def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = imts(tmp_path / "file" / "home")
    assert answer.returncode == 1
    assert answer.stderr.startswith("IMTS cannot install itself into ")
    assert len(answer.stderr.splitlines()) == 1


def test_the_entry_parses_on_a_python_too_old_to_run_it() -> None:
    ast.parse((TREE / "imts").read_text(), feature_version=(3, 4))


def test_uv_is_told_what_pip_was_told_unless_it_was_told_itself() -> None:
    told = bootstrap.uv_settings({"PIP_INDEX_URL": "here", "PIP_CERT": "a.pem", "SSL_CERT_FILE": "b.pem"})
    assert told["UV_DEFAULT_INDEX"] == "here"
    assert told["SSL_CERT_FILE"] == "b.pem"


def test_another_lock_or_python_asks_for_another_install() -> None:
    assert bootstrap.fingerprint(TREE, "platform") != bootstrap.fingerprint(TREE, "dev")
