"""Damaged and foreign files are named before an engine sees them; families; room."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imts_shared.contracts.deployments import Engine
from inference_service.engines import families
from inference_service.models import weights
from inference_service.room import GIB, Room, estimate
from inference_service.trouble import CannotServe
from tests.inference import files

BASE = {"model.layers.0.self_attn.q_proj.weight": (8, 4), "model.layers.1.self_attn.q_proj.weight": (8, 4)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return files.model(tmp_path / "base", BASE)


def cut(base: Path, length: int) -> None:
    with (base / "model.safetensors").open("r+b") as file:
        file.truncate(length)


def lengthen(base: Path) -> None:
    with (base / "model.safetensors").open("ab") as file:
        file.write(b"more")


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda base: cut(base, 4), "is cut short or no safetensors file: 4 bytes"),
    (lambda base: cut(base, 60), "is cut short or no safetensors file"),
    (lambda base: cut(base, 300), "300 bytes are there"),
    (lengthen, "bytes too many"),
    (lambda base: (base / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "not one of safetensors"),
    (lambda base: (base / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{x"), "not JSON"),
    (lambda base: (base / "model.safetensors").unlink(), "holds no *.safetensors"),
    (lambda base: (base / "config.json").unlink(), "holds no config.json"),
    (lambda base: (base / "config.json").write_text("{"), "config.json cannot be read"),
    (lambda base: (base / "config.json").write_text("[]"), "no JSON object"),
    (lambda base: (base / "config.json").write_text("{}"), "no architecture"),
    (
        lambda base: (base / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'),
        "lacks b.safetensors",
    ),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_damaged_models(base: Path, damage: Callable[[Path], object], words: str) -> None:
    weights.check_model(base, "it")
    damage(base)
    with pytest.raises(CannotServe) as refused:
        weights.check_model(base, "it")
    assert refused.value.reason == "bad_model"
    assert words in refused.value.message


def test_adapters_of_this_base_and_of_others(base: Path, tmp_path: Path) -> None:
    weights.check_adapter(files.lora(tmp_path / "good", 2, 4, 8), base, 64)
    for name, folder, words in [
        ("wider", files.lora(tmp_path / "wider", 2, 5, 8), "made for 5 values"),
        ("longer", files.lora(tmp_path / "longer", 2, 4, 9), "made for 9 values"),
        ("deeper", files.lora(tmp_path / "deeper", 2, 4, 8, layers=3), "does not have"),
        ("other", files.lora(tmp_path / "other", 2, 4, 8, module="attn.c_attn"), "another base"),
        ("ranked", files.lora(tmp_path / "ranked", 128, 4, 8), "max_lora_rank 128"),
    ]:
        with pytest.raises(CannotServe) as refused:
            weights.check_adapter(folder, base, 64)
        assert refused.value.reason == "bad_adapter", name
        assert words in refused.value.message, name


def test_a_gguf_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF1234")
    weights.check_gguf(file, "it")
    file.write_bytes(b"GGML")
    with pytest.raises(CannotServe):
        weights.check_gguf(file, "it")


CHATML = "{% for message in messages %}{{ '<|im_start|>' + message['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    ("kind", "template", "parser", "reasoning", "extended"),
    [
        ("llama", CHATML, "hermes", None, True),
        ("qwen3", CHATML, "hermes", None, True),
        ("qwen3", CHATML + "{% if tools %}{% endif %}<think>", "hermes", "qwen3", False),
        ("qwen2", CHATML + "{% if tools %}{% endif %}", "hermes", None, False),
        ("llama", "{{ tools }}<|python_tag|>", "llama3_json", None, False),
        ("mistral", "{{ tools }}[TOOL_CALLS]", "mistral", None, False),
        ("gpt_oss", "{{ tools }}", "openai", "openai_gptoss", False),
        ("llama", "", None, None, False),
        ("gpt2", "{{ messages }}", None, None, False),
    ],
)
def test_families(tmp_path: Path, kind: str, template: str, parser: str, reasoning: str, extended: bool) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    found = families.family(tmp_path)
    assert (found.tool_parser, found.reasoning_parser, found.tools_template is not None) == (
        parser,
        reasoning,
        extended,
    )


def test_a_template_is_only_another_one_for_requests_with_tools() -> None:
    from jinja2 import Environment

    rendered = Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        families.with_tools(CHATML, families.CHATML_TOOLS)
    )
    said = {"messages": [{"role": "user", "content": "Hello"}], "add_generation_prompt": True}
    assert rendered.render(**said) == Environment().from_string(CHATML).render(**said)
    call = {"function": {"name": "f", "arguments": '{"a": 1}'}}
    talk = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "done"},
    ]
    text = rendered.render(messages=talk, tools=[{"function": {"name": "f"}}], add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nBe short.\n")
    assert '<tools>\n{"function": {"name": "f"}}\n</tools>' in text
    assert '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call><|im_end|>' in text
    assert text.endswith("<tool_response>\ndone\n</tool_response><|im_end|>\n<|im_start|>assistant\n")


def test_room_is_lent_once_and_says_why_not() -> None:
    room: Room[str] = Room(10 * GIB)
    assert room.taken("a", 6 * GIB, []) is None
    waits = room.taken("b", 6 * GIB, [])
    assert waits is not None
    assert waits.ever
    beside = room.taken("b", 6 * GIB, ["a"])
    assert beside is not None
    assert not beside.ever
    never = room.taken("b", 11 * GIB, [])
    assert never is not None
    assert not never.ever
    room.give_back("a")
    assert room.taken("b", 6 * GIB, ["a"]) is None


def test_an_engine_is_reckoned_with_its_weights_its_cache_and_itself(base: Path) -> None:
    size = (base / "model.safetensors").stat().st_size
    assert estimate(Engine.vllm, base, 3, on_gpu=False) == size + 5 * GIB
    assert estimate(Engine.vllm, base, 3, on_gpu=True) == 4 * GIB
