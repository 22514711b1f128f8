"""imts route"""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Imts
from tests.cli.stand_in import Platform

EXPLAINED = """\
language    de
domain      law
complexity  0.62 (hard)
length      about 1,234 tokens (long)
tools       2
code        yes
confidence  0.91
structured  no

   MODEL       SCORE  PROPENSITY  QUALITY      COST  LATENCY
*  qwen3       0.900       0.750     0.82  0.000200   400 ms
   gpt-5-mini  0.810       0.250     0.86  0.001230    1.3 s
   brand-new   0.100       0.000

choice    qwen3
reason    cheapest of 2 that reach quality 0.8 for German law
route     auto (policy thompson)
decision  d-1
"""


def test_explained(imts: Imts, platform: Platform) -> None:
    assert imts("route", "explain", "Welche Frist gilt?").out == EXPLAINED
    assert imts("route", "explain", "-", "--route", "support", given="合同到期后").code == 0
    assert platform.gateway.analyzed == [{"query": "Welche Frist gilt?"}, {"query": "合同到期后", "route": "support"}]
    assert json.loads(imts("route", "explain", "x", "--json").out)["decisionId"] == "d-3"
    assert imts("route", "explain", " ").code == 2


def test_made_changed_and_removed(imts: Imts, platform: Platform, tmp_path: Path) -> None:
    beliefs = ("--belief", "qwen3,quality=0.9,language=zh", "--belief", "gpt-5-mini,quality=0.7,domain=law,strength=20")
    made = imts("route", "set", "support", "--model", "qwen3", "--model", "gpt-5-mini", "--quality-target", "0.8",
                "--budget", "20", "--judge", "llama3", *beliefs)  # fmt: skip
    assert made.out == "Route support is made: thompson among qwen3, gpt-5-mini.\n"
    changed = imts(
        "route", "set", "support", "--policy", "linucb", "--judge-timeout", "500", "--budget-period", "month"
    )
    assert changed.out == "Route support is changed: linucb among qwen3, gpt-5-mini.\n"
    route = platform.gateway.routes["support"]
    assert (route["qualityTarget"], route["budget"], route["judge"]) == (0.8, 20, {"model": "llama3", "timeoutMs": 500})
    assert [belief["strength"] for belief in route["beliefs"]] == [5, 20], "what is not named stays"
    assert (
        imts("route", "list")
        .out.splitlines()[1]
        .startswith("support  default  qwen3, gpt-5-mini  linucb     0.8  20 a month")
    )
    shown = imts("route", "show", "support").out
    assert "judge           llama3, at most 500 ms\n" in shown
    assert "gpt-5-mini  any       law         0.7        20\n" in shown
    lifted = imts("route", "set", "support", "--all-models", "--budget", "none", "--judge", "none", "--json")
    told = json.loads(lifted.out)
    assert (told["models"], told["budget"], told["judge"], told["qualityTarget"]) == ([], None, None, 0.8)
    file = tmp_path / "route.yaml"
    file.write_text("name: support\npolicy: linucb\nlatencyWeight: 1e-2\n")
    assert imts("route", "set", "support", "-f", str(file), "--cost-weight", "50").code == 0
    route = platform.gateway.routes["support"]
    assert (route["policy"], route["latencyWeight"], route["costWeight"]) == ("linucb", 0.01, 50)
    assert (route["beliefs"], route["qualityTarget"]) == ([], None), "a file is all of it"
    assert imts("route", "set", "other", "-f", str(file)).code == 2
    assert json.loads(imts("route", "list", "--json").out)["items"][0]["name"] == "support"
    assert imts("route", "remove", "support").out == "Route support is removed.\n"
    assert imts("route", "remove", "support").code == 4
    assert imts("route", "list").out == "There are no routes but `auto`, which every project has.\n"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (("--belief", "qwen3"), 2),
        (("--belief", "qwen3,quality=good"), 2),
        (("--belief", "qwen3,quality=2"), 4),
        (("--judge-timeout", "5"), 2),
        (("--model", "a", "--all-models"), 2),
        (("--quality-target", "high"), 2),
        (("--quality-target", "1.5"), 4),
        (("--cost-weight", "-3"), 2),
        (("--policy", "best"), 2),
    ],
)
def test_wrong_settings(imts: Imts, platform: Platform, given: tuple[str, ...], code: int) -> None:
    ran = imts("route", "set", "support", *given)
    assert (ran.code, "Traceback" in ran.err) == (code, False)
    assert not platform.gateway.routes


