"""What callers send in OpenAI's words, as Anthropic takes it."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.gateway.anthropic import request, turns
from inference_service.gateway.anthropic.request import MAX_TOKENS, encoded, headers, to_anthropic
from inference_service.gateway.anthropic.sampling import relieved
from inference_service.gateway.anthropic.tools import JSON_ALONE
from inference_service.gateway.errors import Refusal
from tests.gateway.anthropic_server import check

HELLO = {"role": "user", "content": "Hello"}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


def asked(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Translated, and found good by a server as strict as theirs."""
    body = {"model": "claude", "messages": list(messages) or [HELLO], **more}
    kept = orjson.dumps(body)
    translated = to_anthropic(body, "claude-test")
    assert orjson.dumps(body) == kept, "the caller's body is left as it was"
    check(orjson.loads(encoded(translated)))
    return translated


def refused(*messages: dict[str, Any], **more: Any) -> str | None:
    with pytest.raises(Refusal) as refusal:
        asked(*messages, **more)
    assert refusal.value.status == 400
    assert str(refusal.value.param) in refusal.value.message
    return refusal.value.param


def call(identity: str = "call_1", arguments: str = '{"place": "Ulm"}', name: str = "weather") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


def result(identity: str, content: Any = "rain") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": content}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_the_smallest_request() -> None:
    hello = {"role": "user", "content": [text("Hello")]}
    assert asked(HELLO) == {"model": "claude-test", "max_tokens": MAX_TOKENS, "messages": [hello]}
    assert headers("sk") == {
        "x-api-key": "sk", "anthropic-version": "2023-06-01", "content-type": "application/json",
    }  # fmt: skip


def test_instructions_become_the_system_prompt_wherever_they_stand() -> None:
    told = asked(
        {"role": "system", "content": "Be brief."},
        HELLO,
        {"role": "developer", "content": [text("In German."), text(" ")]},
    )
    assert told["system"] == "Be brief.\n\nIn German."
    assert [turn["role"] for turn in told["messages"]] == ["user"]


def test_neighbours_of_one_role_are_one_turn_and_the_user_comes_first() -> None:
    told = asked(
        {"role": "assistant", "content": "How can I help?"},
        HELLO,
        {"role": "user", "name": "Ann", "content": [text("Anyone?"), text("")]},
        {"role": "assistant", "content": [text("Yes."), {"type": "refusal", "refusal": "But no."}]},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "And so \n"},
    )
    assert told["messages"] == [
        {"role": "user", "content": [text(turns.OPENING)]},
        {"role": "assistant", "content": [text("How can I help?")]},
        {"role": "user", "content": [text("Hello"), text("Anyone?")]},
        {"role": "assistant", "content": [text("Yes."), text("But no."), text("And so")]},
    ]


def test_images_and_files() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "HTTPS://example.com/a.png"}},
        {"type": "image_url", "image_url": "data:image/jpg;base64,aaaa"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]
    content = asked({"role": "user", "content": parts})["messages"][0]["content"]
    assert [block["source"] for block in content] == [
        {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        {"type": "url", "url": "HTTPS://example.com/a.png"},
        {"type": "base64", "media_type": "image/jpeg", "data": "aaaa"},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
    ]
    assert content[3]["title"] == "a.pdf"


def test_marks_for_the_cache_stay_where_they_are() -> None:
    mark = {"type": "ephemeral"}
    told = asked(
        {"role": "system", "content": [{**text("Long."), "cache_control": mark}, text("Short.")]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}, "cache_control": mark}]},
        calls(call()),
        {**result("call_1"), "cache_control": mark},
        tools=[{**WEATHER, "cache_control": mark}],
        cache_control=mark,
    )
    image, _, answer = (turn["content"][0] for turn in told["messages"])
    assert told["system"] == [{**text("Long."), "cache_control": mark}, text("Short.")]
    assert [image["cache_control"], answer["cache_control"], told["tools"][0]["cache_control"]] == [mark] * 3
    assert told["cache_control"] == mark


