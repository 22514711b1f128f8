"""Copies of IMTS with homes and ports of their own, all ended with the test that made them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from imts_cli.local import processes, state
from imts_cli.local.home import Home
from imts_cli.local.ports import PORTS

TREE = Path(__file__).parents[2]


def free_offset() -> int:
    for offset in range(1000 + os.getpid() % 500, 9000, 7):
        sockets = [socket.socket() for _ in PORTS]
        try:
            for probe, (_, port) in zip(sockets, PORTS.values(), strict=True):
                probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        else:
            return offset
        finally:
            for probe in sockets:
                probe.close()
    raise AssertionError("no offset is free")


@dataclass
class Copy:
    root: Path
    offset: int = field(default_factory=free_offset)
    more: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return Home(self.root)

    def port(self, service: str) -> int:
        return PORTS[service][1] + self.offset

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("IMTS_")}
        return {**clean, "IMTS_HOME": str(self.root), "IMTS_PORT_OFFSET": str(self.offset), **self.more}

    def imts(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "imts_cli", *arguments]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=self.environment, cwd=TREE, timeout=90
        )

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.local.stand_in", "platform"]
        supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment, cwd=TREE)
        assert supervisor.stdout is not None
        for line in supervisor.stdout:
            if line == "ready\n":
                return supervisor
        raise AssertionError(f"the stand-in platform ended with {supervisor.wait()}")

    def status(self) -> Any:
        return json.loads(self.imts("status", "--json").stdout)

    def state(self) -> state.State:
        found = state.read(self.home)
        assert found is not None
        return found

    def pid(self, service: str) -> int:
        return next(one.pid for one in self.state().services if one.name == service and one.pid is not None)

    def processes(self) -> list[processes.Record]:
        return processes.of_run(self.state().run)

    def sql(self) -> "psycopg.Connection[Any]":
        password = self.home.secret("postgres-password")
        port = self.port("postgres")
        return psycopg.connect(f"postgresql://imts:{password}@127.0.0.1:{port}/imts", autocommit=True)


def eventually(true: Callable[[], bool], within: float = 10) -> bool:
    until = time.monotonic() + within
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def new_copy(tmp_path: Path) -> Iterator[Callable[..., Copy]]:
    made: list[Copy] = []

    def make(name: str = "home", **more: str) -> Copy:
        one = Copy(tmp_path / name, more=more)
        made.append(one)
        return one

    yield make
    for one in made:
        one.imts("down")


@pytest.fixture
def copy(new_copy: Callable[..., Copy]) -> Copy:
    return new_copy()
