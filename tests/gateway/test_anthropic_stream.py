"""Streams of Anthropic as OpenAI's own client reads them, however the bytes are cut."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.gateway.anthropic.answer import Envelope, completion
from inference_service.gateway.anthropic.events import EVENT_BYTES
from inference_service.gateway.anthropic.failures import Garbage
from inference_service.gateway.anthropic.request import to_anthropic
from inference_service.gateway.anthropic.stream import OPEN_BLOCKS, Stream
from inference_service.gateway.anthropic.usage import Usage
from tests.gateway.anthropic_server import events, halves, message, wire
from tests.gateway.test_anthropic_answer import AROUND, CALL, TEXT, anything, block

chat = pytest.importorskip("openai.types.chat")
streaming = pytest.importorskip("openai._streaming")
accumulating = pytest.importorskip("openai.lib.streaming.chat")

COUNTED = Envelope(AROUND.id, AROUND.created, AROUND.model, include_usage=True)
THOUGHT = {"type": "thinking", "thinking": "Hm, let me see.", "signature": "sig"}
HIDDEN = {"type": "redacted_thinking", "data": "xyz"}


def sent(whole: dict[str, Any], cut: Any = halves) -> bytes:
    return b"".join(map(wire, events(whole, cut)))


def chunks(told: bytes) -> list[Any]:
    """As OpenAI's client takes them off the wire; the end mark must be the last of them, and only the last."""
    read = [event.data for event in streaming.SSEDecoder().iter_bytes(iter([told]))]
    assert read[-1:] == ["[DONE]"]
    return [chat.ChatCompletionChunk.model_validate_json(data, strict=True) for data in read[:-1]]


def gathered(told: bytes) -> Any:
    state = accumulating.ChatCompletionStreamState()
    for chunk in chunks(told):
        state.handle_chunk(chunk)
    return state.current_completion_snapshot


def test_words_come_piece_by_piece() -> None:
    stream = Stream(COUNTED)
    told = chunks(stream.feed(sent(message([TEXT]))))
    assert [chunk.choices[0].delta.role for chunk in told if chunk.choices] == ["assistant", None, None, None]
    assert [chunk.choices[0].delta.content for chunk in told if chunk.choices] == ["", "He", "llo", None]
    assert [chunk.choices[0].finish_reason for chunk in told if chunk.choices] == [None, None, None, "stop"]
    assert [chunk.usage and chunk.usage.total_tokens for chunk in told] == [None] * 4 + [26]
    assert {(chunk.id, chunk.created, chunk.model) for chunk in told} == {("chatcmpl-1", 1700000000, "claude")}
    assert (stream.finished, stream.finish_reason, stream.usage) == (True, "stop", Usage(11, 5, 3, 7))


def test_usage_is_known_here_where_the_caller_did_not_ask() -> None:
    stream = Stream(AROUND)
    told = stream.feed(sent(message([TEXT])))
    assert b"usage" not in told
    assert len(chunks(told)) == 4
    assert stream.usage == Usage(11, 5, 3, 7)


def test_usage_of_the_end_corrects_that_of_the_start() -> None:
    told = list(events(message([TEXT]), halves))
    told[-2]["usage"] = {"input_tokens": 12, "cache_read_input_tokens": None, "output_tokens": 90}
    stream = Stream(COUNTED)
    assert gathered(stream.feed(b"".join(map(wire, told)))).usage.total_tokens == 12 + 5 + 3 + 90


def test_calls_come_with_index_id_and_name_and_then_their_arguments() -> None:
    none = {**CALL, "id": "toolu_2", "name": "now", "input": {}}
    told = chunks(Stream(AROUND).feed(sent(message([TEXT, CALL, none], "tool_use"))))
    made = [call for chunk in told for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.id, call.type, call.function.name, call.function.arguments) for call in made] == [
        (0, "toolu_1", "function", "weather", ""),
        (0, None, None, None, '{"place'),
        (0, None, None, None, '":"Ulm"}'),
        (1, "toolu_2", "function", "now", ""),
        (1, None, None, None, "{}"),
    ]
    assert told[-1].choices[0].finish_reason == "tool_calls"


