"""A user's own reward: an expression over what is known of a row, or an endpoint that answers with rewards."""

import ast
import difflib
import ipaddress
import json
import operator
import re
import socket
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import httpx
import simpleeval

from training_service.rewards.calls import Call
from training_service.rewards.function_calling import SCORERS

LOWEST, HIGHEST = -10.0, 10.0
LONGEST_EXPRESSION = 2000
MOST_PARTS = 300
BIGGEST_BASE, BIGGEST_POWER = 1e6, 16

LARGEST_REWARD = 1e6
LARGEST_ANSWER = 16 * 1024 * 1024
TRIES = 3
SET_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "accept-encoding"}
)
AZURE_HOST_AGENT = ipaddress.ip_address("168.63.129.16")


class RewardError(Exception):
    """A reward could not be worked out; the message is for the person whose job this is."""


class Row(NamedTuple):
    """One completion and what it is judged by."""

    completion: str
    prompt: str
    expected: str
    calls: Sequence[Call]
    tools: Any
    readable: bool = True


def score(name: str, row: Row) -> float:
    """One of the five; 0 for any completion where it cannot be told which calls the row expects."""
    return SCORERS[name](row.completion, row.calls, row.tools) if row.readable else 0.0


TEXT_NAMES = ("completion", "prompt", "expected")
NUMBER_NAMES = ("length", *SCORERS)
NAMES = (*TEXT_NAMES, *NUMBER_NAMES)

Expression = Callable[[Row, int], float]


def _text(*values: Any) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"a text is needed where {_shown(value)} stands")


def _numbers(*values: Any) -> None:
    for value in values:
        if not isinstance(value, int | float):
            raise TypeError(f"a number is needed where {_shown(value)} stands")


def _shown(value: Any) -> str:
    return "a text" if isinstance(value, str) else repr(value)


def _of_texts(apply: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        _text(*values)
        return apply(*values)

    return checked


def _of_numbers(apply: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        _numbers(*values)
        return apply(*values)

    return checked


def _power(base: float, exponent: float) -> float:
    if abs(base) > BIGGEST_BASE or abs(exponent) > BIGGEST_POWER:
        raise ValueError(f"** takes a base up to {BIGGEST_BASE:.0f} and a power up to {BIGGEST_POWER}")
    if base < 0 and exponent != int(exponent):
        raise ValueError("a negative number has no such root")
    return float(base**exponent)


# name: what it does, fewest and most values it takes
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "min": (_of_numbers(min), 2, 16),
    "max": (_of_numbers(max), 2, 16),
    "abs": (_of_numbers(abs), 1, 1),
    "len": (_of_texts(len), 1, 1),
    "lower": (_of_texts(str.lower), 1, 1),
    "contains": (_of_texts(operator.contains), 2, 2),
    "startswith": (_of_texts(str.startswith), 2, 2),
    "endswith": (_of_texts(str.endswith), 2, 2),
    "count": (_of_texts(str.count), 2, 2),
}

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _of_numbers(_power),
    ast.USub: _of_numbers(operator.neg),
    ast.UAdd: _of_numbers(operator.pos),
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
    ast.In: lambda part, whole: FUNCTIONS["contains"][0](whole, part),
    ast.NotIn: lambda part, whole: not FUNCTIONS["contains"][0](whole, part),
}
_ALLOWED = (
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.Load,
    ast.boolop,
    *_OPERATORS,
)
_REFUSED = {
    ast.Attribute: "`.` (attributes)",
    ast.Subscript: "`[...]`",
    ast.JoinedStr: "f-texts",
    ast.Lambda: "lambda",
    ast.ListComp: "comprehensions",
    ast.SetComp: "comprehensions",
    ast.DictComp: "comprehensions",
    ast.GeneratorExp: "comprehensions",
    ast.List: "lists",
    ast.Tuple: "lists",
    ast.Dict: "lists",
    ast.Set: "lists",
    ast.NamedExpr: "assignments",
}
_FAILURES = (ArithmeticError, TypeError, ValueError, RecursionError, simpleeval.InvalidExpression)


