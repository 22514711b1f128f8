"""imts deploy, imts deployments and both clients' deployments, against the real control plane; this test plays the
inference worker."""

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from control_plane.database import Database
from imts_client import AsyncClient, Client, Conflict, InvalidRequest, WaitTimeout
from imts_client import calls as all_calls
from imts_client.calls import deployments as deployment_calls
from imts_shared.contracts.deployments import DeploymentChange, DeploymentRequest
from tests.cli.test_real_platform import imts, ran
from tests.control_plane.conftest import NewKey, config, database, new_key, url
from tests.control_plane.inference_side import InferenceSide

__all__ = ["config", "database", "new_key", "url"]

TINY = "builtin:tiny-qwen3"


async def register_adapter(database: Database, name: str) -> str:
    """As a training job would have made it."""
    from control_plane.models.registering import register

    async with database.transaction() as session:
        row = await register(
            session, "default", name, kind="adapter", base_model=TINY, prefix=f"jobs/{name}/1/model", bytes=1, files=1
        )
    return str(row.id)


async def test_deployed_watched_changed_and_deleted(url: str, database: Database, new_key: NewKey) -> None:
    key = await new_key()
    worker = InferenceSide(url)
    await worker.sync()
    watching = await imts(
        url, key, "deploy", TINY, "--name", "bot", "--replicas", "2", "--engine-arg", "max_model_len=512",
        "--engine-arg", "dtype=float32", "--label", "team=blue", "--idle-seconds", "900", "--watch",
    )  # fmt: skip
    for _ in range(100):
        await asyncio.sleep(0.1)
        if (await worker.sync())["deployments"]:
            break
    [told] = worker.wanted.values()
    assert told["revisions"][0]["engineArgs"] == {"max_model_len": 512, "dtype": "float32"}
    worker.report(told["id"], state="starting", progress={"phase": "loading weights", "percent": 40})
    line = {"deploymentId": told["id"], "revision": 1, "replica": 0, "at": "2026-01-01T00:00:00Z", "text": "hello"}
    await worker.sync(lines=[line])
    worker.report(told["id"], state="ready", progress=None, metrics={"running": 3, "cacheUse": 0.25})
    worker.report(told["id"], number=1)
    await worker.sync()
    out, err = await asyncio.wait_for(watching.communicate(), 30)
    assert watching.returncode == 0, err.decode()
    text = out.decode()
    assert text.startswith("Deployment bot is pending.\n")
    assert re.search(r"\d\d:\d\d:\d\d starting\n", text)
    assert "loading weights 40%" in text
    assert text.endswith("Deployment bot is ready.\n")
    assert (await ran(url, key, "deployments", "logs", "bot"))[1] == "hello\n"
    assert "cacheUse  0.25" in (await ran(url, key, "deployments", "metrics", "bot"))[1]
    listed = (await ran(url, key, "deployments", "list", "--label", "team=blue", "--state", "ready"))[1]
    assert re.search(r"bot +builtin:tiny-qwen3 +vllm +ready +2/2", listed)
    shown = (await ran(url, key, "deployments", "show", "bot"))[1]
    assert "engineArgs.max_model_len  512" in shown
    assert "sleeps after              900 s" in shown
    events = json.loads((await ran(url, key, "deployments", "events", "bot", "--json"))[1])["items"]
    assert events[-1]["data"]["state"] == "ready"
    assert (await ran(url, key, "deployments", "scale", "bot", "1"))[1] == "Deployment bot is ready.\n"
    assert (await ran(url, key, "deployments", "update", "bot", "--unset", "idle-seconds", "--json"))[0] == 0
    assert "sleeps after" not in (await ran(url, key, "deployments", "show", "bot"))[1]
    twice = await ran(url, key, "deployments", "update", "bot", "--port", "9000", "--unset", "port")
    assert (twice[0], "given and unset at once" in twice[2]) == (2, True)
    failing = await imts(url, key, "deployments", "update", "bot", "--engine-arg", "max_model_len=-1", "--watch")
    for _ in range(100):
        await asyncio.sleep(0.1)
        await worker.sync()
        if len(worker.wanted[told["id"]]["revisions"]) == 2:
            break
    worker.report(
        told["id"], 2, state="failed", reason="bad_arguments", message="It must be positive.", hint="Mend it."
    )
    await worker.sync()
    out, _ = await asyncio.wait_for(failing.communicate(), 30)
    assert failing.returncode == 1
    assert "Error (bad_arguments): It must be positive.\n  hint: Mend it.\nDeployment bot is ready.\n" in out.decode()
    assert "loading weights 40%" not in out.decode(), "what was before the change is none of its watching"
    assert (await ran(url, key, "deployments", "stop", "bot"))[1].startswith("Deployment bot is stopped; 3 of its")
    assert (await ran(url, key, "deployments", "watch", "bot"))[0] == 5
    assert (await ran(url, key, "deployments", "start", "bot"))[0] == 0
    assert (await ran(url, key, "deployments", "delete", "bot"))[1] == "Deployment bot is deleted.\n"
    assert (await ran(url, key, "deployments", "list"))[1] == "There are no such deployments.\n"
    assert (await ran(url, key, "deployments", "show", "bot"))[0] == 4