def test_input_that_comes_with_the_start_of_a_call() -> None:
    told = [event for event in events(message([CALL], "tool_use"), halves) if event["type"] != "content_block_delta"]
    told[2]["content_block"] = CALL
    whole = gathered(Stream(AROUND).feed(b"".join(map(wire, told))))
    assert whole.choices[0].message.tool_calls[0].function.arguments == '{"place":"Ulm"}'


def test_words_that_come_with_the_start_of_a_block() -> None:
    told = [event for event in events(message([TEXT]), halves) if event["type"] != "content_block_delta"]
    told[2]["content_block"] = TEXT
    assert gathered(Stream(AROUND).feed(b"".join(map(wire, told)))).choices[0].message.content == "Hello"


def test_the_form_of_events() -> None:
    first, *rest = [orjson.dumps(event, option=orjson.OPT_INDENT_2) for event in events(message([TEXT]), halves)]
    lines = [b"\xef\xbb\xbfdata:" + first.replace(b"\n", b"\r\ndata: ") + b"\r\n\r\ndata:\r\n\r\n"]
    lines += [b"data:" + event.replace(b"\n", b"\ndata:") + b"\n\n" for event in rest]
    assert gathered(Stream(AROUND).feed(b"".join(lines))).choices[0].message.content == "Hello"
    with pytest.raises(Garbage):
        Stream(AROUND).feed(b'data: {"type":"ping","n":1\ndata: 2}\n\n')


def test_a_stream_may_be_long_where_its_events_are_short() -> None:
    stream = Stream(AROUND)
    ping = wire({"type": "ping"})
    for _ in range(EVENT_BYTES // 1_000):
        assert stream.feed(ping * 100) == b""


def test_who_asked_with_functions_is_answered_with_one() -> None:
    around = Envelope("chatcmpl-1", 1, "claude", single_call=True)
    told = chunks(Stream(around).feed(sent(message([CALL, {**CALL, "id": "toolu_2"}], "tool_use"))))
    made = [chunk.choices[0].delta.function_call for chunk in told if chunk.choices[0].delta.function_call]
    assert [(call.name, call.arguments) for call in made] == [("weather", ""), (None, '{"place'), (None, '":"Ulm"}')]
    assert told[-1].choices[0].finish_reason == "function_call"


def test_thoughts_come_as_they_are_thought_and_can_be_given_back() -> None:
    told = chunks(Stream(AROUND).feed(sent(message([THOUGHT, HIDDEN, TEXT]))))
    deltas = [chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in told]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm, let me see."
    joined = gathered(Stream(AROUND).feed(sent(message([THOUGHT, HIDDEN, TEXT])))).choices[0].message
    assert joined.thinking_blocks == [{"index": 0, **THOUGHT}, {"index": 1, **HIDDEN}]
    again = {"role": "assistant", "content": joined.content, "thinking_blocks": joined.thinking_blocks}
    back = to_anthropic({"messages": [{"role": "user", "content": "Hi"}, again]}, "m")
    assert back["messages"][1]["content"] == [THOUGHT, HIDDEN, TEXT]


def test_thoughts_that_are_kept_back_leave_their_signature() -> None:
    kept = {**THOUGHT, "thinking": ""}
    joined = gathered(Stream(AROUND).feed(sent(message([kept, TEXT])))).choices[0].message
    again = {"role": "assistant", "content": "Hello", "thinking_blocks": joined.thinking_blocks}
    back = to_anthropic({"messages": [{"role": "user", "content": "Hi"}, again]}, "m")
    assert back["messages"][1]["content"] == [kept, TEXT]


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": None, "explanation": "Not that."}
    whole = gathered(Stream(AROUND).feed(sent(message([TEXT], "refusal", stop_details=details))))
    assert (whole.choices[0].message.refusal, whole.choices[0].finish_reason) == ("Not that.", "content_filter")


def test_what_is_new_in_the_grammar_is_passed_over() -> None:
    known = list(events(message([TEXT, {"type": "server_tool_use", "id": "a"}]), halves))
    new = [{"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta"}}, {"type": "new_event"}]
    told = [*known[:3], *new, *known[3:]]
    assert gathered(Stream(AROUND).feed(b"".join(map(wire, told)))).choices[0].message.content == "Hello"


