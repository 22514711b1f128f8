"""imts jobs, as a process: what it prints, where, and with which exit code."""

import json
from pathlib import Path

import pytest

from imts_cli.commands.exits import UsageFault
from imts_cli.commands.job_request import build
from tests.cli.conftest import Imts, environment
from tests.cli.relay import Relay
from tests.cli.stand_in import Platform


def test_submit_list_show(imts: Imts, platform: Platform) -> None:
    ran = imts("jobs", "submit", "analysis", "dataset=faq", "--name", "one", "--label", "team=blue", "--json")
    assert ran.code == 0
    job = json.loads(ran.out)
    assert (job["spec"], job["labels"], job["name"]) == ({"dataset": "faq"}, {"team": "blue"}, "one")
    assert job["aFieldOfTomorrow"] == 1
    assert json.loads(imts("jobs", "show", job["id"], "--json").out) == job
    shown = imts("jobs", "show", job["id"]).out
    assert "spec.dataset  faq" in shown
    listed = imts("jobs", "list", "--state", "queued", "--kind", "analysis", "--label", "team=blue").out
    assert job["id"] in listed
    assert "analysis" in listed
    assert imts("jobs", "list", "--state", "failed").out == "There are no such jobs.\n"


def test_submit_says_what_happens(imts: Imts, platform: Platform) -> None:
    ran = imts("jobs", "submit", "analysis", "dataset=faq")
    (job_id,) = platform.jobs
    assert ran.out == f"Job {job_id} is queued.\n"


def test_the_same_idempotency_key_makes_one_job(imts: Imts, platform: Platform) -> None:
    command = ("jobs", "submit", "analysis", "dataset=faq", "--idempotency-key", "k", "--json")
    assert imts(*command).out == imts(*command).out
    assert len(platform.jobs) == 1


def test_submit_from_a_file_and_stdin(imts: Imts, platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("kind: training\nmodelName: m\ndataset: faq\nlabels: {a: '1'}\nepochs: 2\n")
    command = ("jobs", "submit", "training", "-f", str(file), "epochs=1.5", "--label", "b=2", "--priority", "5")
    job = json.loads(imts(*command, "--json").out)
    assert job["spec"] == {"modelName": "m", "dataset": "faq", "epochs": 1.5}
    assert (job["labels"], job["priority"]) == ({"a": "1", "b": "2"}, 5)
    assert imts("jobs", "submit", "analysis", "-f", "-", given='{"dataset": "x"}').code == 0
    assert imts("jobs", "submit", "analysis", "-f", str(file)).code == 2


def test_values_take_the_type_of_their_field() -> None:
    options = {"labels": {}}
    given = ["dataset=123", "model_name=true", "epochs=2", "batchSize=4", "labels.run=7", "extra=[1]", "x.y=null"]
    assert build("training", None, given, options) == {
        "dataset": "123",
        "model_name": "true",
        "epochs": 2,
        "batchSize": 4,
        "labels": {"run": "7"},
        "extra": [1],
        "x": {"y": None},
    }


@pytest.mark.parametrize(
    ("content", "complaint"), [("[1]", "fields by name"), ("a: [", "neither YAML"), (b"\xff\xfe\x00", "UTF-8")]
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str | bytes, complaint: str) -> None:
    file = tmp_path / "job"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageFault, match=complaint):
        build("analysis", str(file), [], {"labels": {}})


def test_wrong_usage_is_2(imts: Imts) -> None:
    for arguments in (
        ("jobs", "submit", "cooking"),
        ("jobs", "submit", "analysis", "dataset"),
        ("jobs", "submit", "analysis", "--label", "blue"),
        ("jobs", "submit", "analysis", "-f", "/does/not/exist"),
        ("jobs", "list", "--limit", "0"),
        ("jobs", "fly"),
    ):
        ran = imts(*arguments)
        assert (ran.code, ran.out) == (2, ""), arguments
        assert ran.err


def test_a_refusal_is_4_and_names_field_and_hint(imts: Imts) -> None:
    ran = imts("jobs", "submit", "analysis", "datset=faq")
    assert ran.code == 4
    assert ran.out == ""
    assert ran.err.splitlines() == ["Error: datset: there is no field 'datset'.", "  hint: Did you mean 'dataset'?"]
    assert imts("jobs", "show", "nothing").code == 4
    assert imts("jobs", "watch", "nothing").code == 4


