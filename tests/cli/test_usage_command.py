"""imts usage, as a file and on terminals of several widths."""

import csv
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imts_cli.commands.figures import decimals, money, seconds, share, short
from tests.cli.conftest import Imts, Served
from tests.cli.stand_in import Platform
from tests.cli.test_providers_command import on_a_terminal


def line(**more: Any) -> dict[str, Any]:
    return {
        "day": "2026-11-20", "model": "qwen3", "requests": 12_345, "failed": 0, "inputTokens": 1_234_567,
        "cachedTokens": 0, "outputTokens": 89_012, "estimatedTokens": 0, "totalTokens": 1_323_579, "cost": 0.5,
    } | more  # fmt: skip


def test_a_table_that_lines_up(imts: Imts, platform: Platform) -> None:
    platform.gateway.usage = [
        line(keyId="k1", keyName="张伟的密钥", cost=0.5),
        line(keyId="k2", keyName=None, requests=7, cost=1_234.5, totalTokens=90),
    ]
    ran = imts("usage", "--by", "key,model")
    assert ran.out.splitlines() == [
        "KEY         MODEL  REQUESTS      INPUT   OUTPUT     TOKENS      COST",
        "张伟的密钥  qwen3    12,345  1,234,567   89,012  1,323,579      0.50",
        "k2          qwen3         7  1,234,567   89,012         90  1,234.50",
        "──────────  ─────  ────────  ─────────  ───────  ─────────  ────────",
        "total                12,352  2,469,134  178,024  1,323,669  1,235.00",
    ]
    assert (ran.code, ran.err) == (0, "")
    platform.gateway.usage[0] |= {"failed": 3, "cachedTokens": 9, "estimatedTokens": 37, "cost": 0.0004}
    head, *_, total = (ran := imts("usage")).out.splitlines()
    assert head.split() == ["DAY", "MODEL", "REQUESTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "TOKENS", "COST"]
    assert total.endswith("1,234.500400"), "so many decimals that the smallest shows"
    assert ran.err == "37 of the tokens are estimated: of answers that were cut.\n"


def test_what_is_asked_for(imts: Imts, platform: Platform) -> None:
    today = datetime.now(UTC).date()
    assert imts("usage").out == f"Nothing was asked of models since {today - timedelta(days=30)}.\n"
    assert platform.gateway.asked_usage == {
        "by": "day,model", "from": str(today - timedelta(days=30)), "limit": "500"
    }  # fmt: skip
    filters = ("--project", "p", "--key", "k", "--model", "m", "--upstream", "deployment")
    imts("usage", "--by", "project, upstream", "--from", "2026-11-01", "--to", "today", *filters)
    assert platform.gateway.asked_usage == {
        "by": "project,upstream", "from": "2026-11-01", "to": str(today), "project": "p", "key": "k", "model": "m",
        "upstream": "deployment", "limit": "500",
    }  # fmt: skip
    assert imts("usage", "--from", "all").out == "Nothing was asked of models.\n"
    assert "from" not in platform.gateway.asked_usage
    for wrong in (
        ("--by", "hour"), ("--by", ""), ("--from", "2026-13-01"), ("--to", "99999d"), ("--csv", "--json"),
        ("--from", "today", "--to", "yesterday"),
    ):  # fmt: skip
        assert imts("usage", *wrong).code == 2, wrong


def test_json_and_csv_hold_every_page(imts: Imts, platform: Platform) -> None:
    platform.gateway.usage = [line(model=f"m{n}", cost=0.000001) for n in range(1_200)]
    told = json.loads(imts("usage", "--json").out)
    assert (len(told["items"]), told["total"]["requests"]) == (1_200, 12_345 * 1_200)
    rows = list(csv.DictReader(imts("usage", "--csv").out.splitlines()))
    assert (len(rows), rows[0]["model"], rows[0]["totalTokens"], rows[0]["cost"]) == (1_200, "m0", "1323579", "1e-06")
    platform.gateway.usage = [line(keyId="k1", keyName='a "key", 密钥')]
    [row] = csv.DictReader(imts("usage", "--by", "key", "--csv").out.splitlines())
    assert (row["keyId"], row["keyName"], "day" in row) == ("k1", 'a "key", 密钥', False)
    platform.gateway.usage = [line(keyId="k1", keyName="=1+1")]
    assert "k1,'=1+1," in imts("usage", "--by", "key", "--csv").out, "no formula for a spreadsheet"


def test_a_narrow_terminal(served: Served, platform: Platform) -> None:
    big = {"inputTokens": 987_654_321, "outputTokens": 98_765_432, "totalTokens": 1_086_419_753, "cachedTokens": 5}
    long_name = "org/very-long-model-name-7b-instruct-v2.5"
    platform.gateway.usage = [line(**big, keyName="数据组的密钥", keyId="k", upstream="openai", model=long_name)]
    ran = on_a_terminal(served, "usage")
    assert max(map(width, ran.out.splitlines())) <= 80
    assert "2026-11-20" in ran.out
    assert "987,654,321" in ran.out
    assert "No room for CACHED, TOKENS: a wider terminal or --csv has it." in ran.out
    wide = on_a_terminal(served, "usage", columns=130)
    assert "1,086,419,753" in wide.out
    assert "No room" not in wide.out
    crowded = on_a_terminal(served, "usage", "--by", "day,key,model,upstream")
    assert max(map(width, crowded.out.splitlines())) <= 80
    assert "987.7M" in crowded.out


def width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


@pytest.mark.parametrize(
    ("amounts", "places"), [([], 2), ([None, 0], 2), ([0.5, 12], 2), ([0.05], 4), ([0.0009, 100], 6)]
)
def test_decimals(amounts: list[float | None], places: int) -> None:
    assert decimals(amounts) == places


def test_figures() -> None:
    assert [short(n) for n in (None, 999, 1_000, 2_500_000, 3 * 10**9, 10**12)] == [
        "", "999", "1.0k", "2.5M", "3.0G", "1.0T"
    ]  # fmt: skip
    assert [share(*pair) for pair in ((0, 0), (1, 0), (0, 5), (1, 1_000), (3, 4))] == ["0%", "over", "0%", "<1%", "75%"]
    assert [seconds(value) for value in (None, 0.42, 12.34)] == ["", "420 ms", "12.3 s"]
    assert money(1_234.5, 4) == "1,234.5000"