def test_calls_and_their_results() -> None:
    told = asked(
        HELLO,
        calls(call("call_1"), call("call_2", ""), content="Let me see."),
        result("call_2", ""),
        result("call_1", [text("rain"), {"type": "image_url", "image_url": {"url": PIXEL}}]),
        {"role": "user", "content": "And?"},
        tools=[WEATHER],
    )
    assert told["messages"][1]["content"] == [
        text("Let me see."),
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"place": "Ulm"}},
        {"type": "tool_use", "id": "call_2", "name": "weather", "input": {}},
    ]
    kinds = [(block["type"], block.get("tool_use_id")) for block in told["messages"][2]["content"]]
    assert kinds == [("tool_result", "call_2"), ("tool_result", "call_1"), ("text", None)]
    assert told["messages"][2]["content"][1]["content"][0] == text("rain")
    assert told["tools"] == [
        {
            "name": "weather",
            "description": "The weather of a place.",
            "input_schema": WEATHER["function"]["parameters"],  # type: ignore[index]
        }
    ]


def test_ids_of_other_models_are_made_to_fit_and_told_apart() -> None:
    """A conversation may have begun with a model that numbers its calls anew in each turn."""
    told = asked(
        HELLO,
        calls(call("functions.weather:0"), call("0")),
        result("0"),
        result("functions.weather:0"),
        calls(call("functions.weather:0"), call("0")),
        result("functions.weather:0"),
        result("0"),
        tools=[WEATHER],
    )
    made = [block["id"] for turn in told["messages"] for block in turn["content"] if block["type"] == "tool_use"]
    assert made == ["functions_weather_0", "0", "functions_weather_0_2", "0_2"]
    long = "a:" * 200
    asked(HELLO, calls(call(long)), result(long), calls(call(long)), result(long))


def test_arguments_that_are_no_object_are_kept() -> None:
    told = asked(HELLO, calls(call(arguments='{"place": "Ul'), call("b", "[1]")), result("call_1"), result("b"))
    inputs = [block["input"] for block in told["messages"][1]["content"]]
    assert inputs == [{turns.UNREADABLE: '{"place": "Ul'}, {turns.UNREADABLE: "[1]"}]


def test_calls_of_functions_that_are_no_longer_offered() -> None:
    told = asked(HELLO, calls(call()), result("call_1"))
    assert told["tools"] == [{"name": "weather", "input_schema": {"type": "object"}}]
    assert told["tool_choice"] == {"type": "none"}


def test_functions_as_they_were_before_tools() -> None:
    told = asked(
        HELLO,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "rain"},
        functions=[WEATHER["function"]],
        function_call={"name": "weather"},
    )
    assert told["messages"][1]["content"][0]["id"] == told["messages"][2]["content"][0]["tool_use_id"]
    assert told["tool_choice"] == {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}


def test_thoughts_go_back_before_what_was_said() -> None:
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    told = asked(
        HELLO, {**calls(call(), content="So."), "thinking_blocks": thoughts}, result("call_1"), tools=[WEATHER]
    )
    assert [block["type"] for block in told["messages"][1]["content"]] == [
        "thinking", "redacted_thinking", "text", "tool_use",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "parallel", "becomes"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "weather"}}, True, {"type": "tool", "name": "weather"}),
    ],
)
def test_the_choice_among_tools(choice: Any, parallel: bool | None, becomes: Any) -> None:
    told = asked(HELLO, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=parallel)
    assert told.get("tool_choice") == becomes


def test_a_choice_without_tools_is_nothing() -> None:
    assert "tool_choice" not in asked(HELLO, tools=[], tool_choice="auto", parallel_tool_calls=False)


