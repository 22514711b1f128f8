"""What an attempt says without its secrets."""

from typing import Any

import orjson

from imts_shared.worker.lines import line
from imts_shared.worker.masking import Mask
from tests.shared.conftest import WorkerProcess
from tests.shared.fake_control_plane import FakeJob

HUB = 'hf_"quoted\\"0123456789'
HEADER = "Bearer abcdefghijkl"


def test_lines_events_and_outcomes_are_hidden_and_stay_what_they_are() -> None:
    mask = Mask([HUB, HEADER, "short", "progress"])
    assert orjson.loads(mask(line("stdout", f"got {HUB} and abcdefghijkl, {HEADER}!")))["text"] == (
        "got *** and ***, ***!"
    )
    event = {"type": "progress", "at": "now", "data": {"a": [HUB, 1, None, {"b": f"x{HUB}"}], "text": "in progress"}}
    assert orjson.loads(mask(orjson.dumps(event))) == {
        "type": "progress",
        "at": "now",
        "data": {"a": ["***", 1, None, {"b": "x***"}], "text": "in ***"},
    }
    outcome = {"status": "failed", "message": f"no: {HEADER}", "hint": HUB, "result": {"x": HUB}}
    assert orjson.loads(mask(orjson.dumps(outcome))) == {
        "status": "failed",
        "message": "no: ***",
        "hint": "***",
        "result": {"x": "***"},
    }
    plain = line("log", "short words stay")
    assert mask(plain) is plain
    assert Mask()(plain) is plain


def test_what_an_engine_lets_slip_is_hidden(worker: WorkerProcess) -> None:
    job: Any = FakeJob({"do": "slip"}, secrets={"huggingface": HUB, "judge": HEADER})
    outcome = worker.run(job)
    assert outcome["status"] == "failed"
    told = orjson.dumps([job.applied, outcome]).decode()
    assert "abcdefghijkl" not in told
    assert "quoted" not in told
    assert "it was ***" in outcome["message"]
    assert {"printed ***", "complained ***", "logged ***"} <= set(job.lines())
    assert job.events("message") == [{"text": "said ***"}]