@pytest.mark.parametrize("left", range(1, 8))
def test_a_stream_that_is_cut_never_ends_cleanly(left: int) -> None:
    told = list(events(message([TEXT]), halves))
    assert len(told) == 8
    stream = Stream(COUNTED)
    seen = stream.feed(b"".join(map(wire, told[:left])))
    assert not stream.finished
    assert b"[DONE]" not in seen
    assert b'"finish_reason":"' not in seen


def test_an_end_without_its_last_line_break_is_no_end() -> None:
    stream = Stream(AROUND)
    stream.feed(sent(message([TEXT]))[:-1])
    assert not stream.finished


def test_an_error_midway_is_known_and_nothing_comes_after_it() -> None:
    told = list(events(message([TEXT]), halves))
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    stream = Stream(AROUND)
    seen = stream.feed(b"".join(map(wire, [*told[:4], error, *told[4:]])))
    assert b"[DONE]" not in seen
    assert b'"He"' in seen
    assert stream.feed(sent(message([TEXT]))) == b""
    assert stream.error is not None
    assert (stream.finished, stream.error.status, stream.error.code) == (False, 503, "provider_overloaded")


def test_nothing_comes_after_the_end() -> None:
    stream = Stream(AROUND)
    whole = stream.feed(sent(message([TEXT])) + b"data: {garbage\n\n")
    assert whole.endswith(b"data: [DONE]\n\n")
    assert stream.feed(b"data: {garbage\n\n") == b""


def start() -> bytes:
    return wire(next(events(message([TEXT]), halves)))


def begin(number: int, kind: str = "text", **more: Any) -> bytes:
    return wire({"type": "content_block_start", "index": number, "content_block": {"type": kind, **more}})


@pytest.mark.parametrize(
    "after",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b"data: {}\n\n",
        b"data: \xff\n\n",
        start(),
        wire({"type": "message_stop"}),
        wire({"type": "content_block_stop", "index": 0}),
        wire({"type": "content_block_stop", "index": [0]}),
        wire({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}),
        begin(0) * 2,
        begin(0, "tool_use", id="a"),
        begin(0) + wire({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}}),
        begin(0) + wire({"type": "content_block_delta", "index": 0, "delta": "x"}),
        begin(0) + b"".join(list(map(wire, events(message([]), halves)))[1:]),
        begin(0, "tool_use", id="a", name="b", input=5) + wire({"type": "content_block_stop", "index": 0}),
        b"".join(begin(number) for number in range(OPEN_BLOCKS + 1)),
        wire({"type": "message_delta", "delta": {"stop_reason": 5}, "usage": {}}),
        wire({"type": "message_delta", "delta": {}, "usage": {"output_tokens": "5"}}),
        b"data: " + b"x" * EVENT_BYTES,
        b"data: x\n" * (EVENT_BYTES // 6),
    ],
)
def test_what_breaks_the_grammar_is_garbage(after: bytes) -> None:
    stream = Stream(AROUND)
    stream.feed(start())
    with pytest.raises(Garbage):
        stream.feed(after)
    assert not stream.finished


def test_a_line_without_end_is_given_up_in_time_that_grows_with_it_alone() -> None:
    stream = Stream(AROUND)
    with pytest.raises(Garbage):
        for _ in range(EVENT_BYTES + 2):
            stream.feed(b"x")


