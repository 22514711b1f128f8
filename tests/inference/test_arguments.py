"""engineArgs against what vLLM's parser takes, and into the words of its command."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference_service.engines import llamacpp, vllm
from inference_service.engines.arguments import Options
from inference_service.engines.starting import Model, Place
from inference_service.trouble import CannotServe

KNOWN: dict[str, Any] = {
    "max_model_len": {"flag": "--max-model-len", "names": ["max_model_len"], "type": "human_readable_int_or_auto"},
    "max_num_seqs": {"flag": "--max-num-seqs", "names": ["max_num_seqs"], "type": "human_readable_int"},
    "seed": {"flag": "--seed", "names": ["seed"], "type": "int"},
    "gpu_memory_utilization": {
        "flag": "--gpu-memory-utilization",
        "names": ["gpu_memory_utilization", "device_memory_utilization"],
        "type": "float",
    },
    "dtype": {"flag": "--dtype", "names": ["dtype"], "type": "str", "choices": ["auto", "bfloat16"]},
    "enforce_eager": {"flag": "--enforce-eager", "names": ["enforce_eager", "no_enforce_eager"], "type": "switch"},
    "compilation_config": {
        "flag": "--compilation-config",
        "names": ["compilation_config"],
        "type": "parse_dataclass",
    },
    "served": {"flag": "--served", "names": ["served"], "type": "str", "several": True},
    "chat_template": {"flag": "--chat-template", "names": ["chat_template"], "type": "str"},
    "structured_outputs_config": {
        "flag": "--structured-outputs-config",
        "names": ["structured_outputs_config"],
        "type": "parse_dataclass",
    },
    "speculative_config": {"flag": "--speculative-config", "names": ["speculative_config"], "type": "loads"},
    "hf_overrides": {"flag": "--hf-overrides", "names": ["hf_overrides"], "type": "union_dict_and_str"},
    "kernel_config": {"flag": "--kernel-config", "names": ["kernel_config"], "type": "parse_dataclass"},
    "override_generation_config": {
        "flag": "--override-generation-config",
        "names": ["override_generation_config"],
        "type": "_parse_type",
    },
    "port": {"flag": "--port", "names": ["port"], "type": "int"},
    "middleware": {"flag": "--middleware", "names": ["middleware"], "type": "str"},
}
OPTIONS = Options(KNOWN, "0.0")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_model_len": 4096}, ["--max-model-len=4096"]),
        ({"max_model_len": "4k"}, ["--max-model-len=4k"]),
        ({"max_model_len": "auto"}, ["--max-model-len=auto"]),
        ({"seed": "7"}, ["--seed=7"]),
        ({"seed": -1}, ["--seed=-1"]),
        ({"seed": None}, []),
        ({"device_memory_utilization": 0.5}, ["--gpu-memory-utilization=0.5"]),
        ({"enforce_eager": True}, ["--enforce-eager"]),
        ({"enforce_eager": "false"}, ["--no-enforce-eager"]),
        ({"compilation_config": {"mode": 3}}, ['--compilation-config={"mode": 3}']),
        ({"compilation_config.mode": 3}, ["--compilation-config.mode=3"]),
        ({"served": ["a", "b"]}, ["--served", "a", "b"]),
        ({"served": "a"}, ["--served=a"]),
        ({"dtype": "bfloat16", "seed": 1}, ["--dtype=bfloat16", "--seed=1"]),
        ({"chat_template": "{{ messages }}"}, ["--chat-template={{ messages }}"]),
        (
            {"structured_outputs_config": '{"backend": "xgrammar"}'},
            ['--structured-outputs-config={"backend": "xgrammar"}'],
        ),
        ({"structured_outputs_config.backend": "xgrammar"}, ["--structured-outputs-config.backend=xgrammar"]),
        ({"hf_overrides.rope_scaling.factor": 2}, ["--hf-overrides.rope_scaling.factor=2"]),
        ({"override_generation_config": {"top_k": 3}}, ['--override-generation-config={"top_k": 3}']),
    ],
)
def test_what_is_taken(given: dict[str, Any], words: list[str]) -> None:
    assert OPTIONS.checked(given) == []
    assert OPTIONS.command(given) == words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_model_lne": 1}, "Did you mean max_model_len?"),
        ({"zzz": 1}, "no option zzz"),
        ({"max_model_len": "many"}, "whole number"),
        ({"max_model_len": True}, "whole number"),
        ({"max_num_seqs": "auto"}, "whole number"),
        ({"seed": 1.5}, "whole number, not 1.5"),
        ({"seed": [1, 2]}, "one value"),
        ({"gpu_memory_utilization": "half"}, "must be a number"),
        ({"dtype": "int3"}, "one of auto, bfloat16"),
        ({"enforce_eager": "perhaps"}, "true or false"),
        ({"compilation_config": "{"}, "must be an object"),
        ({"seed.low": 1}, "has no parts"),
        ({"chat_template": "/etc/passwd"}, "a file of the worker is not read"),
        ({"port": 1}, "platform's own"),
        ({"middleware": "os.system"}, "run code or read files"),
        (
            {"structured_outputs_config": {"reasoning_parser_plugin": "/tmp/x.py"}},
            "not taken with reasoning_parser_plugin",
        ),
        (
            {"structured_outputs_config": '{"reasoning_parser_plugin": "/x.py"}'},
            "not taken with reasoning_parser_plugin",
        ),
        ({"structured_outputs_config.reasoning_parser_plugin": "/x.py"}, "not taken with reasoning_parser_plugin"),
        ({"structured_outputs_config.reasoning-parser-plugin": "/x.py"}, "not taken with reasoning-parser-plugin"),
        ({"compilation_config": {"mode": 3, "backend": "os.system"}}, "not taken with backend"),
        ({"compilation_config": "3"}, "must be an object"),
        ({"speculative_config": {"method": "eagle", "model": "/etc"}}, "not taken with model"),
        ({"hf_overrides": {"auto_map": {"AutoConfig": "x.Y"}}}, "not taken with auto_map"),
        ({"hf_overrides": "os.system"}, "must be an object"),
        ({"kernel_config": {}}, "can name code"),
        ({"served": ["a", "--middleware", "os.system"]}, "begin with a dash"),
    ],
)
def test_what_is_refused(given: dict[str, Any], words: str) -> None:
    (note,) = OPTIONS.checked(given)
    assert note.field == f"engineArgs.{next(iter(given))}"
    assert words in f"{note.message} {note.hint}"


def test_a_vllm_for_gpus_is_not_started_without_one(tmp_path: Path) -> None:
    options = Options(KNOWN, "0.32.0", for_cpu=False)
    place = Place(name="one", port=9000, folder=tmp_path)
    with pytest.raises(CannotServe, match="on GPUs alone") as trouble:
        vllm.start(Path("python"), options, Model(tmp_path), place, {}, None)
    assert trouble.value.final
    assert vllm.start(Path("python"), options, Model(tmp_path), replace(place, gpus=["0"]), {}, None).command


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ctx_size": 4096, "no_mmap": True, "temp": -1, "chat_template_kwargs": {"x": 1}}, None),
        ({"ctx_sise": 1}, "Did you mean ctx_size?"),
        ({"model_draft": "/x"}, "would reach files"),
        ({"lookup_cache_dynamic": "/x"}, "would reach files"),
        ({"tools": "all"}, "would reach files"),
        ({"mlock": "--tools"}, "begin with a dash"),
    ],
)
def test_what_llamacpp_is_given(given: dict[str, Any], words: str | None) -> None:
    notes = llamacpp.checked(given)
    assert [words in f"{note.message} {note.hint}" for note in notes] == ([True] if words else [])
