"""imts datasets, workers, keys, projects and webhooks, as processes."""

import json
import re
from pathlib import Path

from tests.cli.conftest import Imts
from tests.cli.relay import Relay
from tests.cli.shapes import now
from tests.cli.stand_in import Platform


def test_a_data_set_goes_up_and_comes_back(imts: Imts, platform: Platform, rows: Path, tmp_path: Path) -> None:
    added = imts("datasets", "add", str(rows))
    assert added.code == 0
    assert "name      faq-rows (version 1)" in added.out
    assert "bad rows  0" in added.out
    dataset = json.loads(imts("datasets", "show", "faq-rows", "--json").out)
    assert json.loads(imts("datasets", "list", "--json").out)["items"] == [dataset]
    assert json.loads(imts("datasets", "versions", "faq-rows", "--json").out)["items"] == [dataset]
    assert '"output": "ü"' in imts("datasets", "preview", "faq-rows", "--limit", "1").out
    copy = tmp_path / "copy"
    copy.mkdir()
    assert imts("datasets", "download", "faq-rows", cwd=copy).code == 0
    assert (copy / rows.name).read_bytes() == rows.read_bytes()
    assert imts("datasets", "download", "faq-rows", "-o", str(copy)).code == 2
    assert imts("datasets", "download", "faq-rows", "-o", str(copy), "--force").code == 0
    assert imts("datasets", "download", "faq-rows", "-o", "-").out == rows.read_text(encoding="utf-8")
    assert imts("datasets", "delete", "faq-rows").code == 0
    assert imts("datasets", "show", "faq-rows").code == 4


def test_bad_rows_are_told(imts: Imts, platform: Platform, rows: Path) -> None:
    platform.problems = [{"line": n, "code": "empty_output", "message": "output is empty"} for n in range(1, 13)]
    added = imts("datasets", "add", str(rows), "--name", "bad", "--format", "alpaca")
    assert added.code == 0
    assert added.out.count("output is empty (empty_output)") == 10
    assert "imts datasets problems" in added.err
    assert imts("datasets", "problems", "bad").out.splitlines()[-1] == "line 12: output is empty (empty_output)"
    assert json.loads(imts("datasets", "add", str(rows), "--name", "bad", "--json").out)["badRows"] == 12


def test_files_that_cannot_be_read_or_written(imts: Imts, rows: Path, tmp_path: Path) -> None:
    assert imts("datasets", "add", str(tmp_path / "none.jsonl")).code == 2
    assert imts("datasets", "add", str(tmp_path)).code == 2
    imts("datasets", "add", str(rows))
    ran = imts("datasets", "download", "faq-rows", "-o", str(tmp_path / "no" / "such" / "folder"))
    assert ran.code == 1
    assert "cannot be written" in ran.err


def test_a_download_that_breaks_leaves_nothing(imts: Imts, rows: Path, relay: Relay, tmp_path: Path) -> None:
    big = tmp_path / "big.jsonl"
    big.write_bytes(rows.read_bytes() * 5_000)
    imts("datasets", "add", str(big))
    relay.cut_after = 60_000
    ran = imts("datasets", "download", "big", "-o", str(tmp_path / "copy"), url=relay.url)
    assert ran.code == 3
    assert not list(tmp_path.glob("copy*"))


def test_workers(imts: Imts, platform: Platform) -> None:
    assert imts("workers").out == "No worker has registered.\n"
    platform.workers.append(
        {
            "id": "w1",
            "name": "w1",
            "service": "analyzer-service",
            "kinds": ["analysis"],
            "slots": 2,
            "busy": 1,
            "host": "here",
            "pid": 1,
            "version": "0",
            "devices": [],
            "alive": True,
            "draining": False,
            "startedAt": now(),
            "seenAt": now(),
        }
    )
    assert "1/2" in imts("workers").out
    assert json.loads(imts("workers", "--json").out)["items"] == platform.workers


def test_keys(imts: Imts, platform: Platform) -> None:
    created = imts("keys", "create", "ci", "--role", "viewer", "--expires", "30d")
    assert created.out == "imts_ab_secret\n"
    (key,) = platform.keys.values()
    assert key["role"] == "viewer"
    assert re.search(r"expires in (29|30) d", imts("keys", "list").out)
    assert imts("keys", "create", "ci", "--expires", "soon").code == 2
    assert imts("keys", "revoke", key["id"]).code == 0
    assert "revoked" in imts("keys", "list").out
    assert json.loads(imts("keys", "list", "--json").out)["items"] == [key]


def test_projects(imts: Imts, platform: Platform) -> None:
    assert imts("projects", "create", "blue", "--running", "2").code == 0
    assert imts("projects", "quota", "blue", "--running", "none", "--queued", "7").out == (
        "Project blue: running no limit, queued 7.\n"
    )
    assert platform.projects["blue"]["maxRunningJobs"] is None
    assert imts("projects", "quota", "blue").code == 2
    assert imts("projects", "quota", "blue", "--running", "many").code == 2
    assert "blue" in imts("projects", "list").out


def test_webhooks(imts: Imts, platform: Platform) -> None:
    assert imts("webhooks", "create", "http://example.org/x", "--state", "failed").out == "whsec_abc\n"
    (hook,) = platform.webhooks
    assert platform.webhooks[hook]["states"] == ["failed"]
    assert hook in imts("webhooks", "list").out
    assert "500" in imts("webhooks", "deliveries", hook).out
    assert imts("webhooks", "redeliver", hook, "d1").code == 0
    assert json.loads(imts("webhooks", "delete", hook, "--json").out) is None
    assert imts("webhooks", "list").out == "There are no webhooks.\n"


def test_tokens(imts: Imts, platform: Platform) -> None:
    ran = imts("tokens", "set", "huggingface", given="hf_secret value\n")
    assert (ran.code, ran.out) == (0, "Token huggingface is set.\n")
    assert platform.tokens == {("default", "huggingface"): "hf_secret value"}
    assert imts("tokens", "set", "reward:judge", "--project", "blue", given="abc").code == 0
    assert imts("tokens", "set", "wandb", given="").code == 2
    assert imts("tokens", "set", "wandb", "value", given="").code == 2
    assert "reward:judge" in imts("tokens", "list", "--project", "blue").out
    assert [one["name"] for one in json.loads(imts("tokens", "list", "--json").out)["items"]] == ["huggingface"]
    assert imts("tokens", "delete", "huggingface").out == "Token huggingface is deleted.\n"
    assert imts("tokens", "list").out == "There are no tokens.\n"
