"""imts models, imts jobs checkpoints, and both clients' models."""

import json
from pathlib import Path

import pytest

from imts_client import AsyncClient, Client, UnexpectedAnswer
from tests.cli.conftest import Imts, Served
from tests.cli.shapes import now
from tests.cli.stand_in import KEY, Platform

FILES = {"config.json": b"{}", "deep/model.bin": b"weights"}


def test_base_models_are_added_and_shown(imts: Imts, platform: Platform) -> None:
    added = imts("models", "add", "house", "org/name", "--template", "chatml", "--trust-remote-code")
    assert added.code == 0
    assert "source              org/name" in added.out
    assert "trusts remote code  yes" in added.out
    model = json.loads(imts("models", "show", "house", "--json").out)
    assert (model["template"], model["trustRemoteCode"]) == ("chatml", True)
    assert json.loads(imts("models", "list", "--json").out)["items"] == [model]
    assert "org/name" in imts("models", "list", "--kind", "base").out
    assert imts("models", "list", "--kind", "gguf").out == "There are no such models.\n"
    assert imts("models", "files", "house").out.startswith("Its files are not kept here")
    assert imts("models", "download", "house").code == 2
    assert imts("models", "delete", "house").code == 0
    assert imts("models", "show", "house").code == 4


def test_lineage_and_card(imts: Imts, platform: Platform) -> None:
    imts("models", "add", "house", "org/name")
    told = imts("models", "lineage", "house").out
    assert "data sets    faq@2, gone" in told
    assert "with epochs  3" in told
    assert imts("models", "card", "house").out == "# house\nred\n"
    assert json.loads(imts("models", "lineage", "house", "--json").out)["baseModel"] == "org/base"


def test_files_come_into_a_folder_and_are_verified(imts: Imts, platform: Platform, tmp_path: Path) -> None:
    imts("models", "add", "house", "org/name")
    platform.model_files = dict(FILES)
    assert "deep/model.bin" in imts("models", "files", "house").out
    assert imts("models", "download", "house", cwd=tmp_path).code == 0
    folder = tmp_path / "house-1"
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert imts("models", "download", "house", "-o", str(folder)).code == 2
    assert imts("models", "download", "house", "-o", str(folder), "--force", "--json").code == 0
    assert not list(tmp_path.rglob("*.part"))
    assert imts("models", "verify", "house").out == "All 2 files (9 B) are as they were stored.\n"
    platform.problems = [{"message": "config.json is missing."}]
    ran = imts("models", "verify", "house")
    assert (ran.code, ran.out) == (1, "config.json is missing.\n")


def test_a_model_cannot_write_outside_the_folder(served: Served, platform: Platform, tmp_path: Path) -> None:
    platform.model_files = {"../outside": b"x"}
    with Client(served.url, KEY) as client:
        client.models.add("house", "org/name")
        with pytest.raises(UnexpectedAnswer):
            client.models.download("house", tmp_path / "in")
    assert not list(tmp_path.iterdir())


def test_checkpoints_are_listed_and_promoted(imts: Imts, platform: Platform) -> None:
    job = platform.add_job("training")
    assert imts("jobs", "checkpoints", job["id"]).out == "It has no checkpoints.\n"
    platform.checkpoints = [
        {"step": 7, "attempt": 1, "prefix": "p", "bytes": 2_000, "files": 2, "createdAt": now(), "modelId": None}
    ]
    assert "2.0 kB" in imts("jobs", "checkpoints", job["id"]).out
    assert json.loads(imts("jobs", "checkpoints", job["id"], "--json").out)["items"][0]["step"] == 7
    promoted = imts("models", "promote", job["id"], "7", "--name", "best")
    assert "best (version 1)" in promoted.out
    assert "details.rank" in promoted.out
    assert imts("models", "promote", job["id"], "seven").code == 2


async def test_the_awaiting_client(served: Served, platform: Platform, tmp_path: Path) -> None:
    platform.model_files = dict(FILES)
    async with AsyncClient(served.url, KEY) as client:
        model = await client.models.add("house", "org/name")
        assert (await client.models.change("house", template="chatml")).template == "chatml"
        assert [one.id async for one in client.models.list()] == [model.id]
        assert (await client.models.card("house")).startswith("# house")
        assert (await client.models.lineage("house")).base_model == "org/base"
        assert (await client.models.verify("house")).ok
        await client.models.download("house", tmp_path / "in")
        assert (tmp_path / "in" / "deep" / "model.bin").read_bytes() == b"weights"
        assert (await client.models.promote("j", 3)).checkpoint_step == 3
        assert (await client.models.checkpoints("j")).items == []
        await client.models.delete(model.id)