words = st.text(st.characters(codec="utf-8"), max_size=12)
named = st.text("abc_", min_size=1, max_size=5)
plain = st.recursive(st.none() | st.integers(-9, 9) | words, lambda inner: st.lists(inner, max_size=2), max_leaves=3)
spoken = st.one_of(
    st.builds(lambda said: {"type": "text", "text": said}, words),
    st.builds(
        lambda key, name, given: {"type": "tool_use", "id": key, "name": name, "input": given},
        named,
        named,
        st.dictionaries(words, plain, max_size=3),
    ),
    st.builds(lambda said: {"type": "thinking", "thinking": said, "signature": "s"}, words),
)


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[dict[str, Any], list[bytes]]:
    """A message, and its stream in pieces of any size, with what else may stand between events."""
    reason = draw(st.sampled_from(["end_turn", "tool_use", "max_tokens", "stop_sequence"]))
    whole = message(draw(st.lists(spoken, max_size=4)), reason)
    step = draw(st.integers(1, 9))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    parts = [draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))]
    for event in events(whole, lambda text: [text[at : at + step] for at in range(0, len(text), step)]):
        parts.append(draw(st.sampled_from([b"", b": hello" + end, end, b"id: 5" + end, b"retry: 1" + end * 2])))
        parts.append(wire(event, end))
    raw = b"".join(parts)
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    return whole, [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


@settings(deadline=None)
@given(cut_streams())
def test_a_stream_gathers_to_the_whole_answer(made: tuple[dict[str, Any], list[bytes]]) -> None:
    whole, pieces = made
    stream = Stream(COUNTED)
    got = gathered(b"".join(map(stream.feed, pieces)))
    answer = completion(orjson.dumps(whole), COUNTED)
    expected = chat.ChatCompletion.model_validate_json(answer.content)
    message, wanted = got.choices[0].message, expected.choices[0].message
    calls = [(c.id, c.function.name, orjson.loads(c.function.arguments)) for c in message.tool_calls or []]
    assert calls == [(c.id, c.function.name, orjson.loads(c.function.arguments)) for c in wanted.tool_calls or []]
    assert (message.content or "") == (wanted.content or "")
    assert got.choices[0].finish_reason == expected.choices[0].finish_reason
    assert (got.usage, stream.usage, stream.finished) == (expected.usage, answer.usage, True)


def fed(pieces: list[bytes]) -> None:
    stream = Stream(COUNTED)
    told = b""
    try:
        for piece in pieces:
            told += stream.feed(piece)
    except Garbage:
        assert not stream.finished
    assert stream.finished == told.endswith(b"data: [DONE]\n\n")
    if stream.finished:
        assert chunks(told)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"data: ", b"\n\n", b"\r\n", b"{}", start()]), max_size=12))
def test_arbitrary_bytes_are_passed_over_or_garbage(pieces: list[bytes]) -> None:
    fed(pieces)


delta = st.fixed_dictionaries(
    {"type": st.sampled_from(["text_delta", "input_json_delta", "thinking_delta", "signature_delta"]) | anything},
    optional=dict.fromkeys(("text", "partial_json", "thinking", "signature", "stop_reason", "stop_details"), anything),
)
kinds = ["content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop", "error"]
event = st.fixed_dictionaries(
    {"type": st.sampled_from(kinds) | anything},
    optional={
        "index": st.integers(0, 2) | anything,
        "content_block": block | anything,
        "delta": delta | anything,
        "usage": anything,
        "error": anything,
        "message": anything,
    },
)


@settings(deadline=None)
@given(st.lists(st.builds(lambda one: b"data: " + orjson.dumps(one) + b"\n\n", event), max_size=8))
def test_events_of_any_form_are_passed_over_or_garbage(made: list[bytes]) -> None:
    fed([start(), *made])


@settings(deadline=None)
@given(cut_streams(), st.data())
def test_a_stream_with_one_byte_changed_or_lost_never_breaks_the_reader(made: Any, data: st.DataObject) -> None:
    raw = b"".join(made[1])
    at = data.draw(st.integers(0, len(raw) - 1))
    instead = data.draw(st.binary(max_size=1))
    fed([raw[:at], instead, raw[at + 1 :]])
