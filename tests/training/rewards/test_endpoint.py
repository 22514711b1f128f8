"""Rewards that an endpoint gives."""

import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from training_service.rewards import endpoint
from training_service.rewards.endpoint import Endpoint, endpoint_rewards, is_internal
from training_service.rewards.row import RewardError


class Scorer(BaseHTTPRequestHandler):
    """Answers what `answers` holds, one after another, the last for good."""

    answers: ClassVar[list[Any]] = []
    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"path": self.path, "headers": dict(self.headers), "body": body})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        status, said, headers = answer if isinstance(answer, tuple) else (200, answer, {})
        if callable(said):
            said = said(body)
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


def right(body: dict[str, Any]) -> dict[str, Any]:
    return {"rewards": [len(completion) for completion in body["completions"]]}


@contextlib.contextmanager
def serving(wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain) -> Iterator[int]:
    Scorer.answers, Scorer.asked = [right], []
    served = ThreadingHTTPServer(("127.0.0.1", 0), Scorer)
    served.socket = wrap(served.socket)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served.server_port
    finally:
        served.shutdown()
        served.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[str]:
    with serving() as port:
        yield f"http://127.0.0.1:{port}"


def ask(url: str, completions: list[str] | None = None, **options: Any) -> list[float]:
    completions = ["a", "bb", "ccc"] if completions is None else completions
    count = len(completions)
    endpoint = Endpoint(url, **{"allow_internal": True, "pause": 0.01, **options})
    return endpoint_rewards(endpoint, ["p"] * count, completions, ["e"] * count, [[{"name": "t"}]] * count)


def test_an_endpoint_is_asked_in_batches(server: str) -> None:
    assert ask(f"{server}/score?a=b", batch=2, secret="Bearer s3cret") == [1.0, 2.0, 3.0]
    first, second = Scorer.asked
    assert first["path"] == "/score?a=b"
    assert first["body"] == {
        "prompts": ["p", "p"],
        "completions": ["a", "bb"],
        "expected": ["e", "e"],
        "tools": [[{"name": "t"}]] * 2,
    }
    assert second["body"]["completions"] == ["ccc"]
    assert first["headers"]["Authorization"] == "Bearer s3cret"
    assert first["headers"]["Host"] == server.removeprefix("http://")


def test_nothing_to_ask(server: str) -> None:
    assert ask(server, []) == []
    assert Scorer.asked == []


def test_any_text_can_be_sent(server: str) -> None:
    assert ask(server, ["\ud800", "東\x00京"]) == [1.0, 3.0]


def test_the_name_is_kept_though_the_address_is_connected_to(server: str) -> None:
    port = server.rpartition(":")[2]
    assert ask(f"http://localhost:{port}/") == [1.0, 2.0, 3.0]
    assert Scorer.asked[0]["headers"]["Host"] == f"localhost:{port}"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_what_passes_is_tried_again(server: str, status: int) -> None:
    Scorer.answers = [(status, b"", {}), (status, b"", {}), right]
    assert ask(server) == [1.0, 2.0, 3.0]
    Scorer.answers = [(status, b"", {})]
    with pytest.raises(RewardError, match=f"answered status {status}, 3 times over"):
        ask(server)
    assert len(Scorer.asked) == 6


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"rewards": [1, 2]}, "2 rewards for 3 completions"),
        ({"rewards": [1, 2, "3"]}, "row 3 that is not a number"),
        ({"rewards": [1, None, 3]}, "row 2 that is not a number"),
        ({"rewards": [True, 2, 3]}, "row 1 that is not a number"),
        (b'{"rewards": [1, NaN, 3]}', "row 2 that is not finite"),
        (b'{"rewards": [1, 2, 1e999]}', "row 3 that is not finite"),
        (b'{"rewards": [1, 2, -' + b"9" * 400 + b"]}", "row 3 that is not finite"),
        ([1, 2, 3], "without a list of rewards"),
        ({"reward": [1, 2, 3]}, "without a list of rewards"),
        (b"fine", "did not answer with JSON"),
        (b"[" * 100_000, "did not answer with JSON"),
        (b"\xff", "did not answer with JSON"),
        ((404, b"", {}), "answered status 404"),
        ((401, b"s3cret", {}), "answered status 401"),
        ((204, b"", {}), "answered status 204"),
        ((302, b"", {"Location": "http://169.254.169.254/"}), "redirects"),
        ((200, b" " * (endpoint.LARGEST_ANSWER + 1), {}), "more than"),
    ],
)
def test_answers_that_are_no_rewards(server: str, answer: Any, says: str) -> None:
    Scorer.answers = [answer]
    with pytest.raises(RewardError) as wrong:
        ask(f"{server}/path?token=s3cret", secret="s3cret")
    assert says in str(wrong.value)
    assert "s3cret" not in str(wrong.value)
    assert wrong.value.__cause__ is None
    assert len(Scorer.asked) == 1


