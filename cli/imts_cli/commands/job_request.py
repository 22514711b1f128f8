"""What `imts jobs submit` sends: a file, over it key=value, over it the options."""

import json
import math
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, get_args

from imts_cli.commands.exits import UsageFault


def check_kind(kind: str) -> None:
    from imts_shared.contracts.jobs import JobKind

    if kind not in list(JobKind):
        raise UsageFault(f"There is no job kind {kind!r}; known are {', '.join(JobKind)}.")


def labels_from(given: list[str]) -> dict[str, str]:
    labels = {}
    for item in given:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UsageFault(f"--label {item!r} is not key=value, such as team=blue.")
        labels[key] = value
    return labels


def build(kind: str, file: str | None, assignments: list[str], options: dict[str, Any]) -> dict[str, Any]:
    check_kind(kind)
    fields = read_file(file) if file else {}
    if file and str(fields.get("deepspeed", "")).endswith(".json"):
        fields["deepspeed"] = _deepspeed(fields["deepspeed"], file)
    if fields.pop("kind", kind) != kind:
        raise UsageFault(f"{file} describes a job of another kind than {kind!r}.")
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name:
            raise UsageFault(f"{assignment!r} is not key=value, such as dataset=faq.")
        _assign(fields, name, _value(kind, name, value))
    labels = options.pop("labels")
    if labels:
        fields["labels"] = {**(fields.get("labels") or {}), **labels}
    fields.update({name: value for name, value in options.items() if value is not None})
    check_numbers(fields)
    return fields


def check_numbers(value: Any, place: str = "") -> None:
    """JSON has no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageFault(f"{place}: {value} is no number that can be sent.")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        check_numbers(part, f"{place}.{name}" if place else str(name))


def read_file(file: str) -> dict[str, Any]:
    import yaml

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageFault(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageFault(f"{file} is not UTF-8 text.") from None
    try:
        content = yaml.load(text, _loader())  # noqa: S506 - it is the safe one
    except yaml.YAMLError as error:
        raise UsageFault(f"{file} is neither YAML nor JSON: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise UsageFault(f"{file} must hold fields by name, such as `dataset: faq`.")
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


@cache
def _loader() -> Any:
    """Reads 1e-4 as the number that people mean by it; YAML 1.1 wants 1.0e-4."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[+-]?\d+(\.\d*)?[eE][+-]?\d+$"), list("+-0123456789")
    )
    return Loader


def _deepspeed(named: str, file: str) -> dict[str, Any]:
    """LLaMA-Factory's configurations name a file by its path from where it is run; the platform has no such file, so
    what it holds is sent."""
    for place in (Path(named), Path(file).parent / named):
        if place.is_file():
            return read_file(str(place))
    raise UsageFault(f"{file}: there is no DeepSpeed configuration {named} here; a ZeRO stage is `deepspeed: 3`.")


def _assign(fields: dict[str, Any], name: str, value: Any) -> None:
    """`a.b=1` sets b within a."""
    *outer, last = name.split(".")
    place = fields
    for part in outer:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise UsageFault(f"{name!r}: {part!r} already has a value of its own.")
    place[last] = value


def _value(kind: str, name: str, text: str) -> Any:
    """Numbers, true, null, lists and objects as JSON says; everything else, and what the field wants so, is text."""
    if _wants_text(kind, name):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _wants_text(kind: str, name: str) -> bool:
    from imts_shared.contracts.jobs import REQUESTS, JobKind

    outer, _, inner = name.partition(".")
    if outer == "labels" and inner:
        return True
    for field_name, field in REQUESTS[JobKind(kind)].model_fields.items():
        if name in (field_name, field.alias):
            return _mentions_text(field.annotation)
    return False


def _mentions_text(annotation: Any) -> bool:
    return annotation is str or any(_mentions_text(part) for part in get_args(annotation) if not isinstance(part, str))
