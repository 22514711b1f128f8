import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner

from imts_cli.commands.platform import gateway as gateway_connected
from imts_cli.commands.platform import transport as connected
from imts_cli.main import build
from tests.cli.relay import Relay, relay_to
from tests.cli.stand_in import KEY, Platform, create_app
from tests.conftest import free_port


@dataclass
class Served:
    platform: Platform
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    served = Served(Platform(), free_port())
    config = uvicorn.Config(
        create_app(served.platform), host="127.0.0.1", port=served.port, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield served
    server.should_exit = server.force_exit = True
    thread.join(5)


@pytest.fixture
def served(server: Served) -> Served:
    server.platform.__init__()  # type: ignore[misc]
    return server


@pytest.fixture
def platform(served: Served) -> Platform:
    return served.platform


@pytest.fixture
def relay(served: Served) -> Iterator[Relay]:
    with relay_to(served.port) as relay:
        yield relay


def environment(url: str, key: str = KEY, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMTS_")}
    here = {"IMTS_URL": url, "IMTS_GATEWAY_URL": url, "IMTS_API_KEY": key, "COLUMNS": "200"}
    return kept | here | more


@dataclass
class Ran:
    code: int
    out: str
    err: str


Imts = Callable[..., Ran]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(served: Served) -> Iterator[Start]:
    """The command as a process of its own that goes on while the test does."""
    started: list[subprocess.Popen[str]] = []

    def go(*arguments: str, url: str | None = None, **more: Any) -> "subprocess.Popen[str]":
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
        options.setdefault("env", environment(url or served.url))
        options["preexec_fn"] = _hearing_ctrl_c
        process = subprocess.Popen([sys.executable, "-m", "imts_cli", *arguments], **options)
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _hearing_ctrl_c() -> None:
    """However the tests themselves were started: in a shell's background nobody hears it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def imts(served: Served) -> Imts:
    """The command within this process, which is quicker; tests that break or interrupt it use `start`."""

    def run(
        *arguments: str,
        given: str | None = None,
        url: str | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Ran:
        connected.cache_clear()
        gateway_connected.cache_clear()
        wanted = env or environment(url or served.url)
        gone = {name: None for name in os.environ if name not in wanted}
        with contextlib.chdir(cwd or Path.cwd()):
            ran = CliRunner().invoke(build(list(arguments)), arguments, input=given, env={**wanted, **gone})
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return Ran(ran.exit_code, ran.stdout, ran.stderr)

    return run


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "faq rows.jsonl"
    file.write_text('{"instruction": "a", "output": "ü"}\n{"instruction": "b", "output": "d"}\n', encoding="utf-8")
    return file
