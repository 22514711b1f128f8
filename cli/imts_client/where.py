"""Where the platform is and which key opens it.

Arguments, else IMTS_URL and IMTS_API_KEY, else the platform of this machine: its folder is $IMTS_HOME, or the
nearest `.imts` from the current folder upwards, or the one beside the program; its port is 8080 + IMTS_PORT_OFFSET.

The gateway is a door of its own: the argument, else IMTS_GATEWAY_URL, else what the platform of this machine has
written down, else port 8004 + IMTS_PORT_OFFSET of this machine.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from imts_client.errors import NotConfigured

API_PORT = 8080
GATEWAY_PORT = 8004
_THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Where:
    url: str
    key: str = field(repr=False)

    @property
    def is_here(self) -> bool:
        return _is_here(self.url)


def find(url: str | None = None, key: str | None = None) -> Where:
    address = (url or os.environ.get("IMTS_URL") or _local_url()).rstrip("/")
    _checked(address, "a platform")
    return Where(address, key or os.environ.get("IMTS_API_KEY") or _local_key(address))


def find_gateway(platform: Where, url: str | None = None, key: str | None = None) -> Where:
    """`key`: what the caller named; a key that was found on this machine is never sent to another."""
    named = (url or os.environ.get("IMTS_GATEWAY_URL") or "").rstrip("/").removesuffix("/v1")
    if named:
        _checked(named, "a gateway")
        return Where(named, key or os.environ.get("IMTS_API_KEY") or _local_key(named))
    if not platform.is_here:
        raise NotConfigured(f"The gateway of {platform.url} is not known: set IMTS_GATEWAY_URL.")
    return Where(_gateway_on_record(platform.url) or f"http://127.0.0.1:{GATEWAY_PORT + _offset()}", platform.key)


def _gateway_on_record(platform: str) -> str | None:
    """Where the supervisor of this machine's platform started the gateway beside it."""
    for home in _homes():
        try:
            record = json.loads((home / "run" / "supervisor.json").read_text(encoding="utf-8"))
            found = {service["name"]: service["url"] for service in record["services"]}
            if urlsplit(record["url"]).port == urlsplit(platform).port and _is_here(found["gateway"]):
                return str(found["gateway"])
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return None


def _checked(address: str, what: str) -> str:
    if not _is_address(address):
        raise NotConfigured(f"{address!r} is not the address of {what}; write http://host:port.")
    return address


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _is_here(address: str) -> bool:
    return urlsplit(address).hostname in _THIS_MACHINE


def _local_url() -> str:
    return f"http://127.0.0.1:{API_PORT + _offset()}"


def _offset() -> int:
    offset = os.environ.get("IMTS_PORT_OFFSET") or "0"
    try:
        return int(offset)
    except ValueError:
        raise NotConfigured(f"IMTS_PORT_OFFSET must be a whole number, not {offset!r}.") from None


def _local_key(address: str) -> str:
    """The admin key of this machine's platform. It is never sent to another machine."""
    if not _is_here(address):
        raise NotConfigured(f"There is no API key for {address}: set IMTS_API_KEY.")
    for home in _homes():
        file = home / "secrets" / "admin-key"
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise NotConfigured(f"The API key in {file} cannot be read ({error.strerror}): set IMTS_API_KEY.") from None
        if lines and lines[0].strip():
            return lines[0].strip()
    raise NotConfigured("No API key is known: set IMTS_API_KEY, or bring up the local platform with `./imts up -d`.")


def _homes() -> Iterator[Path]:
    named = os.environ.get("IMTS_HOME")
    if named:
        yield Path(named)
        return
    here = Path.cwd()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        yield folder / ".imts"
