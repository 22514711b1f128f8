"""Where a webhook may lead: the world for everybody, the platform's own surroundings only for an admin."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from control_plane.problems import Refusal


class AddressRefused(Exception):
    """The name leads to an address that this webhook may not reach."""


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    secure: bool
    path: str


def target(url: str) -> Target:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        raise Refusal(422, "bad_url", "This is not an http or https address.", field="url")
    if parts.username is not None or parts.password is not None:
        raise Refusal(
            422, "credentials_in_url", "The address holds a user name or password.", field="url",
            hint="Deliveries are signed; check the signature instead.",
        )  # fmt: skip
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port or (443 if secure else 80), secure, path)


def is_internal(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    return not ip.is_global or ip.is_multicast


async def resolve(host: str, port: int, *, allow_internal: bool) -> str:
    """One address of the host that may be reached. Connect to this one: a name may lead elsewhere the next time."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_internal and any(is_internal(address) for address in addresses):
        raise AddressRefused(f"{host} leads to an internal address")
    return addresses[0]
