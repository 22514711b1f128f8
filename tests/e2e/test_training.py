"""Training as a stranger meets it: the document's request, a stop, a pause, a worker that dies, and what is left."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.copy_at_hand import Imts, Platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DOCUMENT = {
    "modelName": "builtin:tiny-qwen3",
    "dataset": "alpaca_en_demo",
    "stage": "sft",
    "finetuningType": "lora",
    "batchSize": 2,
    "learningRate": 5e-5,
    "epochs": 3.0,
}
LONG = {**DOCUMENT, "epochs": 40, "learningRate": 1e-3, "saveSteps": 5, "cutoffLength": 256}


class Trainer(Platform):
    def __init__(self, imts: Imts) -> None:
        super().__init__(imts)
        self.training = httpx.Client(base_url=self.services["training"]["url"], headers=self.headers, timeout=120)
        self.training.post("/validate", json=DOCUMENT)  # answered when the frameworks are imported

    def submit(self, kind: str = "training", **body: Any) -> dict[str, Any]:
        answer = self.http.post(f"/api/{kind}/jobs", json=body)
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/api/jobs/{job_id}").json()
        return found

    def until(self, job_id: str, true: Any, seconds: float = 240) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            job = self.job(job_id)
            if true(job):
                return job
            assert job["state"] not in ("failed",), job
            assert time.monotonic() < deadline, job
            time.sleep(0.2)

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, lambda job: job["state"] in ("succeeded", "stopped", "paused"))

    def steps(self, job_id: str) -> dict[int, float]:
        points = self.http.get(f"/api/jobs/{job_id}/metrics", params={"names": "loss", "points": 10_000}).json()
        return {point["step"]: point["values"]["loss"] for point in points["points"]}

    def told_steps(self, job_id: str) -> list[int]:
        found, cursor = [], None
        while True:
            page = self.http.get(
                f"/api/jobs/{job_id}/events",
                params={"type": "metric", "limit": 200, **({"cursor": cursor} if cursor else {})},
            ).json()
            found += [event["data"]["step"] for event in page["items"] if "loss" in event["data"]]
            cursor = page["nextCursor"]
            if not cursor:
                return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    imts = Imts(tmp_path_factory.mktemp("training"), 5_000 + os.getpid() % 1_000)
    imts.run("up", "-d")
    yield Trainer(imts)
    imts.run("down")


def training(job: dict[str, Any]) -> bool:
    return job["state"] == "running" and (job["progress"]["step"] or 0) >= 8


def test_the_documents_request(platform: Trainer) -> None:
    job = platform.submit(**DOCUMENT)
    assert job["spec"]["estimate"]["steps"] == 153
    ended = platform.ended(job["id"])
    assert ended["state"] == "succeeded"
    assert ended["progress"]["percent"] == 100
    assert sorted(platform.steps(job["id"])) == list(range(1, 154))
    assert set(ended["result"]["estimateError"]) >= {"seconds", "memoryBytes", "steps"}
    [made] = ended["result"]["models"]
    lineage = platform.http.get(f"/api/models/{made['id']}/lineage").json()
    assert (lineage["job"]["id"], lineage["baseModel"]) == (job["id"], "builtin:tiny-qwen3")
    assert [one["name"] for one in lineage["datasets"]] == ["alpaca_en_demo"]
    assert platform.http.post(f"/api/models/{made['id']}/verify").json()["ok"]
    assert "alpaca_en_demo" in platform.http.get(f"/api/models/{made['id']}/card").text
    assert platform.http.get(f"/api/jobs/{job['id']}/plot.svg").text.startswith("<svg")
    again = platform.submit(**{**DOCUMENT, "modelName": made["name"], "maxSteps": 2})
    assert platform.ended(again["id"])["state"] == "succeeded"


def test_a_mistake_is_refused_before_anything_runs(platform: Trainer) -> None:
    wrong = platform.http.post("/api/training/jobs", json={**DOCUMENT, "advanced": {"lora_rnk": 4}})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "advanced.lora_rnk")
    assert "lora_rank" in wrong.json()["hint"]
    huge = platform.http.post("/api/training/jobs", json={**DOCUMENT, "batchSize": 65_536, "cutoffLength": 100_000})
    assert huge.status_code == 422
    assert "fit" in huge.json()["hint"]
    checked = platform.training.post("/validate", json={**DOCUMENT, "template": "qwen33"}).json()
    assert not checked["ok"]
    assert [note["field"] for note in checked["notes"]] == ["template"]
    estimate = platform.training.post("/estimate", json=DOCUMENT).json()
    assert estimate["steps"] == 153
    assert estimate["memoryBytes"] > 5e8
    unknown = platform.training.post("/validate", json={**DOCUMENT, "dataset": "alpaca_en_dem"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_dataset")
    assert platform.training.post("/validate", json=DOCUMENT, headers={"Authorization": "x"}).status_code == 401
    half = b'{"modelName": "builtin:tiny-qwen3", "dataset": "alpaca_en_demo", "advanced": {"run_name": "\\ud800"}}'
    assert (
        platform.training.post("/validate", content=half, headers={"Content-Type": "application/json"}).status_code
        == 400
    )


def test_a_llamafactory_file_is_taken_as_it_is(platform: Trainer, tmp_path: Path) -> None:
    file = tmp_path / "sft.yaml"
    file.write_text(
        """
