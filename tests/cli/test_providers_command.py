"""imts providers, limits and projects request-log."""

import json
import os
import pty
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Imts, Ran, Served, environment
from tests.cli.stand_in import Platform

ADD = ("providers", "add", "openai", "--url", "https://api.openai.com/v1")
FILE = """
name: deepseek
baseUrl: https://api.deepseek.com/v1
limits: {concurrency: 8, requestsPerMinute: 100}
models:
  - {name: deepseek-chat, inputPrice: 2.8e-1, outputPrice: 0.42, fallbacks: [qwen3]}
"""


def with_variable(served: Served, **more: str) -> dict[str, str]:
    return environment(served.url) | more


def test_added_listed_shown_and_removed(imts: Imts, served: Served, platform: Platform) -> None:
    models = ("--model", "gpt-5-mini,in=0.25,cached=0.025,out=2", "--model", "big=gpt-5,weight=2,fallback=a,fallback=b")
    env = with_variable(served, OPENAI_KEY=" sk-secret\n")
    added = imts(*ADD, *models, "--key-env", "OPENAI_KEY", "--tokens-per-minute", "2M", env=env)
    assert (added.code, added.out) == (0, "Provider openai is added with gpt-5-mini, big.\n")
    assert platform.gateway.sent_keys == ["sk-secret"]
    [one] = platform.gateway.providers.values()
    assert one["models"][0] | {"upstreamName": None} == {
        "name": "gpt-5-mini", "upstreamName": None, "inputPrice": 0.25, "outputPrice": 2, "cachedInputPrice": 0.025,
        "weight": 1, "fallbacks": [],
    }  # fmt: skip
    assert (one["models"][1]["upstreamName"], one["models"][1]["fallbacks"]) == ("gpt-5", ["a", "b"])
    assert one["limits"] == {"requestsPerMinute": None, "tokensPerMinute": 2_000_000, "concurrency": None}
    lines = imts("providers", "list").out.splitlines()
    assert lines[1].split() == ["openai", "openai", "gpt-5-mini,", "big", "set", "all", "enabled", one["baseUrl"]]
    shown = imts("providers", "show", "openai").out
    assert "tokens a minute  2,000,000" in shown
    assert "gpt-5-mini  gpt-5-mini     0.25   0.025       2       1" in shown
    assert "big         gpt-5             0       0       0       2  a, b" in shown
    assert "sk-secret" not in shown + imts("providers", "show", "openai", "--json").out
    assert json.loads(imts("providers", "list", "--json").out)["items"][0]["hasApiKey"] is True
    assert imts(*ADD, "--model", "m").code == 4, "the name is taken"
    assert imts("providers", "remove", "openai").out == "Provider openai is removed.\n"
    assert imts("providers", "show", "openai").code == 4
    assert imts("providers", "list").out == "There are no providers. `imts providers add` makes one.\n"


def test_a_file_and_options_over_it(imts: Imts, platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "provider.yaml"
    file.write_text(FILE)
    added = imts("providers", "add", "-f", str(file), "--requests-per-minute", "none", "--project", "blue", "--json")
    told = json.loads(added.out)
    assert (told["name"], told["project"], told["hasApiKey"]) == ("deepseek", "blue", False)
    assert told["limits"] == {"requestsPerMinute": None, "tokensPerMinute": None, "concurrency": 8}
    assert (told["models"][0]["inputPrice"], told["models"][0]["fallbacks"]) == (0.28, ["qwen3"])
    named = imts("providers", "add", "second", "-f", "-", given=FILE)
    assert (named.code, "second" in named.out) == (0, True)
    broken = imts("providers", "add", "third", "-f", "-", given=FILE.replace("deepseek-chat", "no such name"))
    assert (broken.code, "models.0.name" in broken.err) == (4, True)
    assert imts("providers", "add", "-f", "-", "--key-stdin", given=FILE).code == 2


def test_what_is_not_named_stays(imts: Imts, platform: Platform) -> None:
    imts(*ADD, "--model", "m", "--key-stdin", "--tokens-per-minute", "5_000", given="sk-1\n")
    changed = imts("providers", "change", "openai", "--concurrency", "4", "--disabled")
    assert changed.out == "Provider openai is changed: disabled, m.\n"
    [one] = platform.gateway.providers.values()
    assert one["limits"] == {"requestsPerMinute": None, "tokensPerMinute": 5_000, "concurrency": 4}
    assert (one["enabled"], one["hasApiKey"], platform.gateway.sent_keys) == (False, True, ["sk-1"])
    assert imts("providers", "change", "openai", "--key-stdin", "--enabled", given="sk-2").code == 0
    assert imts("providers", "change", "openai", "--model", "x", "--model", "y", "--no-key").code == 0
    assert platform.gateway.sent_keys == ["sk-1", "sk-2", None]
    assert ([model["name"] for model in one["models"]], one["hasApiKey"]) == (["x", "y"], False)
    assert imts("providers", "change", "openai").code == 2
    assert imts("providers", "change", "openai", "--key-stdin", "--no-key", given="k").code == 2
    assert imts("providers", "change", "nobody", "--disabled").code == 4


def test_asked_whether_it_answers(imts: Imts, platform: Platform) -> None:
    imts(*ADD, "--model", "m", "--key-stdin", given="sk-1")
    assert imts("providers", "check", "openai").out == (
        "ok: It answered in 0.2 s with 2 models.\nIt has gpt-5-mini, gpt-5\n"
    )
    imts("providers", "change", "openai", "--no-key")
    failed = imts("providers", "check", "openai")
    assert (failed.code, failed.out) == (1, "failed: It answered 401: the key is missing or wrong.\n")
    asked = imts("providers", "check", "openai", "--json")
    assert (asked.code, json.loads(asked.out)["ok"]) == (1, False)


def test_a_provider_that_is_not_used_says_why(imts: Imts, platform: Platform) -> None:
    imts(*ADD, "--model", "m")
    [one] = platform.gateway.providers.values()
    one["problem"] = "Its key cannot be opened: set it again."
    listed = imts("providers", "list")
    assert ("not used" in listed.out, listed.err) == (True, "openai: Its key cannot be opened: set it again.\n")
    assert "problem  Its key cannot be opened" in imts("providers", "show", "openai").out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--model", "m,price=3"), "'price=3' is none of in=…, cached=…, out=…, weight=…, fallback=…"),
        (("--model", "m,in=three"), "in= takes a number, not 'three'"),
        (("--model", "m,in=nan"), "in= takes a number, not 'nan'"),
        (("--model", "m,in=1,in=2"), "in= is there twice"),
        (("--model", "=x"), "names no model"),
        (("--model", "m="), "names no model"),
        (("--model", "m", "--concurrency", "-1"), "--concurrency takes a whole number"),
        (("--model", "m", "--key-env", "NO_SUCH"), "there is no such environment variable"),
        (("--model", "m", "--key-env", "A", "--key-stdin"), "one of --key-env and --key-stdin"),
        (("--model", "m", "--key-stdin"), "no key came"),
        ((), "Give --model"),
    ],
)
def test_wrong_usage(imts: Imts, platform: Platform, given: tuple[str, ...], says: str) -> None:
    ran = imts(*ADD, *given, given="")
    assert (ran.code, says in ran.err) == (2, True), ran.err
    assert not platform.gateway.providers