def test_limits_stops_and_who_asks() -> None:
    assert asked(max_tokens=5)["max_tokens"] == 5
    assert asked(max_tokens=5, max_completion_tokens=6)["max_tokens"] == 6
    assert asked(stop="END")["stop_sequences"] == ["END"]
    assert asked(stop=["a", "b"], stream=True)["stop_sequences"] == ["a", "b"]
    assert asked(user="team-7")["metadata"] == {"user_id": "team-7"}
    assert asked(user="team-7", safety_identifier="s-1")["metadata"] == {"user_id": "s-1"}
    assert "metadata" not in asked(user="")
    for telling in ("ann@example.com", "+49 731 1234567", "0731 1234567", "a" * 300, "Jörg"):
        hashed = asked(user=telling)["metadata"]["user_id"]
        assert len(hashed) == 64
        assert telling not in hashed


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"temperature": 0.2}, {"temperature": 0.2}),
        ({"temperature": 0, "top_k": 40}, {"temperature": 0, "top_k": 40}),
        ({"temperature": 1, "top_p": 1}, {}),
        ({"temperature": 1.7}, {}),
        ({"top_p": 0.9, "top_k": -1}, {"top_p": 0.9}),
        ({"temperature": 0.2, "thinking": {"type": "adaptive"}}, {}),
        ({"temperature": 0.2, "thinking": {"type": "disabled"}}, {"temperature": 0.2}),
    ],
)
def test_sampling(given: dict[str, Any], becomes: dict[str, Any]) -> None:
    told = asked(**given)
    assert {name: told[name] for name in ("temperature", "top_p", "top_k") if name in told} == becomes


def test_sampling_that_a_model_refuses_is_taken_off() -> None:
    told = asked(temperature=0.2, top_p=0.9)
    once = relieved(told, "`temperature` and `top_p` cannot both be specified for this model.")
    assert once == {name: value for name, value in told.items() if name != "top_p"}
    twice = relieved(once, "`temperature` is deprecated for this model.")
    assert twice == asked()
    assert relieved(twice, "`temperature` is deprecated for this model.") is None
    assert relieved(told, "max_tokens: 9000 > 4096") is None


@pytest.mark.parametrize(
    ("given", "thinking", "effort"),
    [
        ({"reasoning_effort": "high"}, {"type": "adaptive"}, "high"),
        ({"reasoning_effort": "minimal"}, {"type": "adaptive"}, "low"),
        ({"reasoning_effort": "none"}, {"type": "disabled"}, None),
        ({"reasoning_effort": "low", "tools": [WEATHER], "tool_choice": "required"}, None, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"type": "enabled", "budget_tokens": 2048}, None),
    ],
)
def test_thinking(given: dict[str, Any], thinking: Any, effort: str | None) -> None:
    told = asked(**given)
    assert told.get("thinking") == thinking
    assert told.get("output_config", {}).get("effort") == effort
    assert told["max_tokens"] == MAX_TOKENS + (thinking or {}).get("budget_tokens", 0)


def test_an_answer_by_a_schema() -> None:
    schema = {
        "type": "object",
        "description": "A person.",
        "properties": {
            "age": {"type": "integer", "minimum": 0, "description": "In years."},
            "description": {"oneOf": [{"type": "string", "format": "email"}, {"type": "string", "format": "card"}]},
            "pets": {"type": "array", "items": {"$ref": "#/$defs/pet"}, "minItems": 2, "maxItems": 3},
        },
        "required": ["age"],
        "$defs": {"pet": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}},
    }
    told = asked(response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema}})
    assert told["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "description": "A person.",
            "properties": {
                "age": {"type": "integer", "description": 'In years.\n{"minimum":0}'},
                "description": {
                    "anyOf": [
                        {"type": "string", "format": "email"},
                        {"type": "string", "description": '{"format":"card"}'},
                    ]
                },
                "pets": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/pet"},
                    "description": '{"minItems":2,"maxItems":3}',
                },
            },
            "required": ["age"],
            "$defs": {
                "pet": {
                    "type": "object",
                    "properties": {"name": {"type": ["string", "null"]}},
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        },
    }


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    told = asked({"role": "system", "content": "Be brief."}, HELLO, response_format={"type": "json_object"})
    assert told["system"] == f"Be brief.\n\n{JSON_ALONE}"
    assert "system" not in asked(response_format={"type": "text"})


