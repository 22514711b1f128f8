"""Which of vLLM's parsers fit a model: its architecture tells, or the marks in its chat template."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHATML_TOOLS = Path(__file__).with_name("chatml_tools.jinja")


@dataclass(frozen=True)
class Family:
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    tools_template: Path | None = None
    """Taken for requests with tools where the model's own template knows none."""


@dataclass(frozen=True)
class Rule:
    tool_parser: str
    model_types: tuple[str, ...] = ()
    mark: str | None = None
    """In the chat template."""


RULES = (
    Rule("openai", ("gpt_oss",)),
    Rule("qwen3_coder", ("qwen3_5", "qwen3_next"), "<function="),
    Rule("hermes", ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3")),
    Rule("llama4_pythonic", ("llama4",)),
    Rule("llama3_json", ("llama", "mllama"), "<|python_tag|>"),
    Rule("llama3_json", ("llama",), "<|start_header_id|>"),
    Rule("mistral", ("mistral", "mixtral", "mistral3"), "[TOOL_CALLS]"),
    Rule("deepseek_v3", ("deepseek_v3",)),
    Rule("granite", ("granite", "granitemoe")),
    Rule("phi4_mini_json", ("phi3",), "<|tool|>"),
    Rule("internlm", ("internlm2",)),
    Rule("hermes", (), "<|im_start|>"),
)
REASONING = (("qwen3", ("qwen3", "qwen3_moe")), ("openai_gptoss", ("gpt_oss",)), ("deepseek_r1", ("deepseek_v3",)))
THINKS = "<think>"


def family(folder: Path) -> Family:
    kind = str(_json(folder / "config.json").get("model_type", ""))
    template = chat_template(folder)
    parser = next((rule.tool_parser for rule in RULES if _fits(rule, kind, template)), None)
    thinks = kind == "gpt_oss" or THINKS in template
    reasoning = next((name for name, kinds in REASONING if kind in kinds), None) if thinks else None
    own = "tools" in template
    extended = CHATML_TOOLS if parser == "hermes" and "<|im_start|>" in template and not own else None
    return Family(parser if own or extended else None, reasoning, extended)


def with_tools(template: str, tools: Path) -> str:
    """The model's own prompt to the letter, except where a request brings tools."""
    return f"{{%- if tools %}}{tools.read_text()}{{%- else %}}{template}{{%- endif %}}"


def chat_template(folder: Path) -> str:
    """Empty where the model has none, as base models do."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    told = _json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(told, list):
        told = next((one.get("template") for one in told if one.get("name") == "default"), "")
    return told or ""


def _fits(rule: Rule, kind: str, template: str) -> bool:
    return (not rule.model_types or kind in rule.model_types) and (rule.mark is None or rule.mark in template)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