def test_a_route_of_another_project(imts: Imts, platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "route.yaml"
    file.write_text("project: blue\npolicy: linucb\n")
    assert json.loads(imts("route", "set", "r", "-f", str(file), "--json").out)["project"] == "blue"
    assert imts("route", "set", "q", "--policy", "linucb", "--project", "green").code == 0
    assert platform.gateway.routes["q"]["project"] == "green"


def test_the_gateway_is_told_of_another_project(imts: Imts, platform: Platform) -> None:
    for given in (("explain", "x"), ("evaluate",), ("stats",)):
        assert imts("route", *given, "--project", "blue").code == 0
        assert imts("route", *given).code == 0
    assert [project for _, project in platform.gateway.projects] == ["blue", None] * 3


def test_feedback_and_decisions(imts: Imts, platform: Platform) -> None:
    assert imts("route", "decisions").out == "There are no such decisions.\n"
    for number in range(30):
        platform.gateway.decide("support" if number % 2 else "auto", result={"latencySeconds": 0.4})
    given = imts("route", "feedback", "d-1", "--rating", "5", "--comment", "很好", "--label", "law")
    assert (given.code, given.out) == (0, "Feedback on decision d-1 is taken.\n")
    said = platform.gateway.feedback[0]
    assert (said.rating, said.comment, said.label) == (5, "很好", "law")
    assert imts("route", "decisions", "d-1").out == EXPLAINED + "feedback  5 of 5, law, 很好\n"
    assert imts("route", "decisions", "d-99").code == 4
    assert len(imts("route", "decisions").out.splitlines()) == 21
    found = json.loads(imts("route", "decisions", "--route", "support", "--all", "--json").out)["items"]
    assert len(found) == 15
    assert imts("route", "decisions", "--limit", "1").out.splitlines()[1].split()[:6] == [
        "d-1", "auto", "qwen3", "de", "law", "ok",
    ]  # fmt: skip
    assert json.loads(imts("route", "feedback", "d-2", "--label", "code", "--json").out)["accepted"] is True
    for wrong in (("d-1",), ("d-1", "--rating", "6"), ()):
        assert imts("route", "feedback", *wrong).code == 2
    unknown = imts("route", "feedback", "nothing", "--rating", "1")
    assert (unknown.code, unknown.err) == (4, "Error: No decision 'nothing' is known.\n  field: decisionId\n")


def test_stats(imts: Imts) -> None:
    assert imts("route", "stats", "--route", "support").out.splitlines() == [
        "Route support of project default",
        "MODEL      REQUESTS  FAILED  QUALITY  RATED  LATENCY      COST",
        "brand-new         0       0               0",
        "qwen3        12,345       3     0.88  1,200   420 ms  0.000400",
        "",
        "MODEL  LANGUAGE  REQUESTS  QUALITY  RATED  LATENCY      COST",
        "qwen3  zh          12,345     0.88  1,200   420 ms  0.000400",
    ]
    assert json.loads(imts("route", "stats", "--json").out)["routes"][0]["name"] == "auto"


def test_evaluated(imts: Imts, platform: Platform) -> None:
    ran = imts("route", "evaluate", "--policy", "learner", "--policy", "uniform", "--policy", "fixed:qwen3", "--from",
               "2026-11-01", "--to", "2026-11-20")  # fmt: skip
    assert ran.out == (
        "2,345 decisions of route auto\n"
        "There are more: the newest count.\n\n"
        "POLICY         VALUE  ± ERROR  SAMPLES\n"
        "fixed:qwen3    0.700    0.012    1,500\n"
        "uniform        0.600    0.012    1,500\n"
        "learner      unknown                 3\n\n"
        "learner: Too few of the decisions could have been its own.\n"
    )
    [asked] = platform.gateway.evaluated
    assert (asked["policies"], asked["route"]) == (["learner", "uniform", "fixed:qwen3"], "auto")
    told = json.loads(imts("route", "evaluate", "--route", "support", "--json").out)
    assert [one["policy"] for one in told["policies"]] == ["learner", "cheapest", "uniform"]
    assert "from" not in platform.gateway.evaluated[1]
    for wrong in (("--policy", "best"), ("--policy", "fixed:"), ("--from", "soon")):
        assert imts("route", "evaluate", *wrong).code == 2, wrong


def test_the_gateway_refuses_or_is_away(imts: Imts, platform: Platform) -> None:
    message = "The budget of this key for the month is spent; it renews on 2026-12-01."
    platform.gateway.refusal = 403, {"message": message, "code": "insufficient_quota"}
    ran = imts("route", "explain", "x")
    assert (ran.code, ran.err) == (4, f"Error: {message}\n")
    env = {"IMTS_URL": "https://far.example", "IMTS_API_KEY": "k"}
    away = imts("route", "stats", env=env)
    assert (away.code, "set IMTS_GATEWAY_URL" in away.err) == (3, True)
