"""Which addresses lie within this machine or its network."""

import ipaddress
import socket

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_OF_CLOUDS = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by their number, but a cloud's own inside."""


def is_internal(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return any(not one.is_global or one.is_multicast or one in _OF_CLOUDS for one in (ip, *_inside(ip)))


def _inside(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 one stands for."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    found = [ip.ipv4_mapped, ip.sixtofour, ip.teredo[1] if ip.teredo else None]
    if ip in _NAT64 or ip in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def is_named_internal(host: str) -> bool:
    """Internal whatever a resolver says: this machine by name, or a number in any spelling that systems understand."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return is_internal(name)
    except ValueError:
        pass
    try:
        return is_internal(socket.inet_ntoa(socket.inet_aton(name)))
    except OSError:
        return False