def test_a_strict_tool_is_strict_there() -> None:
    function = {**WEATHER["function"], "strict": True}  # type: ignore[dict-item]
    told = asked(tools=[{"type": "function", "function": function}, strict_without_parameters()])
    assert told["tools"][0]["strict"] is True
    assert told["tools"][0]["input_schema"]["additionalProperties"] is False
    assert told["tools"][1]["input_schema"] == {"type": "object", "properties": {}, "additionalProperties": False}


def strict_without_parameters() -> dict[str, Any]:
    return {"type": "function", "function": {"name": "now", "strict": True}}


def test_what_asks_for_nothing_is_dropped() -> None:
    harmless: dict[str, Any] = {name: values[0] for name, (values, _) in request.REFUSED.items() if values}
    dropped = dict.fromkeys(request.DROPPED, "something")
    assert asked(**harmless, **dropped, audio=None, min_p=None, stream_options={"include_usage": True}) == asked()


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"store": True}, "store"),
        ({"min_p": 0.1}, "min_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop": ["\n"]}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": 5}, "stop"),
        ({"user": 5}, "user"),
        ({"thinking": True}, "thinking"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_effort": ["low"]}, "reasoning_effort"),
        ({"response_format": "json"}, "response_format.type"),
        ({"response_format": {"type": ["x"]}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 5}}]}, "tools[0].function.parameters"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tools": [WEATHER], "tool_choice": {"type": ["allowed_tools"]}}, "tool_choice"),
        ({"functions": [5]}, "functions[0]"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    assert refused(**more) == param


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "system", "content": "Be brief."}], "messages"),
        ([{"role": "user", "content": " "}], "messages"),
        ([5], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": ["user"]}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": ["text"], "text": "x"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{**text("x"), "cache_control": 1}]}], "messages[0].content[0].cache_control"),
        ([{"role": "system", "content": [{"type": "image_url"}]}], "messages[0].content[0].type"),
        ([HELLO, result("call_1")], "messages[1].tool_call_id"),
        ([HELLO, calls(call()), HELLO], "messages[2]"),
        ([HELLO, calls(call())], "messages"),
        ([HELLO, calls(call(), call())], "messages[1].tool_calls[1].id"),
        ([HELLO, calls(call()), result("call_1"), result("call_1")], "messages[3].tool_call_id"),
        ([HELLO, calls({"type": "custom"})], "messages[1].tool_calls[0].type"),
        ([HELLO, calls({"id": "a", "function": 5})], "messages[1].tool_calls[0].function"),
        ([HELLO, {**HELLO, "role": "assistant", "thinking_blocks": [5]}], "messages[1].thinking_blocks[0]"),
        (
            [HELLO, {"role": "assistant", "thinking_blocks": [{"type": "thinking", "thinking": 5}]}],
            "messages[1].thinking_blocks[0]",
        ),
    ],
)
def test_messages_that_make_no_conversation_are_refused(messages: list[Any], param: str) -> None:
    assert refused(messages=messages) == param


@pytest.mark.parametrize("url", ["http://example.com/a.png", "data:image/png,abc", "data:image/tiff;base64,aa", "", 5])
def test_images_that_it_would_not_take(url: Any) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert refused({"role": "user", "content": [part]}) == "messages[0].content[0].image_url.url"


def test_what_a_refusal_repeats_of_the_caller_is_short() -> None:
    long = "x" * 1_000_000
    for body in ({long: 1}, {"messages": [HELLO, calls(*(call(f"{long}{number}") for number in range(9)))]}):
        with pytest.raises(Refusal) as refusal:
            to_anthropic({"messages": [HELLO], **body}, "m")
        assert len(refusal.value.content) < 1_500


def by_schema(schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    return {"model": "m", "messages": [HELLO], "response_format": form}


@pytest.mark.parametrize("free", [{"additionalProperties": {"type": "string"}}, {"additionalProperties": True}, {}])
def test_a_schema_with_a_map_of_free_keys_would_come_out_empty(free: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"map": {"type": "object", **free}}}
    with pytest.raises(Refusal) as refusal:
        to_anthropic(by_schema(schema), "m")
    assert refusal.value.param == "response_format.json_schema.schema.properties.map.additionalProperties"


