"""Where the platform is and which key opens it.

Arguments, else IMTS_URL and IMTS_API_KEY, else the platform of this machine: its folder is $IMTS_HOME, or the
nearest `.imts` from the current folder upwards, or the one beside the program; its port is 8080 + IMTS_PORT_OFFSET.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from imts_client.errors import NotConfigured

API_PORT = 8080
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
    if not _is_address(address):
        raise NotConfigured(f"{address!r} is not the address of a platform; write http://host:port.")
    return Where(address, key or os.environ.get("IMTS_API_KEY") or _local_key(address))


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _is_here(address: str) -> bool:
    return urlsplit(address).hostname in _THIS_MACHINE


def _local_url() -> str:
    offset = os.environ.get("IMTS_PORT_OFFSET") or "0"
    try:
        return f"http://127.0.0.1:{API_PORT + int(offset)}"
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
