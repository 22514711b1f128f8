"""A user's own reward as an endpoint that answers with rewards."""

import ipaddress
import json
import re
import socket
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

from training_service.rewards.row import RewardError

LARGEST_REWARD = 1e6
LARGEST_ANSWER = 16 * 1024 * 1024
TRIES = 3
SET_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "accept-encoding"}
)
AZURE_HOST_AGENT = ipaddress.ip_address("168.63.129.16")


class Endpoint(NamedTuple):
    """Where rewards are asked for. `secret` is what the header says and is never told on."""

    url: str
    header: str = "Authorization"
    secret: str | None = None
    seconds: float = 30.0
    batch: int = 64
    allow_internal: bool = False
    pause: float = 0.5


def check_url(url: str) -> httpx.URL:
    """ValueError says what is wrong with the address, whatever its host resolves to."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise ValueError("is no address; write one such as https://rewards.example.com/score") from None
    if parsed.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if not parsed.host:
        raise ValueError("names no host; write one such as https://rewards.example.com/score")
    if parsed.userinfo:
        raise ValueError("holds a user or password; leave them out and send a secret header instead")
    if not parsed.port and parsed.port is not None:
        raise ValueError("has port 0; leave the port out or give the right one")
    return parsed


def check_header(header: str, secret: str | None) -> None:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", header):
        raise ValueError("is no header name; write one such as Authorization")
    if header.lower() in SET_HEADERS:
        raise ValueError("is a header that is set already; write one such as Authorization")
    if secret is not None and not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]{0,8000}[\x21-\x7e])?", secret):
        raise ValueError("has a secret value that no header can carry; use printable ASCII without spaces around it")


def endpoint_rewards(
    endpoint: Endpoint,
    prompts: Sequence[Any],
    completions: Sequence[str],
    expected: Sequence[str],
    tools: Sequence[Any],
) -> list[float]:
    """The endpoint's rewards, one for each completion, asked for batch by batch."""
    try:
        url = check_url(endpoint.url)
        check_header(endpoint.header, endpoint.secret)
    except ValueError as wrong:
        raise RewardError(f"The reward endpoint {wrong}.") from None
    rewards: list[float] = []
    for start in range(0, len(completions), endpoint.batch):
        part = slice(start, start + endpoint.batch)
        asked = {
            "prompts": prompts[part],
            "completions": completions[part],
            "expected": expected[part],
            "tools": tools[part],
        }
        body = json.dumps(asked, default=str).encode()
        rewards += _read_rewards(_ask(endpoint, url, body), _place(url), len(completions[part]), start)
    return rewards


def _place(url: httpx.URL) -> str:
    """Without path and query, which may hold secrets of their own."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port else "")


def _read_rewards(body: bytes, place: str, count: int, start: int) -> list[float]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise RewardError(f'{place} did not answer with JSON; it must answer {{"rewards": [...]}}.') from None
    rewards = answer.get("rewards") if isinstance(answer, dict) else None
    if not isinstance(rewards, list):
        raise RewardError(f'{place} answered without a list of rewards; it must answer {{"rewards": [...]}}.')
    if len(rewards) != count:
        raise RewardError(f"{place} answered {len(rewards)} rewards for {count} completions; it must answer one each.")
    for number, reward in enumerate(rewards, start + 1):
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise RewardError(f"{place} answered a reward for row {number} that is not a number.")
        if not -LARGEST_REWARD <= reward <= LARGEST_REWARD:
            raise RewardError(
                f"{place} answered a reward for row {number} that is not finite or beyond {LARGEST_REWARD:.0f}."
            )
    return [float(reward) for reward in rewards]


def _ask(endpoint: Endpoint, url: httpx.URL, body: bytes) -> bytes:
    place, problem = _place(url), ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(endpoint.pause * 2 ** (attempt - 1))
        try:
            addresses = _addresses(url, place, endpoint.allow_internal)
            status, answer = _post(endpoint, url, addresses[attempt % len(addresses)], body)
        except httpx.TimeoutException:
            problem = f"did not answer within {endpoint.seconds:g} s"
        except (httpx.TransportError, OSError):
            problem = "could not be reached"
        else:
            if status == httpx.codes.OK:
                return answer
            problem = f"answered status {status}"
            if httpx.codes.is_redirect(status):
                raise RewardError(f"{place} redirects, which is not followed; give the address it redirects to.")
            if status < 500 and status != httpx.codes.TOO_MANY_REQUESTS:
                raise RewardError(f"{place} {problem}; it must answer 200.")
    raise RewardError(f"{place} {problem}, {TRIES} times over.")


def _post(endpoint: Endpoint, url: httpx.URL, address: str, body: bytes) -> tuple[int, bytes]:
    """Connects to the address that was checked, whatever the name resolves to by now."""
    headers = {
        "Host": url.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    if endpoint.secret is not None:
        headers[endpoint.header] = endpoint.secret
    extensions = {"sni_hostname": url.raw_host.decode("ascii")} if not is_address(url.host) else {}
    deadline = time.monotonic() + endpoint.seconds
    answer = bytearray()
    with (
        httpx.Client(
            verify=httpx.create_ssl_context(), trust_env=False, follow_redirects=False, timeout=endpoint.seconds
        ) as client,
        client.stream(
            "POST", url.copy_with(host=address), content=body, headers=headers, extensions=extensions
        ) as response,
    ):
        if response.status_code != httpx.codes.OK:
            return response.status_code, b""
        for piece in response.iter_raw():
            answer += piece
            if len(answer) > LARGEST_ANSWER:
                raise RewardError(f"{_place(url)} answered more than {LARGEST_ANSWER} bytes.")
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer takes too long")
        return response.status_code, bytes(answer)


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(url: httpx.URL, place: str, allow_internal: bool) -> list[str]:
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise RewardError(f"{place} has a host name that cannot be looked up.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not allow_internal and any(map(is_internal, addresses)):
        raise RewardError(
            f"{place} leads to this machine or into a private network, which is not allowed; use a public address "
            "or have the operator allow internal endpoints."
        )
    return addresses


def is_internal(address: str) -> bool:
    """Whether an address is this machine's, link-local, private or anything but a public host."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return True
    return any(not one.is_global or one.is_multicast or one.is_reserved for one in _carried(ip)) or _is_own(ip)


def _carried(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The address that packets end up at: some IPv6 addresses stand for an IPv4 one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip] if ip != AZURE_HOST_AGENT else [ipaddress.IPv4Address("127.0.0.1")]
    if ip in ipaddress.ip_network("64:ff9b::/96"):
        return _carried(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    if ip.is_site_local:
        return [ipaddress.IPv6Address("::1")]
    inner = ip.ipv4_mapped or ip.sixtofour
    return _carried(inner) if inner else [ip]


def _is_own(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """A socket can be bound to this machine's addresses alone."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True