def test_the_row_is_counted_over_the_batches(server: str) -> None:
    Scorer.answers = [right, {"rewards": ["x"]}]
    with pytest.raises(RewardError, match="row 3 "):
        ask(server, batch=2)


def test_an_endpoint_that_is_not_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RewardError, match=r"127\.0\.0\.1:\d+ could not be reached, 3 times over"):
        ask(f"http://127.0.0.1:{port}", secret="s3cret")


def test_an_endpoint_that_takes_too_long() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(RewardError, match=r"did not answer within 0\.1 s"):
            ask(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.1)
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com", "file:///etc/passwd", "example.com", "http://", "http://u:s3cret@example.com", "", "::"],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(RewardError, match="The reward endpoint") as wrong:
        ask(url)
    assert "s3cret" not in str(wrong.value)


@pytest.mark.parametrize("secret", ["s3cret\r\nHost: evil", "", " s3cret", "s3crét", "s3cret\x00"])
def test_a_secret_no_header_can_carry_is_not_told(server: str, secret: str) -> None:
    with pytest.raises(RewardError) as wrong:
        ask(server, secret=secret)
    assert "s3cr" not in str(wrong.value)


@pytest.mark.parametrize("header", ["Host", "content-length", "a b", "", "a:b", "a\r\n"])
def test_headers_that_cannot_be_sent(server: str, header: str) -> None:
    with pytest.raises(RewardError, match="header"):
        ask(server, header=header, secret="s")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
    ],
)
def test_internal_addresses_are_refused(host: str) -> None:
    with pytest.raises(RewardError, match="not allowed"):
        ask(f"http://{host}:9/", allow_internal=False)


@pytest.mark.parametrize(
    "address",
    [
        "100.64.0.1",
        "100.100.100.200",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::ffff:10.0.0.1",
        "::ffff:168.63.129.16",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:0:a00:1::",
        "ff02::1",
        "fec0::1",
        "fe80::1%lo",
        "nonsense",
    ],
)
def test_internal(address: str) -> None:
    assert is_internal(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public(address: str) -> None:
    assert not is_internal(address)


def test_an_address_of_this_machine_is_internal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_is_own", lambda ip: str(ip) == "8.8.8.8")
    assert is_internal("8.8.8.8")
    monkeypatch.undo()
    assert endpoint._is_own(ipaddress.ip_address("127.0.0.1"))


def resolving(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> list[str]:
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(host)
        if not host.endswith(".example.com"):
            return list(real(host, port, *args, **kwargs))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_one_internal_address_among_others_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(RewardError, match="not allowed"):
        ask("http://rewards.example.com", allow_internal=False)


def test_the_address_checked_is_the_one_connected_to(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "is_internal", lambda address: address != "127.0.0.1")
    asked = resolving(monkeypatch, ["127.0.0.1"])
    assert ask(f"http://rewards.example.com:{server.rpartition(':')[2]}", ["a"], allow_internal=False) == [1.0]
    assert asked == ["rewards.example.com", "127.0.0.1"]


def certificate(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM) + private


def test_certificates_are_held_to_the_name(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    pem.write_bytes(certificate("rewards.example.com"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    resolving(monkeypatch, ["127.0.0.1"])
    with serving(lambda plain: context.wrap_socket(plain, server_side=True)) as port:
        assert ask(f"https://rewards.example.com:{port}", ["a"]) == [1.0]
        with pytest.raises(RewardError, match="could not be reached"):
            ask(f"https://other.example.com:{port}", ["a"])


def test_proxies_of_the_environment_are_not_used(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert ask(server) == [1.0, 2.0, 3.0]