def test_what_has_no_bottom_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"items": deep}
    shallow: dict[str, Any] = {}
    for _ in range(60):
        shallow = {"items": shallow}
    tool = {"type": "function", "function": {"name": "a", "parameters": {"type": "object", "x": deep}}}
    for body in (by_schema(shallow), by_schema(deep), by_schema({"x": deep}), {"messages": [HELLO], "tools": [tool]}):
        with pytest.raises(Refusal, match="nested") as refusal:
            encoded(to_anthropic(body, "m"))
        assert refusal.value.status == 400


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**63) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
known = sorted(request.TRANSLATED | set(request.REFUSED))
part = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "file", "refusal"]) | anything},
    optional={"text": st.text() | anything, "image_url": anything, "file": anything, "cache_control": anything},
)
made = st.fixed_dictionaries({}, optional={"id": st.sampled_from("ab") | anything, "function": anything})
spoken = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "function"]) | anything},
    optional={
        "content": st.text() | st.lists(part | anything, max_size=3) | anything,
        "tool_calls": st.lists(made | anything, max_size=2) | anything,
        "function_call": anything,
        "tool_call_id": st.sampled_from("ab") | anything,
        "thinking_blocks": anything,
    },
)
keywords = ["type", "properties", "items", "anyOf", "oneOf", "$defs", "format", "minItems", "additionalProperties"]
schema = st.recursive(
    anything,
    lambda inner: st.dictionaries(
        st.sampled_from([*keywords, "description"]), inner | st.just("object") | st.lists(inner), max_size=4
    ),
    max_leaves=6,
)
function = st.fixed_dictionaries(
    {"name": st.just("f") | anything},
    optional={"description": anything, "parameters": schema, "strict": st.booleans() | anything},
)
tool = st.fixed_dictionaries({"type": st.just("function") | anything, "function": function | anything})
form = st.fixed_dictionaries(
    {"type": st.just("json_schema") | anything, "json_schema": st.fixed_dictionaries({"schema": schema}) | anything}
)
offers = st.fixed_dictionaries(
    {},
    optional={
        "tools": st.lists(tool, max_size=2),
        "functions": st.lists(function, max_size=2),
        "response_format": form,
        "tool_choice": st.fixed_dictionaries({"type": anything}, optional={"function": anything}) | anything,
    },
)


@settings(deadline=None)
@given(offers)
def test_whatever_is_offered_is_translated_or_refused_by_name(offered: dict[str, Any]) -> None:
    try:
        encoded(to_anthropic({"messages": [HELLO], **offered}, "m"))
    except Refusal as refusal:
        assert refusal.status == 400
        assert refusal.param


bodies = st.dictionaries(st.sampled_from(known), anything, max_size=4)


@settings(deadline=None)
@given(bodies, st.lists(spoken | anything, max_size=5) | anything)
def test_whatever_is_sent_is_translated_or_refused_by_name(body: dict[str, Any], messages: Any) -> None:
    try:
        encoded(to_anthropic({**body, "messages": messages}, "m"))
    except Refusal as refusal:
        assert refusal.status == 400
        assert refusal.param


words = st.text(st.characters(codec="utf-8"), max_size=8)
turn = st.one_of(
    st.builds(lambda role, said: {"role": role, "content": said}, st.sampled_from(["user", "assistant"]), words),
    st.builds(lambda said: {"role": "system", "content": said}, words),
    st.builds(lambda ids, said: [calls(*map(call, ids), content=said), *map(result, ids)],
              st.lists(st.text("ab.:_", min_size=1, max_size=3), min_size=1, max_size=3, unique=True), words),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(turn, max_size=8), st.booleans())
def test_every_conversation_of_openai_is_one_of_anthropic(made: list[Any], offered: bool) -> None:
    flat = [message for one in made for message in (one if isinstance(one, list) else [one])]
    asked(HELLO, *flat, **({"tools": [WEATHER]} if offered else {}))
