"""The README's first session as a stranger would do it: the platform by `./imts`, and once more after a crash."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.copy_at_hand import ROOT, Imts

OFFSET = 3_000 + os.getpid() % 1_000


@pytest.fixture(scope="module")
def imts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imts]:
    imts = Imts(tmp_path_factory.mktemp("home"), OFFSET)
    imts.environment["IMTS_TRAINING"] = "off"
    imts.run("up", "-d")
    yield imts
    imts.run("down")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_data_in_job_done_crash_survived(imts: Imts) -> None:
    made = imts.told("datasets", "add", str(ROOT / "examples" / "questions.jsonl"), "--json")
    assert (made["name"], made["format"], made["rows"], made["badRows"]) == ("questions", "alpaca", 10, 0)
    imts.run("jobs", "submit", "analysis", "dataset=questions", "--watch")
    [job] = imts.told("jobs", "list", "--json")["items"]
    assert (job["state"], job["progress"]["percent"], job["result"]["rows"]) == ("succeeded", 100, 10)
    assert job["result"]["duplicates"]["exact"]["examples"][0]["lines"] == [1, 10]
    assert "10 rows" in imts.run("jobs", "logs", job["id"])
    refused = imts.run("jobs", "submit", "analysis", "dataset=question", expect=4)
    assert "'questions'" in refused
    waiting = imts.told("jobs", "submit", "evaluation", "modelName=builtin:tiny-qwen3", "dataset=questions", "--json")

    status = imts.told("status", "--json")
    assert status["ready"]
    assert set(status) == {"ready", "url", "gateway_url", "api_key_file", "services"}
    key = Path(status["api_key_file"])
    assert key.stat().st_mode & 0o777 == 0o600
    for service in status["services"]:
        if service["url"]:
            for path in ("/healthz", "/readyz", "/info", "/metrics"):
                assert httpx.get(service["url"] + path).status_code == 200, service
    for port in (8090, 8012):
        assert httpx.get(f"http://127.0.0.1:{port + OFFSET}/metrics").status_code == 200
    for log in (Path(imts.environment["IMTS_HOME"]) / "logs").iterdir():
        assert key.read_text().strip() not in log.read_text(errors="replace")

    pids = [service["pid"] for service in status["services"]]
    supervisor = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a service outlived its supervisor"
        time.sleep(0.1)

    started = time.monotonic()
    imts.run("up", "-d")
    assert time.monotonic() - started < 30
    listed = {item["id"]: item["state"] for item in imts.told("jobs", "list", "--json")["items"]}
    assert listed == {job["id"]: "succeeded", waiting["id"]: "queued"}
    assert key.read_text() == Path(imts.told("status", "--json")["api_key_file"]).read_text()
    imts.run("jobs", "submit", "analysis", "dataset=questions", "--watch")
