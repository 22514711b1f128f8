"""Providers, limits, usage and routing by the command line and OpenAI's client, on the platform as `./imts` runs it."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import openai
import pytest

from tests.e2e.copy_at_hand import Imts, Platform

OFFSET = 5_000 + os.getpid() % 1_000
SECRET = "sk-provider-very-secret-0123456789"


class Provider(BaseHTTPRequestHandler):
    """Speaks OpenAI's protocol; counts what it gave, and what keys it saw."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[dict[str, Any]]] = []
    keys: ClassVar[set[str | None]] = set()

    def do_GET(self) -> None:
        self._say(200, {"object": "list", "data": [{"id": "gpt-up"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(asked)
        self.keys.add(self.headers.get("authorization"))
        usage = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": f"I am {asked['model']}."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            base = {"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"]}
            self._say(200, {**base, "choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
        for word in ("Good ", "day."):
            self._event({**base, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        if asked.get("stream_options", {}).get("include_usage"):
            self._event({**base, "choices": [], "usage": usage})
        self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _event(self, content: dict[str, Any]) -> None:
        body = b"data: " + json.dumps(content).encode() + b"\n\n"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))

    def _say(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        return


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    imts = Imts(tmp_path_factory.mktemp("home"), OFFSET)
    imts.environment["IMTS_TRAINING"] = "off"
    imts.environment["PROVIDER_KEY"] = SECRET
    imts.run("up", "-d")
    yield Platform(imts)
    imts.run("down")


def _client(platform: Platform, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{platform.gateway_url}/v1", api_key=key or platform.key, max_retries=0)


def _until(condition: Any, seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def _total(platform: Platform, **asked: str) -> dict[str, Any]:
    total: dict[str, Any] = platform.http.get("/api/usage", params=asked).raise_for_status().json()["total"]
    return total


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_a_provider_to_its_usage(platform: Platform, provider: str) -> None:
    refused = platform.imts.run(
        "providers", "add", "cloud", "--url", provider, "--key-env", "PROVIDER_KEY", "--model", "gpt=gpt-up", expect=4
    )
    assert "private network" in refused
    platform.imts.run(
        "providers", "add", "cloud", "--url", provider, "--key-env", "PROVIDER_KEY", "--allow-internal",
        "--model", "gpt=gpt-up,in=2,out=10", "--model", "small=small-up,in=1,out=2",
    )  # fmt: skip
    assert "gpt-up" in platform.imts.run("providers", "check", "cloud")
    client = _client(platform)
    _until(lambda: {"gpt", "small"} <= {one.id for one in client.models.list().data})
    messages: Any = [{"role": "user", "content": "Hello"}]
    for _ in range(3):
        said = client.chat.completions.create(model="gpt", messages=messages)
        assert said.choices[0].message.content == "I am gpt-up."
    pieces = list(client.chat.completions.create(model="gpt", messages=messages, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Good day."
    total = _until(lambda: (found := _total(platform, model="gpt"))["requests"] == 4 and found)
    assert (total["inputTokens"], total["outputTokens"], total["estimatedTokens"]) == (4_000, 400, 0)
    assert total["cost"] == pytest.approx(4 * (1_000 * 2 + 100 * 10) / 1e6)
    assert "gpt" in platform.imts.run("usage")
    assert Provider.keys == {f"Bearer {SECRET}"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gateway_that_is_killed_loses_no_usage_and_no_learning(platform: Platform) -> None:
    client = _client(platform)
    for number in range(40):
        messages: Any = [{"role": "user", "content": f"What is the law about a lost contract, case {number}?"}]
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=messages)
        rating = 4 if raw.headers["x-imts-model"] == "small" else 1
        _rate(platform, raw.headers["x-imts-decision-id"], rating)
    platform.imts.run("route", "feedback", raw.headers["x-imts-decision-id"], "--comment", "so it is")
    explained = platform.imts.told("route", "explain", "What is the law about a lost will?", "--json")
    assert _likeliest(explained) == "small"
    assert explained["features"]["domain"] == "law"
    before = _until(lambda: (found := _total(platform))["requests"] >= 44 and found)
    os.kill(platform.services["gateway"]["pid"], signal.SIGKILL)
    _until(lambda: _alive(platform), 30)
    assert _total(platform) == before
    for number in range(3):
        explained = platform.imts.told(
            "route", "explain", f"What is the law about a lost deed, case {number}?", "--json"
        )
        assert _likeliest(explained) == "small", "what was learned is the platform's, not the process's"
    stats = platform.imts.told("route", "stats", "--json")["routes"]
    by_model = {one["model"]: one for one in stats[0]["models"]}
    assert by_model["small"]["quality"] > by_model["gpt"]["quality"]
    told = platform.imts.told("route", "evaluate", "--policy", "fixed:small", "--policy", "fixed:gpt", "--json")
    values = {one["policy"]: one["value"] for one in told["policies"]}
    assert values["fixed:small"] > values["fixed:gpt"]


def _likeliest(explained: dict[str, Any]) -> str:
    """Which one `explain` names is drawn, and now and then another, to learn of it."""
    return str(max(explained["candidates"], key=lambda one: one["propensity"])["model"])


def _rate(platform: Platform, decision: str, rating: int) -> None:
    answer = httpx.post(
        f"{platform.gateway_url}/api/routing/feedback",
        headers=platform.headers,
        json={"decisionId": decision, "rating": rating},
    )
    assert answer.status_code == 200, answer.text


def _alive(platform: Platform) -> bool:
    try:
        return httpx.get(f"{platform.gateway_url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_limits_hold_and_are_told(platform: Platform) -> None:
    made = platform.http.post(
        "/api/keys", json={"name": "small purse", "role": "inference", "limits": {"requestsPerMinute": 3}}
    ).json()
    client = _client(platform, made["key"])
    _until(lambda: _knows(client))
    messages: Any = [{"role": "user", "content": "Hello"}]
    for _ in range(3):
        client.chat.completions.create(model="gpt", messages=messages)
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="gpt", messages=messages)
    assert refused.value.code == "rate_limit_exceeded"
    platform.imts.run("limits", "set", "--key", made["id"], "--requests-per-minute", "none", "--money-budget", "0.0001")

    def over_budget() -> bool:
        try:
            client.chat.completions.create(model="gpt", messages=messages)
        except openai.RateLimitError as error:
            return error.code == "insufficient_quota"
        return False

    _until(over_budget)
    shown = platform.imts.told("limits", "show", "--key", made["id"], "--json")
    assert shown["limits"]["moneyBudget"] == 0.0001
    assert shown["spent"]["money"] >= 0.009


def _knows(client: openai.OpenAI) -> bool:
    try:
        return bool(client.models.list().data)
    except openai.AuthenticationError:
        return False


@pytest.mark.slow
def test_the_providers_key_lies_nowhere_in_plain(platform: Platform) -> None:
    home = Path(platform.imts.environment["IMTS_HOME"])
    for file in home.rglob("*"):
        if file.is_file() and "envs" not in file.parts and file.stat().st_size < 50 * 2**20:
            assert SECRET.encode() not in file.read_bytes(), file
    assert SECRET not in platform.http.get("/api/providers").text
