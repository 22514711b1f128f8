"""Where the platform may be led by an address that somebody gave: the world, and inside only where an admin says so."""

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from control_plane.problems import Refusal
from imts_shared.addresses import is_internal, is_named_internal


class AddressRefused(Exception):
    """The name leads to an address that may not be reached."""


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    secure: bool
    path: str

    @property
    def written_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def target(url: str, field: str = "url", credentials_hint: str | None = None) -> Target:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        raise Refusal(422, "bad_url", "This is not an http or https address.", field=field)
    if parts.username is not None or parts.password is not None:
        raise Refusal(
            422,
            "credentials_in_url",
            "The address holds a user name or password.",
            field=field,
            hint=credentials_hint,
        )
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port or (443 if secure else 80), secure, path)


async def resolve(host: str, port: int, *, allow_internal: bool) -> str:
    """One address of the host that may be reached. Connect to this one: a name may lead elsewhere the next time."""
    if not allow_internal and is_named_internal(host):
        raise AddressRefused(f"{host} is an internal address")
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_internal and any(is_internal(address) for address in addresses):
        raise AddressRefused(f"{host} leads to an internal address")
    return addresses[0]


def pinned(
    http: httpx.AsyncClient, method: str, where: Target, address: str, headers: dict[str, str], content: bytes = b""
) -> httpx.Request:
    """A request to the very address that was checked, so that a name cannot lead elsewhere in between."""
    literal = f"[{address}]" if ":" in address else address
    return http.build_request(
        method,
        f"{'https' if where.secure else 'http'}://{literal}:{where.port}{where.path}",
        content=content,
        headers={**headers, "host": f"{where.written_host}:{where.port}"},
        extensions={"sni_hostname": where.host},
    )