def expression(source: str) -> Expression:
    """The expression as a function of a row and its number; ValueError says what is wrong with it and what to do."""
    tree = _parsed(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    _try_out(source, tree)

    def evaluate(row: Row, number: int) -> float:
        try:
            result = _evaluate(source, tree, _values(row, used))
        except _FAILURES as failure:
            raise RewardError(f"Row {number}: the reward `{_short(source)}` failed: {_said(failure)}.") from None
        if not isinstance(result, int | float) or result != result:  # noqa: PLR0124 - NaN alone
            raise RewardError(f"Row {number}: the reward `{_short(source)}` gave {_shown(result)}, not a number.")
        return float(min(HIGHEST, max(LOWEST, result)))

    return evaluate


def _values(row: Row, used: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"completion": row.completion, "prompt": row.prompt, "expected": row.expected}
    values["length"] = len(row.completion)
    values.update((name, score(name, row)) for name in SCORERS if name in used)
    return values


def _evaluate(source: str, tree: ast.expr, values: Mapping[str, Any]) -> Any:
    functions = {name: apply for name, (apply, _, _) in FUNCTIONS.items()}
    evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions=functions, names=values)
    return evaluator.eval(source, previously_parsed=tree)


def _parsed(source: str) -> ast.expr:
    if len(source) > LONGEST_EXPRESSION:
        raise ValueError(f"is {len(source)} characters long; shorten it to {LONGEST_EXPRESSION}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("is not one expression; write one such as 0.5*format + 0.5*schema") from None
    nodes = list(ast.walk(tree))
    if len(nodes) > MOST_PARTS:
        raise ValueError(f"has {len(nodes)} parts; bring it down to {MOST_PARTS}")
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        _check_node(node, id(node) in called)
    return tree


def _check_node(node: ast.AST, called: bool) -> None:
    if not isinstance(node, _ALLOWED):
        what = _REFUSED.get(type(node), f"`{type(node).__name__}`")
        raise ValueError(f"holds {what}, which a reward cannot use; use numbers, texts, {_list(NAMES)} and functions")
    if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
        raise ValueError(f"holds {node.value!r}; only numbers and texts can stand there")
    if isinstance(node, ast.Name):
        known = tuple(FUNCTIONS) if called else NAMES
        if node.id not in known:
            raise ValueError(_unknown("function" if called else "name", node.id, known))
    if isinstance(node, ast.Call):
        _check_call(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        power = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
        if isinstance(power, ast.Constant) and isinstance(power.value, int | float) and power.value > BIGGEST_POWER:
            raise ValueError(f"raises to a power above {BIGGEST_POWER}; use a smaller one")


def _check_call(node: ast.Call) -> None:
    if isinstance(node.func, ast.Attribute):
        return
    if not isinstance(node.func, ast.Name):
        raise ValueError(f"calls something other than a function; the functions are {_list(FUNCTIONS)}")
    if node.keywords:
        raise ValueError(f"names a value it gives to {node.func.id}; give values by their place alone")
    if node.func.id in FUNCTIONS:
        _, fewest, most = FUNCTIONS[node.func.id]
        if not fewest <= len(node.args) <= most:
            takes = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"gives {len(node.args)} values to {node.func.id}, which takes {takes}")


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {_list(known)}"
    return f"uses the unknown {what} `{name[:50]}`; {hint}"


def _list(names: Any) -> str:
    return ", ".join(names)


def _try_out(source: str, tree: ast.expr) -> None:
    """Both answers of most conditions are tried, so that a text in place of a number is found before a run begins."""
    for text, number in (("some text", 0.5), ("", 0.0), ("some text", 1.0)):
        values: dict[str, Any] = dict.fromkeys(TEXT_NAMES, text) | dict.fromkeys(NUMBER_NAMES, number)
        values["length"] = len(text)
        try:
            result = _evaluate(source, tree, values)
        except ArithmeticError:
            continue
        except _FAILURES as failure:
            raise ValueError(f"cannot be worked out: {_said(failure)}") from None
        if not isinstance(result, int | float):
            raise ValueError(f"gives {_shown(result)}; it must give a number")


def _said(failure: Exception) -> str:
    if isinstance(failure, TypeError) and "not supported between" in str(failure):
        return "a text and a number cannot be compared"
    return str(failure)[:200]


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."


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
    extensions = {"sni_hostname": url.raw_host.decode("ascii")} if not _is_address(url.host) else {}
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


def _is_address(host: str) -> bool:
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
