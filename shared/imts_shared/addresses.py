"""Which addresses lie within this machine or its network."""

import ipaddress
import socket

_OUTSIDE = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out; what is neither in it nor stands for an address of IPv4 leads nowhere, or inside."""
_FOR_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96")))
"""NAT64, compatible, mapped and translated: it is their last four bytes."""
_TUNNELLED = frozenset({0x00005EFE, 0x02005EFE})
"""ISATAP: before an address of IPv4, in any network."""
_OF_CLOUDS = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by their number, but a cloud's own inside."""


def is_internal(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return _is_inside(ip)
    stands_for = _stands_for(ip)
    leads_out = ip in _OUTSIDE or any(ip in network for network in _FOR_IPV4)
    return not leads_out or _is_inside(ip) or any(map(_is_inside, stands_for))


def _is_inside(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not ip.is_global or ip.is_multicast or ip in _OF_CLOUDS


def _stands_for(ip: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    found = [ip.sixtofour, *(ip.teredo or ())]
    if any(ip in network for network in _FOR_IPV4) or int(ip) >> 32 & 0xFFFFFFFF in _TUNNELLED:
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
