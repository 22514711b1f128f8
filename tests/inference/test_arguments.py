"""engineArgs against what vLLM's parser takes, and into the words of its command."""

from typing import Any

import pytest

from inference_service.engines.arguments import Options

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
    ],
)
def test_what_is_refused(given: dict[str, Any], words: str) -> None:
    (note,) = OPTIONS.checked(given)
    assert note.field == f"engineArgs.{next(iter(given))}"
    assert words in f"{note.message} {note.hint}"
