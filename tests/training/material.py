"""Small data sets of every format, and the smallest job of every stage."""

import random
from typing import Any

TINY: dict[str, Any] = {
    "modelName": "builtin:tiny-qwen3",
    "stage": "sft",
    "finetuningType": "lora",
    "batchSize": 2,
    "learningRate": 1e-3,
    "epochs": 1.0,
    "cutoffLength": 128,
    "seed": 42,
    "saveMinutes": 0,
    "loggingSteps": 1,
    "gradientAccumulation": 1,
    "schedule": "linear",
}

_COLOURS = ("red", "green", "blue", "white", "black", "amber")
_THINGS = ("lamp", "door", "chair", "window", "clock", "kettle")


def _pairs(count: int) -> list[tuple[str, str]]:
    draw = random.Random(7)
    return [(draw.choice(_COLOURS), draw.choice(_THINGS)) for _ in range(count)]


def alpaca(count: int = 24) -> list[dict[str, Any]]:
    return [
        {"instruction": f"What colour is the {thing}?", "input": "", "output": f"The {thing} is {colour}."}
        for colour, thing in _pairs(count)
    ]


def preferences(count: int = 24) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"What colour is the {thing}?",
            "chosen": f"The {thing} is {colour}.",
            "rejected": f"I will not tell you about the {thing}.",
        }
        for colour, thing in _pairs(count)
    ]


def feedback(count: int = 24) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What colour is the {thing}?", "completion": f"It is {colour}.", "label": number % 2 == 0}
        for number, (colour, thing) in enumerate(_pairs(count))
    ]


def texts(count: int = 60) -> list[dict[str, Any]]:
    return [
        {"text": f"The {thing} in the hall is {colour} and has been there for years."}
        for colour, thing in _pairs(count)
    ]


TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Turn a light on in a colour.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}, "colour": {"type": "string", "enum": list(_COLOURS)}},
            "required": ["room", "colour"],
        },
    },
}


def calls(count: int = 16) -> list[dict[str, Any]]:
    """OpenAI messages whose answers call a tool."""
    rows = []
    for colour, thing in _pairs(count):
        arguments = f'{{"room": "{thing} room", "colour": "{colour}"}}'
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": f"Make the {thing} room {colour}."},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {"id": "1", "type": "function", "function": {"name": "set_light", "arguments": arguments}}
                        ],
                    },
                ],
                "tools": [TOOL],
            }
        )
    return rows


def long_rows(count: int = 16) -> list[dict[str, Any]]:
    return [{"instruction": "Count.", "input": "", "output": " ".join(map(str, range(3_000)))} for _ in range(count)]