### model
model_name_or_path: builtin:tiny-qwen3
trust_remote_code: false
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 4
lora_target: all
### dataset
dataset: alpaca_en_demo
template: qwen3
cutoff_len: 256
max_samples: 20
overwrite_cache: true
preprocessing_num_workers: 1
### output
output_dir: saves/tiny/lora/sft
logging_steps: 2
save_steps: 500
plot_loss: true
overwrite_output_dir: true
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 4
learning_rate: 1e-4
num_train_epochs: 2.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
ddp_timeout: 180000000
"""
    )
    told = platform.imts.run("train", "-f", str(file), "--json")
    job = platform.ended(json.loads(told)["id"])
    assert (job["state"], job["progress"]["step"]) == ("succeeded", 10)
    assert (job["spec"]["loraRank"], job["spec"]["learningRate"]) == (4, 1e-4)


def test_stop_pause_and_resume(platform: Trainer) -> None:
    job = platform.submit(**LONG, name="to-stop")
    platform.until(job["id"], training)
    began = time.monotonic()
    platform.http.post(f"/api/jobs/{job['id']}/stop")
    stopped = platform.ended(job["id"])
    assert time.monotonic() - began < 10
    assert stopped["state"] == "stopped"
    checkpoints = platform.http.get(f"/api/jobs/{job['id']}/checkpoints").json()["items"]
    newest = max(one["step"] for one in checkpoints)
    assert newest == max(platform.steps(job["id"]))
    assert len(checkpoints) <= 3
    promoted = platform.http.post(f"/api/jobs/{job['id']}/checkpoints/{newest}/promote", json={"name": "promoted"})
    assert promoted.status_code == 201
    exported = platform.submit("export", modelName="promoted", format="merged")
    assert platform.ended(exported["id"])["state"] == "succeeded"

    job = platform.submit(**{**LONG, "epochs": 3}, name="to-pause")
    platform.until(job["id"], training)
    platform.http.post(f"/api/jobs/{job['id']}/pause")
    assert platform.ended(job["id"])["state"] == "paused"
    platform.http.post(f"/api/jobs/{job['id']}/resume")
    assert platform.until(job["id"], lambda one: one["state"] == "succeeded")
    assert sorted(platform.steps(job["id"])) == list(range(1, 154))
    assert platform.told_steps(job["id"]) == list(range(1, 154))


def test_a_worker_that_dies_costs_nothing(platform: Trainer) -> None:
    job = platform.submit(**{**LONG, "epochs": 3}, name="to-survive")
    platform.until(job["id"], training)
    os.kill(platform.services["training-worker"]["pid"], signal.SIGKILL)
    ended = platform.until(job["id"], lambda one: one["state"] == "succeeded")
    assert ended["attempt"] >= 2
    assert sorted(platform.steps(job["id"])) == list(range(1, 154))
    assert platform.told_steps(job["id"]) == list(range(1, 154))


def test_quickstart(platform: Trainer) -> None:
    done = subprocess.run(
        [Path(__file__).parents[2] / "imts", "quickstart"],
        env=platform.imts.environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "set_light" in done.stdout or "get_weather" in done.stdout
    losses = [float(part) for part in done.stdout.partition("The loss over the run\n")[2].split("\n")[0].split()]
    assert losses[-1] < losses[0] / 2
