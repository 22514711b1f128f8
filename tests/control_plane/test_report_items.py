"""Items of a gateway's report that cannot be kept, or not as they are: the others are, and each is counted."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from loguru import logger

from control_plane.gateway import parts
from control_plane.gateway.pieces import PIECE_BYTES
from tests.control_plane.gateway_side import GatewaySide, decision, feedback, logged, used


@pytest.fixture
async def one(url: str) -> AsyncIterator[GatewaySide]:
    side = GatewaySide(url, "gateway-1")
    yield side
    await side.http.aclose()


@pytest.fixture
def lines(url: str) -> Iterator[list[str]]:
    written: list[str] = []
    sink = logger.add(lambda line: written.append(str(line)), format="{message} {extra}")
    yield written
    logger.remove(sink)


def rows(database_url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(query).fetchall()


def counted(database_url: str) -> dict[str, int]:
    tables = ("usage", "routing_decisions", "routing_lessons", "routing_feedback", "request_log")
    return {table: rows(database_url, f"SELECT count(*) FROM {table}")[0][0] for table in tables}


GOOD: dict[str, Any] = {
    "used": [used(model="good")],
    "decisions": [decision("good")],
    "feedback": [feedback("good")],
    "requests": [logged("good")],
}
ONE_OF_EACH = {"usage": 1, "routing_decisions": 1, "routing_lessons": 2, "routing_feedback": 1, "request_log": 1}


@pytest.mark.parametrize(
    ("kind", "item", "why"),
    [
        ("used", used(inputTokens=-1), "inputTokens: greater_than_equal"),
        ("used", used(cost=-0.1), "cost: greater_than_equal"),
        ("used", used(outputTokens=10**16), "outputTokens: less_than_equal"),
        ("used", used(outputTokens=10**30), "outputTokens: less_than_equal"),
        ("used", used(day="yesterday"), "day: date_from_datetime_parsing"),
        ("used", used(model="m" * 3_000), "model: string_too_long"),
        ("used", "nonsense", "item: model_type"),
        ("feedback", feedback("good", rating=6), "rating: less_than_equal"),
        ("feedback", feedback("good", rating=None, quality=1.5), "quality: less_than_equal"),
        ("feedback", feedback("good", at="2026-11-21T20:15:00"), "at: timezone_aware"),
        ("decisions", decision("bad", at="soon"), "at: datetime_from_date_parsing"),
        ("decisions", decision("bad", at="0001-01-01T00:00:00+14:00"), "at: greater_than_equal"),
        ("decisions", decision("bad", at="9999-12-31T23:00:00-12:00"), "at: less_than_equal"),
        ("decisions", decision("bad", result={"inputTokens": 10**30}), "result.inputTokens: less_than_equal"),
        ("decisions", decision("bad", result={"cost": 1e300}), "result.cost: less_than_equal"),
        ("decisions", decision("bad" * 1_000), "decisionId: string_too_long"),
        ("decisions", {"decisionId": "bad"}, "model: missing"),
        ("requests", logged("bad", status=10**12), "status: less_than_equal"),
        ("requests", logged("bad", seconds="inf"), "seconds: finite_number"),
        ("requests", logged("bad", request=["a list"]), "request: dict_type"),
    ],
)
async def test_one_that_cannot_be_kept_is_left_out_and_the_rest_is_not(
    one: GatewaySide, database_url: str, lines: list[str], kind: str, item: Any, why: str
) -> None:
    told = await one.told(**{**GOOD, kind: [item, *GOOD[kind], item]})
    assert told == {"number": 1, "unknownDecisions": [], "leftOut": 2}
    assert counted(database_url) == ONE_OF_EACH
    [line] = [line for line in lines if "left out" in line]
    assert f"'kind': '{kind}'" in line and f"'why': '{why}'" in line and "'count': 2" in line, line


async def test_infinity_is_left_out_where_it_counts_and_nothing_where_it_does_not(
    one: GatewaySide, database_url: str
) -> None:
    endless = json.dumps(decision("context", context=[1.0])).replace("[1.0]", "[1e999]")
    inside = json.dumps(decision("features", features={"much": 7.25, "none": None})).replace("7.25", "1e999")
    told = await one.written(f'{{"gateway":"gateway-1","number":1,"decisions":[{endless},{inside}]}}')
    assert told.json() == {"number": 1, "unknownDecisions": [], "leftOut": 1}
    kept = rows(database_url, "SELECT decision_id, features FROM routing_decisions")
    assert kept == [("features", {"much": None, "none": None})]
    page = await one.get("/lessons", after=0)
    assert [lesson["decisionId"] for lesson in page["items"]] == ["features"]


ODD = '\'; DROP TABLE usage; -- \u0000 \U0001f600 {"a": 1} 你好 \\u0000 \\ud83d'


async def test_text_of_every_kind_is_kept(one: GatewaySide, database_url: str) -> None:
    await one.told(
        used=[used(model=ODD)],
        decisions=[decision(ODD, reason=ODD, features={ODD: [ODD]}, result=None)],
        requests=[logged(ODD, request={"messages": [ODD], "stop": None}, answer={"content": ODD})],
        feedback=[feedback(ODD, comment=ODD, label=ODD)],
    )
    kept = ODD.replace("\u0000", "\ufffd")
    assert rows(database_url, "SELECT model FROM usage") == [(kept,)]
    both = "SELECT decision_id, features, comment FROM routing_decisions JOIN routing_feedback USING (decision_id)"
    assert rows(database_url, both) == [(kept, {kept: [kept]}, kept)]
    found = rows(database_url, "SELECT request, answer FROM request_log")
    assert found == [({"messages": [kept], "stop": None}, {"content": kept})]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (rb"\ud83d", "\ufffd"),
        (rb"a\uDE00z", "a\ufffdz"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\uD83D\uDE00", "\U0001f600"),
        (rb"\\ud83d", r"\ud83d"),
        (rb"\\\u0000\u00e4", "\\\ufffdä"),
        (b"a\xffb", "a\ufffdb"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
    ],
)
@pytest.mark.parametrize("spelling", [(",", ":"), (", ", ": ")])
async def test_characters_that_are_none_are_replaced(
    one: GatewaySide, database_url: str, written: bytes, kept: str, spelling: tuple[str, str]
) -> None:
    body = {"gateway": "gateway-1", "number": 1, **GOOD, "requests": [logged("HERE"), logged("good")]}
    told = await one.written(json.dumps(body, separators=spelling).encode().replace(b"HERE", written))
    assert told.json() == {"number": 1, "unknownDecisions": [], "leftOut": 0}, told.text
    assert rows(database_url, "SELECT request_id FROM request_log") == [(kept,), ("good",)]
    assert counted(database_url) == {**ONE_OF_EACH, "request_log": 2}


def nested(depth: int) -> dict[str, Any]:
    inner: Any = "deep"
    for _ in range(depth):
        inner = [inner]
    return {"messages": inner}


async def test_content_that_is_nested_too_deep_is_left_out(
    one: GatewaySide, admin: httpx.AsyncClient, database_url: str, lines: list[str]
) -> None:
    deep = [logged(f"deep-{depth}", request=nested(depth)) for depth in (150, 220, 300, 900)]
    told = await one.told(**{**GOOD, "requests": [*deep, logged("good")]})
    assert told["leftOut"] == 3
    assert rows(database_url, "SELECT request_id FROM request_log") == [("deep-150",), ("good",)]
    assert "item: nested too deep" in "".join(lines)
    shown = await admin.get("/api/requests", params={"content": True})
    assert shown.status_code == 200, shown.text


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b'{"gateway":"gateway-1","number":1,"used":[}', 400, "body"),
        (b"[" * 100_000, 400, "body"),
        (b'{"gateway":"gateway-1","number":1,"used":[' + b"1" * 5_000 + b"]}", 400, "body"),
        (b"\xff\xfe", 400, "body"),
        (b"[]", 422, "body"),
        (b'{"number":1,"used":[]}', 422, "gateway"),
        (b'{"gateway":"short","number":1}', 422, "gateway"),
        (b'{"gateway":"gateway-1","number":0}', 422, "number"),
        (b'{"gateway":"gateway-1","number":9223372036854775808}', 422, "number"),
        (b'{"gateway":"gateway-1","number":1,"used":{},"decisions":[],"feedback":[],"requests":[]}', 422, "used"),
        (b'{"gateway":"gateway-1","number":1,"requests":5}', 422, "requests"),
    ],
)
async def test_what_is_no_report_is_refused(one: GatewaySide, body: bytes, status: int, field: str) -> None:
    refused = await one.written(body)
    assert (refused.status_code, refused.json().get("field")) == (status, field), refused.text


TRICKY = [
    '},{"requestId":',
    '],"requests":[',
    '"}]},{"decisionId":"x","model":"y"},{',
    {"decisions": [{"decisionId": "inner"}, {"decisionId": "inner"}], "feedback": [], "requests": [{}]},
    {"a": [1], "requests": [{"requestId": "inner"}, {"requestId": "inner"}]},
    {"used": [], "decisions": [], "feedback": []},
]


@pytest.mark.parametrize("spelling", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("tricky", TRICKY)
async def test_a_large_part_comes_whole_whatever_its_items_hold(tricky: Any, spelling: tuple[str, str]) -> None:
    at = datetime.now(UTC).isoformat()
    features = {"before": tricky, "filling": "x" * 500, "after": tricky}
    body = {
        "gateway": "gateway-1",
        "number": 7,
        "used": [used(model=f"m{number}") for number in range(400)],
        "decisions": [decision(f"d{number}", features=features, at=at) for number in range(600)],
        "feedback": [feedback(f"d{number}", at=at) for number in range(600)],
        "requests": [logged(f"r{number}", request=features, at=at) for number in range(600)],
    }
    part = await parts.read(json.dumps(body, separators=spelling).encode())
    assert (part.gateway, part.number, part.left_out.total()) == ("gateway-1", 7, 0)
    assert [one["decisionId"] for one in json.loads(part.json("decisions"))] == [f"d{number}" for number in range(600)]
    assert [one.decision_id for one in part.feedback] == [f"d{number}" for number in range(600)]
    assert [one["model"] for one in json.loads(part.json("used"))] == [f"m{number}" for number in range(400)]
    kept = json.loads(part.json("requests"))
    assert [one["requestId"] for one in kept] == [f"r{number}" for number in range(600)]
    assert all(one["request"] == features for one in kept)


async def test_others_are_served_while_a_large_part_is_read() -> None:
    body = {"gateway": "gateway-1", "number": 1, "used": [], "decisions": [], "feedback": []}
    body["requests"] = [logged(f"r{number}", request={"text": "x" * 1_000}) for number in range(3_000)]
    written = json.dumps(body, separators=(",", ":")).encode()
    reading = asyncio.create_task(parts.read(written))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert reading.result().left_out.total() == 0
    assert turns > len(written) // (PIECE_BYTES * 2)


async def test_what_postgres_refuses_is_found_and_left_out(
    one: GatewaySide, database_url: str, lines: list[str]
) -> None:
    full = "INSERT INTO usage VALUES ('2026-11-21', 'k', 'default', 'full', 'openai', 9223372036854775807, 0,0,0,0,0,0)"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(full)
        connection.execute("ALTER TABLE request_log ADD CONSTRAINT no_teapots CHECK (status <> 418)")
        connection.execute("ALTER TABLE routing_decisions ADD CONSTRAINT no_ghosts CHECK (model <> 'ghost')")
    try:
        told = await one.told(
            used=[used(model=f"m{number}") for number in range(5)] + [used(model="full", keyId="k")],
            decisions=[decision(f"d{number}", model="ghost" if number == 7 else "m") for number in range(20)],
            requests=[logged(f"r{number}", status=418 if number % 10 == 3 else 200) for number in range(30)],
            feedback=[feedback("d1"), feedback("d7")],
        )
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("ALTER TABLE request_log DROP CONSTRAINT no_teapots")
            connection.execute("ALTER TABLE routing_decisions DROP CONSTRAINT no_ghosts")
    assert told == {"number": 1, "unknownDecisions": ["d7"], "leftOut": 5}
    expected = {"usage": 6, "routing_decisions": 19, "routing_lessons": 20, "routing_feedback": 1, "request_log": 27}
    assert counted(database_url) == expected
    assert rows(database_url, "SELECT DISTINCT requests FROM usage ORDER BY 1") == [(1,), (9223372036854775807,)]
    order = rows(database_url, "SELECT request_id FROM request_log ORDER BY number")
    assert [identity for (identity,) in order] == [f"r{number}" for number in range(30) if number % 10 != 3]
    said = "".join(lines)
    assert "CheckViolation of no_teapots" in said and "NumericValueOutOfRange" in said
    assert "ghost'" not in said


FAULT = """
CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'away' USING ERRCODE = 'admin_shutdown'; END $$;
CREATE TRIGGER fault BEFORE INSERT ON usage FOR EACH ROW EXECUTE FUNCTION fault();
"""


async def test_a_part_that_fails_leaves_nothing_and_is_applied_when_it_is_told_again(
    one: GatewaySide, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FAULT)
        try:
            failed = await one.report(1, **GOOD)
        finally:
            connection.execute("DROP TRIGGER fault ON usage; DROP FUNCTION fault")
    assert (failed.status_code, failed.json()["code"]) == (503, "database_unavailable")
    assert counted(database_url) == dict.fromkeys(ONE_OF_EACH, 0)
    assert rows(database_url, "SELECT count(*) FROM gateway_lives") == [(0,)]
    assert (await one.report(1, **GOOD)).json() == {"number": 1, "unknownDecisions": [], "leftOut": 0}
    assert counted(database_url) == ONE_OF_EACH


async def test_a_decision_that_another_model_answered_teaches_of_both(one: GatewaySide) -> None:
    result = {"failed": True, "model": "other", "cost": 0.5, "inputTokens": 3}
    await one.told(decisions=[decision("d1", result=None), decision("d1", result=result), decision("d1", result={})])
    await one.told(decisions=[decision("d1", result={"cost": 9})])
    chosen, answered = (await one.get("/lessons", after=0))["items"]
    assert (chosen["model"], chosen["result"]["failed"], chosen["result"]["cost"]) == ("gpt-5", True, None)
    assert (answered["model"], answered["result"]["failed"], answered["result"]["cost"]) == ("other", False, 0.5)
    assert answered["result"]["model"] is None
    assert chosen["features"] == answered["features"] == decision("d1")["features"]