def test_a_key_of_two_lines_is_not_shown(imts: Imts) -> None:
    for key in ("sk-abc\nsk-def", "sk-äöü"):
        ran = imts(*ADD, "--model", "m", "--key-stdin", given=key)
        assert (ran.code, "sk-" in ran.err + ran.out) == (2, False)


def on_a_terminal(served: Served, *arguments: str, typed: str = "", columns: int = 80) -> Ran:
    """What stands on a terminal that is so wide; `typed` once it asks for the key."""
    process, terminal = pty.fork()
    if process == 0:
        env = environment(served.url, TERM="dumb", PYTHONPATH=os.pathsep.join(sys.path)) | {"COLUMNS": str(columns)}
        os.execve(sys.executable, [sys.executable, "-m", "imts_cli", *arguments], env)
    seen = b""
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:
            break
        seen += piece
        if typed and b"API key of" in seen:
            time.sleep(0.5)
            os.write(terminal, typed.encode() + b"\n")
            typed = ""
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return Ran(code, seen.decode().replace("\r\n", "\n"), "")


def test_the_key_is_asked_for_at_a_terminal(served: Served, platform: Platform) -> None:
    ran = on_a_terminal(served, *ADD, "--model", "m", typed="sk-typed")
    assert (ran.code, platform.gateway.sent_keys) == (0, ["sk-typed"])
    assert ("API key of openai (Enter: none): " in ran.out, "sk-typed" in ran.out) == (True, False)
    silent = on_a_terminal(served, "providers", "add", "l", "--kind", "ollama", "--url", "http://x", "--model", "m")
    assert (silent.code, "API key" in silent.out) == (0, False)
    assert on_a_terminal(served, "providers", "change", "openai", "--ask-key", typed="sk-new").code == 0
    assert platform.gateway.sent_keys == ["sk-typed", None, "sk-new"]


def test_limits(imts: Imts, platform: Platform) -> None:
    first = imts("limits", "set", "--project", "blue", "--token-budget", "2M", "--requests-per-minute", "600")
    assert first.code == 0
    assert "requests a minute  600\ntokens a minute    no limit\n" in first.out
    assert "token budget       2,000,000 this month: 62% spent, 750,000 left" in first.out
    again = imts("limits", "set", "--project", "blue", "--money-budget", "10.5", "--budget-period", "week", "--json")
    assert json.loads(again.out)["limits"] == {
        "requestsPerMinute": 600, "tokensPerMinute": None, "tokenBudget": 2_000_000, "moneyBudget": 10.5,
        "budgetPeriod": "week",
    }  # fmt: skip
    shown = imts("limits", "show", "--project", "blue").out
    assert "money budget       10.50 this week: 119% spent, 0.00 left" in shown
    assert "spent this week    1,234 requests, 1,250,000 tokens, 12.50 money" in shown
    assert "token budget       no limit" in imts("limits", "set", "--project", "blue", "--token-budget", "none").out
    assert imts("limits", "show").out.startswith("key                k\n"), "of the key at hand"
    assert imts("limits", "set", "--key", "k", "--tokens-per-minute", "20k").code == 0
    assert platform.gateway.limits["keys", "k"]["tokensPerMinute"] == 20_000
    for wrong in (
        ("--key", "k"), ("--token-budget", "5"), ("--key", "k", "--project", "p", "--token-budget", "5"),
        ("--key", "k", "--token-budget", "lots"), ("--key", "k", "--money-budget", "-1"),
        ("--key", "k", "--budget-period", "year"),
    ):  # fmt: skip
        assert imts("limits", "set", *wrong).code == 2, wrong
    too_much = imts("limits", "set", "--key", "k", "--token-budget", "999999999G")
    assert (too_much.code, "tokenBudget" in too_much.err) == (4, True)


def test_the_request_log(imts: Imts, platform: Platform) -> None:
    assert imts("projects", "request-log", "blue", "full").out == "Project blue: request log full.\n"
    assert platform.gateway.levels == {"blue": "full"}
    assert imts("projects", "request-log", "blue", "everything").code == 2
