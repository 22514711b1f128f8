"""What an inference worker's API says of engine arguments before they are stored."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from control_plane.settings import ControlPlaneSettings
from tests.conftest import SERVICE_KEY, free_port, served
from tests.control_plane.conftest import NewKey, control_plane
from tests.control_plane.test_deployments import TINY, deploy, refused, shown


class Api:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Any = {"ok": True, "notes": []}
        self.app = FastAPI()

        @self.app.post("/check")
        async def check(request: Request) -> Any:
            assert request.headers["authorization"] == f"Bearer {SERVICE_KEY}"
            self.asked.append(await request.json())
            return self.answer


@pytest.fixture
async def api(config: ControlPlaneSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    api = Api()
    async with served(api.app, free_port()) as address:
        monkeypatch.setattr(config, "inference_url", address)
        yield api


@pytest.fixture
async def client(api: Api, config: ControlPlaneSettings, new_key: NewKey) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {await new_key()}"}
    async with (
        control_plane(config) as url,
        httpx.AsyncClient(base_url=url, headers=headers) as client,
    ):
        yield client


async def test_a_wrong_argument_is_refused_by_name(client: httpx.AsyncClient, api: Api) -> None:
    note = {"level": "error", "field": "engineArgs.max_modle_len", "message": "vLLM has no option max_modle_len.",
            "hint": "Did you mean max_model_len?"}  # fmt: skip
    api.answer = {"ok": False, "notes": [note]}
    said = await client.post("/api/deployments", json={"model": TINY, "engineArgs": {"max-modle-len": 5}})
    assert (said.status_code, said.json()["code"], said.json()["field"]) == (
        422, "bad_arguments", "engineArgs.max_modle_len",
    )  # fmt: skip
    assert said.json()["hint"] == note["hint"]
    assert api.asked == [{"engine": "vllm", "engineArgs": {"max_modle_len": 5}}]
    assert (await client.get("/api/deployments")).json()["items"] == []
    api.answer = {"ok": True, "notes": [{"level": "warning", "field": "engineArgs.x", "message": "Slow."}]}
    told = await deploy(client, engineArgs={"x": 1}, name="d")
    events = (await client.get(f"/api/deployments/{told['id']}/events")).json()["items"]
    assert {"text": "engineArgs.x: Slow."} in [one["data"] for one in events]
    api.answer = {"ok": False, "notes": [note]}
    assert (await refused(client, "PATCH", "/api/deployments/d", engineArgs={"y": 2}))[1] == "bad_arguments"
    assert (await shown(client, "d"))["engineArgs"] == {"x": 1}
    assert (await client.patch("/api/deployments/d", json={"replicas": 2})).status_code == 200


async def test_an_api_that_is_away_or_talks_nonsense_holds_nobody_up(client: httpx.AsyncClient, api: Api) -> None:
    api.answer = ["nonsense"]
    told = await deploy(client, engineArgs={"x": 1})
    events = (await client.get(f"/api/deployments/{told['id']}/events")).json()["items"]
    assert any("checks its arguments when it starts" in str(one["data"]) for one in events)