async def test_adapters_and_wrong_usage(url: str, database: Database, new_key: NewKey) -> None:
    key = await new_key()
    await register_adapter(database, "first")
    code, out, err = await ran(url, key, "deploy", TINY, "--adapter", "canary=first", "--json")
    assert code == 0, err
    assert [one["name"] for one in json.loads(out)["adapters"]] == ["canary"]
    added = await ran(url, key, "deployments", "adapters", "add", "tiny-qwen3", "first")
    assert added[1] == "Deployment tiny-qwen3 has the adapters canary, first.\n"
    assert "canary   first  pending" in (await ran(url, key, "deployments", "show", "canary"))[1]
    removed = await ran(url, key, "deployments", "adapters", "remove", "tiny-qwen3", "canary")
    assert removed[1] == "Adapter canary is taken out of tiny-qwen3.\n"
    code, _, err = await ran(url, key, "deploy", TINY, "--engine-arg", "host=0.0.0.0")
    assert code == 4
    assert "host is the platform's own" in err
    assert (await ran(url, key, "deploy", TINY, "--engine-arg", "novalue"))[0] == 2
    assert (await ran(url, key, "deploy", TINY, "--adapter", "=x"))[0] == 2
    assert (await ran(url, key, "deployments", "update", "tiny-qwen3"))[0] == 2


def test_every_call_names_a_contract_that_exists() -> None:
    named = re.findall(r'"(deployments\.[A-Z]\w+)"', Path(deployment_calls.__file__).read_text())
    assert len(set(named)) == 8
    for name in named:
        assert all_calls.call._model(name).model_fields


async def test_the_awaiting_client(url: str, database: Database, new_key: NewKey) -> None:
    worker = InferenceSide(url)
    await register_adapter(database, "first")
    async with AsyncClient(url, await new_key()) as client:
        made = await client.deployments.create(DeploymentRequest(model=TINY, name="d", labels={"a": "b"}))
        with pytest.raises(WaitTimeout):
            await client.deployments.wait("d", patience=0)
        await worker.run()
        assert (await client.deployments.wait("d", patience=5)).state == "ready"
        assert [one.id async for one in client.deployments.list(labels={"a": "b"}, model=TINY)] == [made.id]
        assert (await client.deployments.add_adapter("d", "first")).adapters[0].state == "pending"
        assert (await client.deployments.status("first")).loaded is False
        await worker.run()
        assert (await client.deployments.status("first")).loaded is True
        await client.deployments.remove_adapter("d", "first")
        changed = await client.deployments.change("d", DeploymentChange(engine_args={"seed": 1}))
        assert (changed.revision, changed.engine_args) == (2, {"seed": 1})
        assert (await client.deployments.scale("d", 3)).replicas == 3
        assert (await client.deployments.load(TINY)).id == made.id
        assert (await client.deployments.unload(TINY)).state == "stopped"
        assert (await client.deployments.start("d")).state in ("pending", "starting", "degraded")
        assert (await client.deployments.stop("d")).state == "stopped"
        assert [one async for one in client.deployments.logs("d")] == []
        assert {one.type async for one in client.deployments.events("d")} == {"state", "adapter"}
        assert (await client.deployments.metrics("d")).replicas[0].values == {}
        await client.deployments.delete("d")


async def test_the_blocking_client(url: str, new_key: NewKey) -> None:
    key = await new_key()

    def speak() -> None:
        with Client(url, key) as client:
            made = client.deployments.create(DeploymentRequest(model=TINY, name="d"))
            assert client.deployments.get("d").id == made.id
            with pytest.raises(Conflict) as taken:
                client.deployments.create(DeploymentRequest(model=TINY, name="d"))
            assert taken.value.code == "name_taken"
            with pytest.raises(InvalidRequest):
                client.deployments.change("d", DeploymentChange(engine_args={"host": "x"}))
            assert [one.name for one in client.deployments.list(states=["pending"])] == ["d"]
            client.deployments.delete("d")

    await asyncio.to_thread(speak)


async def test_an_adapter_is_watched_until_it_is_loaded(url: str, database: Database, new_key: NewKey) -> None:
    key = await new_key()
    worker = InferenceSide(url)
    for name in ("first", "second"):
        await register_adapter(database, name)
    await ran(url, key, "deploy", TINY)
    await worker.run()
    for name, code, last in (("first", 0, "adapter first loaded in 0.10 s"), ("second", 1, "adapter second failed")):
        watching = await imts(url, key, "deploy", name, "--watch")
        for _ in range(100):
            await asyncio.sleep(0.1)
            [told] = (await worker.sync())["deployments"]
            if name in [one["name"] for one in told["adapters"]]:
                break
        if name == "first":
            await worker.run()
        else:
            [loaded] = next(iter(worker.replicas.values()))["adapters"]
            failed = {"name": "second", "state": "failed", "message": "Its rank is 900."}
            worker.report(told["id"], adapters=[loaded, failed])
            await worker.sync()
        out, err = await asyncio.wait_for(watching.communicate(), 30)
        assert watching.returncode == code, err.decode()
        assert last in out.decode()


async def test_ctrl_c_ends_the_watching_alone(url: str, database: Database, new_key: NewKey) -> None:
    key = await new_key()
    await InferenceSide(url).sync()
    watching = await imts(url, key, "deploy", TINY, "--name", "d", "--watch")
    assert watching.stdout is not None
    await asyncio.wait_for(watching.stdout.readuntil(b"pending"), 20)
    await asyncio.sleep(1)
    watching.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(watching.communicate(), 20)
    assert watching.returncode == 130
    assert "No longer watching; it goes on." in err.decode()
    assert "Traceback" not in err.decode()
    assert (await ran(url, key, "deployments", "show", "d"))[0] == 0
