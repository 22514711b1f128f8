"""LLaMA-Factory's own argument classes: which names they have, what each takes, and whether a whole set fits."""

import dataclasses
import difflib
import functools
import importlib.util
import threading
import typing
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from imts_shared.contracts.llamafactory import HARMLESS, NAMED, OURS_ALONE
from imts_shared.contracts.training import FieldNote

_parsing = threading.Lock()
"""Parsing sets seeds and process-wide state."""


@functools.cache
def known() -> dict[str, Any]:
    """Every argument's name with its type."""
    from training_service.frameworks import ready

    ready()
    from llamafactory.hparams.parser import _TRAIN_ARGS

    found: dict[str, Any] = {}
    for group in _TRAIN_ARGS:
        types = typing.get_type_hints(group)
        found |= {field.name: types[field.name] for field in dataclasses.fields(group) if field.init}
    return found


def advanced_notes(advanced: dict[str, Any]) -> list[FieldNote]:
    notes = []
    for name, value in advanced.items():
        place = f"advanced.{name}"
        if name in HARMLESS:
            notes.append(FieldNote(level="warning", field=place, message=f"`{name}` is left out: {OURS_ALONE[name]}."))
        elif name in OURS_ALONE:
            notes.append(_error(place, f"`{name}` cannot be set: {OURS_ALONE[name]}.", "Leave it out."))
        elif name not in known():
            close = difflib.get_close_matches(name, known(), n=1, cutoff=0.5)
            hint = f"Did you mean {close[0]!r}?" if close else "See LLaMA-Factory's documentation for its arguments."
            notes.append(_error(place, f"LLaMA-Factory has no argument {name!r}.", hint))
        elif (why := _misfit(known()[name], value)) is not None:
            notes.append(_error(place, why))
    return notes


def _misfit(kind: Any, value: Any) -> str | None:
    try:
        TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        return f"{error.errors()[0]['msg']}: {str(value)[:100]!r}"
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None
    return None


def parse_note(arguments: dict[str, Any]) -> FieldNote | None:
    """What LLaMA-Factory itself says against the whole. Checked as for the CPU, so that a machine without a GPU can
    answer for a worker that has one; what only a GPU's own driver can refuse shows when the job runs."""
    given = {name: value for name, value in arguments.items() if name not in ("fp16", "pure_bf16", "fp8", "use_cpu")}
    if isinstance(given.get("deepspeed"), dict | str) and importlib.util.find_spec("deepspeed") is None:
        return _error("deepspeed", "The training service's environment has no DeepSpeed.", "Use `fsdp`, or install it.")
    given.pop("deepspeed", None)
    from training_service.frameworks import ready

    ready()
    from llamafactory.hparams import get_train_args

    with _parsing:
        try:
            get_train_args({**given, "use_cpu": True, "logging_steps": 1})
        except (ValueError, TypeError, ImportError, KeyError, AssertionError) as error:
            text = " ".join(str(error).split())[:500] or type(error).__name__
            return _error(_named_in(text, given), text)
    return None


def _named_in(text: str, given: dict[str, Any]) -> str:
    """The field that a message speaks of, in our words where we have one."""
    fields = {theirs: ours for ours, theirs in NAMED.items()}
    mentioned = sorted((name for name in given if name in text), key=len, reverse=True)
    return fields.get(mentioned[0], f"advanced.{mentioned[0]}") if mentioned else "body"


def template_note(template: str) -> FieldNote | None:
    from training_service.frameworks import ready

    ready()
    from llamafactory.data.template import TEMPLATES

    if template in TEMPLATES:
        return None
    close = difflib.get_close_matches(template, TEMPLATES, n=1, cutoff=0.4)
    hint = f"Did you mean {close[0]!r}? Left out, the one that fits the model is taken." if close else None
    return _error("template", f"There is no template {template!r}.", hint)


def _error(field: str, message: str, hint: str | None = None) -> FieldNote:
    return FieldNote(level="error", field=field, message=message, hint=hint)
