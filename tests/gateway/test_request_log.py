"""What is kept of requests, by what their project wants."""

import asyncio

import aiohttp
import pytest

from imts_shared.contracts.access import RequestLog
from imts_shared.contracts.serving import KnownProject
from imts_shared.contracts.usage import LoggedRequest
from inference_service.gateway import logbook
from inference_service.gateway.redaction import redacted, redacted_content
from tests.gateway.conftest import Served
from tests.gateway.engines import engine
from tests.gateway.platform_side import MEMBER, served

CHAT = "/v1/chat/completions"


async def _logged(door: Served, most: int = 1) -> list[LoggedRequest]:
    for _ in range(100):
        found = [one for report in door.platform.reports for one in report.requests]
        if len(found) >= most:
            return found
        await asyncio.sleep(0.02)
    return [one for report in door.platform.reports for one in report.requests]


@pytest.mark.parametrize("level", list(RequestLog))
@pytest.mark.parametrize("stream", [False, True])
async def test_a_project_decides_what_is_kept(door: Served, level: RequestLog, stream: bool) -> None:
    async with engine("one") as one:
        await door.serve(served("tiny", one.url), projects=[KnownProject(name="default", request_log=level)])
        asked = [{"role": "user", "content": "I am anna@example.com, and my card is 4111 1111 1111 1111."}]
        async with (
            aiohttp.ClientSession(door.gateway.url, headers={"authorization": f"Bearer {MEMBER}"}) as session,
            session.post(CHAT, json={"model": "tiny", "messages": asked, "stream": stream}) as answer,
        ):
            await answer.read()
        await door.used(1)
        found = await _logged(door, 0 if level == RequestLog.off else 1)
    if level == RequestLog.off:
        assert found == []
        return
    (entry,) = found
    assert (entry.project, entry.key_id, entry.model, entry.asked) == ("default", "key-member", "tiny", "tiny")
    assert (entry.upstream, entry.status) == ("deployment", 200)
    assert 0 < entry.seconds < 5
    if level == RequestLog.metadata:
        assert (entry.request, entry.answer) == (None, None)
        return
    assert entry.request is not None
    assert entry.request["messages"][0]["content"] == "I am [email], and my card is [card]."
    said = "0 1 2 3 4 " if stream else "I am one."
    assert entry.answer == {"role": "assistant", "content": said}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to anna.b+x@sub.example.co.uk now", "write to [email] now"),
        ("key sk-proj-abcdefghijklmnopqrstuv and hf_abcdefghijklmnopqrst", "key [key] and [key]"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: [credentials]"),
        ("postgres://user:secret@db/x", "postgres://[credentials]@db/x"),
        ("password = hunter2222", "[password]"),
        ("call +49 (0)30 1234 5678 or 13812345678", "call [phone] or [phone]"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [account]."),
        ("card 4111-1111-1111-1111", "card [card]"),
        ("身份证 11010519491231002X", "身份证 [identity number]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "[private key]"),
        ("order 4111 1111 1111 1112 of 2026-11-21, 1234567890 pieces", None),
        ("pi is 3.14159265358979, version 1.2.3, 0xDEADBEEF", None),
        ("The DE89 3704 0044 0532 0130 01 road", None),
        ("no \0 text", "no \ufffd text"),
    ],
)
def test_secrets_and_personal_numbers_are_taken_out_and_others_stay(text: str, left: str | None) -> None:
    assert redacted(text) == (text if left is None else left)


def test_it_is_taken_out_wherever_it_stands() -> None:
    deep = {"tools": [{"function": {"arguments": '{"to": "a@b.example"}'}}], "n": 1, "x": None, "y\0": 1}
    assert redacted_content(deep) == {
        "y\ufffd": 1,
        "tools": [{"function": {"arguments": '{"to": "[email]"}'}}],
        "n": 1,
        "x": None,
    }


def test_a_streams_tool_calls_are_put_together_again() -> None:
    events = [
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"add"}}]}}]}',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\""}}]}}]}',
        b'data: {"choices":[{"index":1,"delta":{"content":"another choice"}}]}',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}',
        b'data: {"choices":[],"usage":{"prompt_tokens":1}}',
        b"data: [DONE]",
    ]
    assert logbook.message(b"\n\n".join(events)) == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
    }
    assert logbook.message(b"<html>") is None
    assert logbook.message(b'{"choices": []}') is None