def test_a_wrong_key_is_4_and_no_platform_is_3(imts: Imts, relay: Relay, platform: Platform) -> None:
    ran = imts("jobs", "list", env=environment(relay.url, "wrong"))
    assert (ran.code, ran.err) == (4, "Error: This key opens nothing.\n  hint: Ask an admin for one.\n")
    relay.down()
    ran = imts("jobs", "list", url=relay.url)
    assert (ran.code, ran.err) == (3, f"Error: Nobody answers at {relay.url}.\n")
    nowhere = environment("", "") | {"IMTS_HOME": "/does/not/exist"}
    ran = imts("jobs", "list", env=nowhere)
    assert ran.code == 3
    assert "IMTS_API_KEY" in ran.err
    platform.faults = [(503, {"retry-after": "0"})] * 4
    assert imts("jobs", "list").code == 3


def test_lists_over_pages(imts: Imts, platform: Platform) -> None:
    for number in range(510):
        platform.add_job(name=f"job {number}")
    some = json.loads(imts("jobs", "list", "--limit", "3", "--json").out)
    assert [job["name"] for job in some["items"]] == ["job 509", "job 508", "job 507"]
    assert some["nextCursor"] == "3"
    every = json.loads(imts("jobs", "list", "--all", "--json").out)
    assert len({job["id"] for job in every["items"]}) == 510
    assert every["nextCursor"] is None


def test_orders(imts: Imts, platform: Platform) -> None:
    job = platform.add_job()["id"]
    for order, state in (("pause", "paused"), ("resume", "queued"), ("stop", "stopped"), ("retry", "queued")):
        assert imts("jobs", order, job).out == f"Job {job} is {state}.\n"
    assert json.loads(imts("jobs", "clone", job, "--json").out)["cloneOf"] == job
    refused = imts("jobs", "delete", job)
    assert (refused.code, refused.err) == (4, "Error: The job has not ended.\n  hint: Stop it first.\n")
    assert json.loads(imts("jobs", "stop", job, "--json").out)["state"] == "stopped"
    assert imts("jobs", "delete", job).out == f"Job {job} is deleted.\n"


def test_logs_and_events(imts: Imts, platform: Platform) -> None:
    job = platform.add_job()["id"]
    platform.log(job, *(f"line {number}" for number in range(1, 701)))
    platform.log(job, "\x1b[31mred\x1b[0m\x07")
    platform.event(job, "progress", {"percent": 50, "step": 1, "totalSteps": 2})
    platform.move(job, "succeeded")
    wanted = [*(f"line {number}" for number in range(1, 701)), "red"]
    assert imts("jobs", "logs", job).out.splitlines() == wanted
    assert imts("jobs", "logs", job, "-f").out.splitlines() == wanted
    lines = [json.loads(line) for line in imts("jobs", "logs", job, "-f", "--json").out.splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 702))
    assert len(json.loads(imts("jobs", "logs", job, "--json").out)["items"]) == 701
    shown = imts("jobs", "events", job).out.splitlines()
    assert [row.split()[0] for row in shown] == ["SEQ", "1", "2", "3", "4", "5"]
    assert "50% 1/2" in shown[4]
    assert len(json.loads(imts("jobs", "events", job, "--json").out)["items"]) == 5


def test_help_states_the_exit_codes(imts: Imts) -> None:
    ran = imts("jobs", "--help")
    assert ran.code == 0
    assert "5 the job was stopped or paused" in " ".join(ran.out.split())


def test_a_deepspeed_file_is_sent_as_what_it_holds(tmp_path: Path) -> None:
    told = {"model_name_or_path": "m", "dataset": "d", "deepspeed": "zero.json"}
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps(told))
    with pytest.raises(UsageFault, match="no DeepSpeed configuration"):
        build("training", str(file), [], {"labels": {}})
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 3}}')
    assert build("training", str(file), [], {"labels": {}})["deepspeed"] == {"zero_optimization": {"stage": 3}}


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("learningRate: 1e-4\nepochs: 3\nname: 1e\nadvanced: {adam_epsilon: 1E-8}\n")
    assert build("training", str(file), [], {"labels": {}}) == {
        "learningRate": 1e-4, "epochs": 3, "name": "1e", "advanced": {"adam_epsilon": 1e-8},
    }  # fmt: skip
    with pytest.raises(UsageFault, match="learningRate: nan is no number"):
        build("training", None, ["learningRate=NaN"], {"labels": {}})
    file.write_text("advanced: {adam_epsilon: .inf}\n")
    with pytest.raises(UsageFault, match=r"advanced\.adam_epsilon: inf is no number"):
        build("training", str(file), [], {"labels": {}})
