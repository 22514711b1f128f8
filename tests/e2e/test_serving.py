"""Serving as a stranger meets it: a model deployed, asked, adapted, changed under load, killed, put to sleep, gone."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from imts_cli.local.ports import user_of
from tests.e2e.copy_at_hand import Imts, Platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MODEL = "builtin:tiny-qwen3"
SECONDS = 240


class Serving(Platform):
    def __init__(self, imts: Imts) -> None:
        super().__init__(imts)
        self.gateway = httpx.Client(base_url=f"{self.gateway_url}/v1", headers=self.headers, timeout=180)

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/api/deployments/bot").json()
        return found

    def until(self, true: Any) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while not true(found := self.shown()):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def change(self, **changed: Any) -> None:
        answer = self.http.patch("/api/deployments/bot", json=changed)
        assert answer.status_code == 200, answer.text

    def ask(self, model: str, **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, **more}
        return self.gateway.post("/chat/completions", json=body)

    def engine(self) -> int:
        """The process that listens where the serving version's replica answers."""
        found = self.shown()
        [url] = [one["url"] for one in found["instances"] if one["revision"] == found["servingRevision"]]
        told = user_of(int(url.rpartition(":")[2])) or ""
        return int(told.rpartition("(process ")[2].rstrip(")"))

    @contextmanager
    def streams(self, count: int) -> Iterator[list[str | None]]:
        """Each entry is one stream that is over: None, or what was wrong with it."""
        over = threading.Event()
        done: list[str | None] = []

        def caller() -> None:
            body = {"model": "bot", "prompt": "Hello", "max_tokens": 32, "ignore_eos": True, "stream": True}
            while not over.is_set():
                try:
                    with self.gateway.stream("POST", "/completions", json=body) as answer:
                        text = answer.read().decode()
                    whole = answer.status_code == 200 and text.rstrip().endswith("data: [DONE]")
                    done.append(None if whole else f"{answer.status_code} {text[-300:]}")
                except httpx.HTTPError as error:
                    done.append(repr(error))
                over.wait(0.3)  # the next version starts on the same cores

        callers = [threading.Thread(target=caller) for _ in range(count)]
        for one in callers:
            one.start()
        try:
            yield done
        finally:
            over.set()
            for one in callers:
                one.join()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    imts = Imts(tmp_path_factory.mktemp("serving"), 7_000 + os.getpid() % 1_000)
    imts.run("up", "-d")
    yield Serving(imts)
    imts.run("down")


@pytest.fixture(scope="module", autouse=True)
def deployed(platform: Serving) -> str:
    """What the command said; the first deployment of a copy makes vLLM's environment."""
    form = 'structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": true}'
    return platform.imts.run("deploy", MODEL, "--name", "bot", "--engine-arg", form, "--watch", seconds=500)


def ready(found: dict[str, Any]) -> bool:
    return bool(found["state"] == "ready" and found["servingRevision"] == found["revision"])


def test_it_says_how_far_it_is_and_answers(platform: Serving, deployed: str) -> None:
    assert deployed.rstrip().endswith("Deployment bot is ready.")
    assert "loading weights" in deployed
    answer = platform.ask("bot")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] > 0
    assert [one["id"] for one in platform.gateway.get("/models").json()["data"]] == ["bot"]
    deadline = time.monotonic() + 20
    while not platform.http.get("/api/deployments/bot/metrics").json()["replicas"][0]["values"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert platform.http.get("/api/deployments/bot/logs").json()["items"]
    unknown = platform.ask("bott")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert "`bot`" in unknown.json()["error"]["message"]


def test_tools_are_called_and_schemas_kept(platform: Serving) -> None:
    """By a Qwen3 that knows nothing: what holds it to the form is the engine."""
    schema = {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "set_light", "parameters": schema}}
    chosen = {"type": "function", "function": {"name": "set_light"}}
    answer = platform.ask("bot", tools=[tool], tool_choice=chosen, max_tokens=3000).json()["choices"][0]
    [call] = answer["message"]["tool_calls"]
    assert call["function"]["name"] == "set_light"
    assert isinstance(json.loads(call["function"]["arguments"])["on"], bool)
    form = {"type": "json_schema", "json_schema": {"name": "light", "schema": schema}}
    answer = platform.ask("bot", response_format=form, max_tokens=300).json()["choices"][0]
    assert isinstance(json.loads(answer["message"]["content"])["on"], bool)


def test_what_a_job_trains_is_served_by_the_engine_that_runs(platform: Serving) -> None:
    engine = platform.engine()
    platform.imts.run(
        "train", f"modelName={MODEL}", "dataset=alpaca_en_demo", "maxSteps=2", "maxSamples=8", "outputName=tuned",
        "deploy=true", "--watch",
    )  # fmt: skip
    [adapter] = platform.until(lambda one: [x["state"] for x in one["adapters"]] == ["loaded"])["adapters"]
    assert adapter["name"] == "tuned"
    assert adapter["seconds"] < 1
    assert platform.ask("tuned").status_code == 200
    assert platform.engine() == engine


def test_an_update_under_load_cuts_nothing(platform: Serving) -> None:
    with platform.streams(4) as done:
        platform.change(engineArgs={"max_model_len": 512})
        platform.until(ready)
        enough = len(done) + 8
        while len(done) < enough:
            time.sleep(0.1)
    assert [one for one in done if one] == []
    platform.until(lambda one: [x["state"] for x in one["adapters"]] == ["loaded"])
    assert platform.ask("tuned").status_code == 200
    assert platform.ask("bot", max_tokens=600).status_code == 400, "the new version is the one that answers"


def test_an_update_that_fails_never_takes_traffic(platform: Serving) -> None:
    before = platform.shown()["servingRevision"]
    platform.change(engineArgs={"max_model_len": 512, "max_num_seqs": 64, "max_num_batched_tokens": 32})
    found = platform.until(lambda one: one["error"])
    assert (found["state"], found["servingRevision"], found["error"]["code"]) == ("ready", before, "bad_arguments")
    assert "max_num_batched_tokens" in found["error"]["message"]
    assert platform.ask("bot").status_code == 200


def test_a_killed_engine_comes_back_by_itself(platform: Serving) -> None:
    os.kill(platform.engine(), signal.SIGKILL)
    answer = platform.ask("bot")
    assert answer.status_code == 200, answer.text
    assert platform.until(lambda one: one["state"] == "ready")["restarts"] == 1
    assert platform.ask("tuned").status_code == 200


def test_a_killed_worker_leaves_no_engine_and_the_next_one_serves(platform: Serving) -> None:
    engine = platform.engine()
    os.kill(platform.services["inference-worker"]["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(engine):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert platform.ask("bot").status_code == 200
    assert platform.engine() != engine


def test_what_nobody_uses_sleeps_and_wakes_for_who_asks(platform: Serving) -> None:
    platform.change(idleSeconds=5)
    found = platform.until(lambda one: one["state"] == "stopped")
    assert found["reason"] == "idle"
    assert platform.ask("bot").status_code == 200
    platform.change(idleSeconds=3_600)


def test_what_is_deleted_leaves_nothing(platform: Serving) -> None:
    engine = platform.engine()
    assert platform.http.delete("/api/deployments/bot").status_code in {200, 202, 204}
    deadline = time.monotonic() + 30
    while psutil.pid_exists(engine):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert platform.ask("bot").status_code == 404
