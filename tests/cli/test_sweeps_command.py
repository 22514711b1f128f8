"""imts sweeps, and both clients' sweeps."""

import json
from pathlib import Path

from imts_client import AsyncClient, Client
from imts_shared.contracts.sweeps import SweepRequest
from tests.cli.conftest import Imts, Served
from tests.cli.stand_in import KEY, Platform

FILE = """
base: {modelName: "builtin:tiny-qwen3", dataset: faq}
parameters:
  learningRate: {values: [1.0e-3, 1.0e-4]}
"""


def test_sweeps_are_submitted_shown_stopped_and_deleted(imts: Imts, platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(FILE)
    told = imts("sweeps", "submit", "-f", str(file), "--name", "rates", "--label", "team=blue")
    [sweep] = platform.sweeps.values()
    assert told.out == f"Sweep {sweep['id']} is succeeded; it has 2 trials.\n"
    assert (sweep["name"], sweep["labels"]) == ("rates", {"team": "blue"})
    assert sweep["parameters"] == {"learningRate": {"values": [0.001, 0.0001]}}
    assert "2 (2 succeeded)" in imts("sweeps", "list").out
    assert json.loads(imts("sweeps", "list", "--json").out)["items"][0]["id"] == sweep["id"]
    shown = imts("sweeps", "show", sweep["id"]).out
    assert "best        1 with learningRate=0.001" in shown
    assert "best model  m1" in shown
    assert "2     2      succeeded  2      learningRate=0.0001  job-2" in shown
    assert imts("sweeps", "stop", sweep["id"]).out == f"Sweep {sweep['id']} is stopping.\n"
    assert imts("sweeps", "delete", sweep["id"]).code == 0
    assert imts("sweeps", "show", sweep["id"]).code == 4
    assert imts("sweeps", "list").out == "There are no sweeps.\n"


async def test_both_clients(served: Served, platform: Platform) -> None:
    base = {"modelName": "builtin:tiny-qwen3", "dataset": "faq"}
    request = SweepRequest.model_validate({"base": base, "parameters": {"learningRate": {"values": [1e-3]}}})
    with Client(served.url, KEY) as client:
        sweep = client.sweeps.submit(request)
        assert sweep.best is not None
        assert (sweep.best.model_id, sweep.trials[0].rank, sweep.base) == ("m1", 1, base)
        assert [one.id for one in client.sweeps.list()] == [sweep.id]
        client.sweeps.delete(sweep.id)
    async with AsyncClient(served.url, KEY) as awaiting:
        again = await awaiting.sweeps.submit(request)
        assert (await awaiting.sweeps.stop(again.id)).state == "stopping"
        assert [one.id async for one in awaiting.sweeps.list()] == [again.id]
        assert (await awaiting.sweeps.get(again.id)).id == again.id
        await awaiting.sweeps.delete(again.id)
