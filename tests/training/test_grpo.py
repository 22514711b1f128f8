"""Group relative policy optimisation: what is paid for comes more often, whoever pays."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
from llamafactory.hparams import DataArguments, ModelArguments
from llamafactory.model import load_tokenizer

from imts_shared.contracts.problems import FieldNote
from tests.training import material
from tests.training.conftest import Place, Run
from training_service import checks, configuration, estimate, prompts, rows
from training_service.models import builtin

GRPO: dict[str, Any] = {
    **material.TINY,
    "stage": "grpo",
    "batchSize": 4,
    "groupSize": 4,
    "maxCompletionLength": 12,
    "cutoffLength": 512,
    "maxSteps": 4,
    "gradientCheckpointing": False,
}


def curve(run: Run, name: str = "reward") -> dict[int, float]:
    return {point["step"]: point[name] for point in run.of("metric") if name in point}


def test_the_five_rewards_are_the_default(place: Place) -> None:
    run = place.run(GRPO, [place.dataset("data", "messages", material.calls())])
    assert run.result["steps"] == 4
    assert run.result["tokens"] > 0
    steps = [point["step"] for point in run.of("metric")]
    assert steps == [1, 2, 3, 4]
    for name in ("loss", "reward", "completionsMeanLength", "rewardsFormatMean", "rewardsArgValuesMean"):
        assert list(curve(run, name)) == steps
    [model] = run.result["models"]
    assert model["kind"] == "adapter"
    assert "reward" in model["metrics"]
    files = place.files(model["prefix"])
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= set(files)
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in files)


def test_an_expression_beside_a_reward_by_name(place: Place) -> None:
    rewards = ["format", {"name": "short", "expression": "1 - min(length, 100) / 100", "weight": 2}]
    run = place.run({**GRPO, "rewards": rewards, "prefBeta": 0.1}, [place.dataset("d", "messages", material.calls())])
    short, form, both = curve(run, "rewardsShortMean"), curve(run, "rewardsFormatMean"), curve(run)
    assert len(both) == 4
    for step, reward in both.items():
        assert reward == pytest.approx(form[step] + 2 * short[step], abs=1e-4)
    assert len(curve(run, "kl")) == 4


def test_a_full_model_trains_and_is_evaluated(place: Place) -> None:
    spec = {**GRPO, "finetuningType": "full", "rewards": ["format"], "valSize": 4, "evalSteps": 2, "prefBeta": 0.05}
    run = place.run(spec, [place.dataset("data", "messages", material.calls())])
    [model] = run.result["models"]
    assert model["kind"] == "merged"
    assert "model.safetensors" in place.files(model["prefix"])
    assert list(curve(run, "evalReward")) == [2, 4]


@pytest.fixture
def paymaster() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Pays by the length of an answer, and keeps what it was asked."""
    asked: list[dict[str, Any]] = []

    class Pays(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"key": self.headers.get("X-Key"), **body})
            paid = json.dumps({"rewards": [len(text) / 100 for text in body["completions"]]}).encode()
            if self.path == "/broken":
                paid = b"nothing"
            self.send_response(200)
            self.send_header("Content-Length", str(len(paid)))
            self.end_headers()
            self.wfile.write(paid)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pays)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_an_endpoint_pays(place: Place, paymaster: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = paymaster
    rewards = [{"name": "mine", "endpoint": url, "header": "X-Key"}]
    run = place.run(
        {**GRPO, "rewards": rewards, "maxSteps": 2},
        [place.dataset("data", "messages", material.calls())],
        options={"allowInternalRewards": "yes"},
        secrets={"mine": "s3cret"},
    )
    assert run.result["steps"] == 2
    assert {one["key"] for one in asked} == {"s3cret"}
    assert sum(len(one["completions"]) for one in asked) == 8
    assert all("set_light" in text for one in asked for text in (*one["prompts"], *one["expected"]))
    assert "s3cret" not in "\n".join(run.lines)
    assert curve(run, "rewardsMineMean") == curve(run)


def test_an_endpoint_that_fails_is_named(place: Place, paymaster: tuple[str, list[dict[str, Any]]]) -> None:
    url, _ = paymaster
    data = place.dataset("data", "messages", material.calls())
    spec = {**GRPO, "rewards": [{"name": "mine", "endpoint": f"{url}/broken"}]}
    inside = place.run(spec, [data]).outcome
    assert (inside["status"], inside["reason"]) == ("failed", "engine_error")
    broken = place.run(spec, [data], options={"allowInternalRewards": "yes"}).outcome
    assert "'mine'" in broken["message"]
    assert "JSON" in broken["message"]


@pytest.mark.parametrize("rewards", [["form"], [{"expression": "length +"}], [{"expression": "1 / (length * 0)"}]])
def test_a_bad_reward_is_the_askers_mistake(place: Place, rewards: list[Any]) -> None:
    run = place.run({**GRPO, "rewards": rewards}, [place.dataset("data", "messages", material.calls())])
    assert run.outcome["reason"] == "bad_config", run.outcome


def test_a_row_without_a_readable_answer_is_refused(place: Place) -> None:
    rows = material.calls(4)
    rows[2]["messages"][1] = {"role": "assistant", "content": '<tool_call>{"name": "set_light", "argum'}
    run = place.run(GRPO, [place.dataset("data", "messages", rows)])
    assert run.outcome["reason"] == "bad_data"
    assert "Row 3 of 'data'" in run.outcome["message"]


def test_a_stopped_run_goes_on_where_it_was(place: Place) -> None:
    data = [place.dataset("data", "messages", material.calls(6))]
    spec = {**GRPO, "maxSteps": 10, "batchSize": 2, "rewards": [{"expression": "count(completion, 'e')"}]}
    whole = place.run(spec, data)
    assert any("gradientAccumulation is 2 instead of 1" in said["text"] for said in whole.of("message"))

    def stop_after_seven(event: dict[str, Any], stop: Any) -> None:
        if event["type"] == "metric" and event["data"]["step"] == 7:
            stop()

    stopped = place.run(spec, data, watch=stop_after_seven)
    assert stopped.outcome["status"] == "stopped"
    resumed = place.run(spec, data, resume_from=stopped.newest)
    both = {**curve(stopped), **curve(resumed)}
    assert set(curve(resumed)) == set(range(stopped.newest.step + 1, 11))
    assert both == pytest.approx(curve(whole), abs=1e-6)
    assert resumed.result["tokens"] == whole.result["tokens"]


def test_a_stop_is_heard_while_answers_are_generated(place: Place) -> None:
    data = [place.dataset("data", "messages", material.calls(6))]
    spec = {**GRPO, "maxCompletionLength": 150, "maxSteps": 2, "rewards": ["format"]}

    def stop_soon(event: dict[str, Any], stop: Any) -> None:
        if event["type"] == "metric" and event["data"]["step"] == 1:
            threading.Timer(0.15, stop).start()

    stopped = place.run(spec, data, watch=stop_soon)
    assert stopped.outcome["status"] == "stopped"
    assert stopped.newest.step == 1
    resumed, whole = place.run(spec, data, resume_from=stopped.newest), place.run(spec, data)
    for name in ("completionsMeanLength", "gradNorm"):
        assert curve(resumed, name) == pytest.approx({s: v for s, v in curve(whole, name).items() if s > 1}, abs=1e-5)


def test_a_real_model_learns_to_be_brief(place: Place) -> None:
    rows = [
        {"instruction": f"What colour is the {thing}?", "output": "Red."} for thing in ("lamp", "door", "sky", "sea")
    ]
    spec = {
        **GRPO,
        "modelName": "builtin:smollm2-135m",
        "maxSteps": 8,
        "batchSize": 6,
        "groupSize": 6,
        "maxCompletionLength": 10,
        "learningRate": 2e-3,
        "schedule": "constant",
        "loraRank": 16,
        "loraTargets": ["v_proj", "o_proj"],
        "rewards": [{"name": "brief", "expression": "-min(length, 60) / 60"}],
    }
    run = place.run(spec, [place.dataset("data", "alpaca", rows)])
    rewards = list(curve(run).values())
    first, last = sum(rewards[:2]) / 2, sum(rewards[-2:]) / 2
    assert last > first + 0.1, rewards
    assert all(step < after for step, after in pairwise(curve(run)))


@pytest.mark.parametrize("name", ["tiny-qwen3", "smollm2-135m"])
def test_a_prompt_is_what_supervised_training_shows(models: Path, name: str) -> None:
    data_args = DataArguments(template=builtin.TEMPLATES[name], cutoff_len=4096)
    module = load_tokenizer(ModelArguments(model_name_or_path=str(builtin.folder(models, name))))
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    supervised = SupervisedDatasetProcessor(template, module["tokenizer"], None, data_args)
    [called] = material.calls(1)
    asked, answered = called["messages"]
    answer = {"role": "tool", "content": "done", "tool_call_id": "1"}
    longer = [*called["messages"], answer, {"role": "assistant", "content": "It is."}, asked, answered]
    for row in (called, {**called, "messages": [{"role": "system", "content": "Be kind."}, *longer]}):
        found = rows.canonical(row, "messages")
        turns = [{"role": prompts.ROLES[turn["from"]], "content": turn["value"]} for turn in found["conversations"]]
        whole, labels = supervised._encode_data_example(
            turns[:-1], turns[-1:], found["system"], found["tools"], [], [], []
        )
        end = max(place for place, label in enumerate(labels) if label == -100) + 1
        shown = prompts.prompt_tokens(found, template, module["tokenizer"])
        assert shown == whole[:end]
        assert "set_light" in module["tokenizer"].decode(shown)


def said_of(spec: dict[str, Any], tmp_path: Path) -> list[FieldNote]:
    device = estimate.Device("cpu", 64 * 2**30, False, 2)
    return checks.check({**GRPO, "datasets": [], **spec}, [], [], device, tmp_path).notes


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"rewards": ["fromat"]}, "rewards[0]", "did you mean `format`"),
        ({"rewards": [{"expression": "length +"}]}, "rewards[0].expression", ""),
        ({"advanced": {"num_iteration": 2}}, "advanced.num_iteration", "num_iterations"),
        ({"advanced": {"num_generations": 4}}, "advanced.num_generations", "groupSize"),
        (
            {"advanced": {"steps_per_generation": 3, "generation_batch_size": 8}},
            "advanced.generation_batch_size",
            "both",
        ),
        ({"advanced": {"top_p": "much"}}, "advanced.top_p", "number"),
        ({"finetuningType": "freeze"}, "finetuningType", "lora or full"),
        ({"earlyStoppingSteps": 2, "valSize": 4}, "earlyStoppingSteps", "no loss"),
        ({"stage": "ppo"}, "stage", "resume"),
    ],
)
def test_a_check_says_what_is_wrong(spec: dict[str, Any], field: str, words: str, tmp_path: Path) -> None:
    errors = [note for note in said_of(spec, tmp_path) if note.level == "error"]
    assert [note.field for note in errors] == [field]
    assert words in f"{errors[0].message} {errors[0].hint}"


def test_a_check_passes_what_runs_and_says_what_becomes_of_it(tmp_path: Path) -> None:
    spec = {"rewards": ["format"], "advanced": {"loss_type": "dr_grpo", "use_dora": True, "enable_thinking": False}}
    assert said_of(spec, tmp_path) == []
    [note] = said_of({"batchSize": 3, "groupSize": 8}, tmp_path)
    assert (note.level, note.field) == ("warning", "gradientAccumulation")
    notes = said_of({"stage": "sft"}, tmp_path)
    assert [(note.level, note.field) for note in notes] == [
        ("warning", "groupSize"),
        ("warning", "maxCompletionLength"),
    ]


def test_a_step_holds_whole_groups() -> None:
    for accumulation, batch, group, taken in ((1, 2, 8, 4), (1, 8, 4, 1), (3, 4, 8, 4), (5, 3, 8, 8), (2, 16, 8, 2)):
        assert configuration.of_whole_groups(accumulation, batch, group) == taken
