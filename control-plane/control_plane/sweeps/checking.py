"""Whether a sweep can be: every parameter names a field, and every value is one that the field takes."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from control_plane.problems import Refusal
from control_plane.sweeps.children import ADVANCED, request_with
from control_plane.sweeps.search import Dimension, Point, Space, grid, points, space_of
from imts_shared.contracts.faults import nearest
from imts_shared.contracts.llamafactory import NAMED
from imts_shared.contracts.problems import FieldProblem
from imts_shared.contracts.sweeps import MOST_TRIALS, SweepParameter, SweepRequest
from imts_shared.contracts.training import TrainingRequest

_OUTDONE = {"epochs": "maxSteps", "warmupRatio": "warmupSteps"}
"""Fields that mean nothing beside another."""
_MOST_STEPS = 10**15
_THE_SWEEPS_OWN = frozenset({"name", "project", "priority", "labels"})
_NOT_TRIED = frozenset({"deploy"})
FIELDS = {
    alias: name
    for name, field in TrainingRequest.model_fields.items()
    if (alias := field.alias or name) not in _THE_SWEEPS_OWN | _NOT_TRIED
}


def refusal(code: str, field: str, message: str, hint: str | None = None, status: int = 422) -> Refusal:
    return Refusal(status, code, f"{field}: {message}", field=field, hint=hint)


def checked_parameters(request: SweepRequest) -> dict[str, dict[str, Any]]:
    """As they are kept: by the field's own name, with a range's kind of numbers said."""
    _check_method(request)
    found: dict[str, dict[str, Any]] = {}
    spelled: dict[str, str] = {}
    for given, parameter in request.parameters.items():
        name = _field(given)
        if name in found:
            raise refusal(
                "conflicting_fields", f"parameters.{given}", f"it is the same field as {spelled[name]!r}.",
                "Name each field once.",
            )  # fmt: skip
        spelled[name] = given
        found[name] = _checked(name, given, parameter, request.method)
    _check_conflicts(found, request.base)
    if request.base.deploy:
        raise refusal(
            "conflicting_fields", "base.deploy", "a sweep's trials are not deployed one by one.",
            "Leave it out, and deploy the best model when the sweep has ended: POST /api/deployments.",
        )  # fmt: skip
    return found


def _check_method(request: SweepRequest) -> None:
    if request.method == "grid" and request.trials is not None:
        raise refusal(
            "conflicting_fields", "trials", "a grid tries every combination and counts itself.",
            "Leave trials out, or choose the method random.",
        )  # fmt: skip
    if request.method != "grid" and request.trials is None:
        raise refusal("missing_field", "trials", f"the method {request.method} needs to know how many.")
    if request.method != "asha" and request.asha is not None:
        raise refusal(
            "conflicting_fields", "asha", f"the method is {request.method}.", 'Say `method: "asha"`, or leave it out.'
        )


def _field(given: str) -> str:
    if given.startswith(ADVANCED) and len(given) > len(ADVANCED):
        return given
    for alias, name in FIELDS.items():
        if given in (alias, name):
            return alias
    field = f"parameters.{given}"
    if given in _THE_SWEEPS_OWN:
        raise refusal("unknown_field", field, "a sweep's jobs share it.", f"Set {given!r} for the sweep itself.")
    if given in NAMED.values():
        ours = next(ours for ours, theirs in NAMED.items() if theirs == given)
        raise refusal("unknown_field", field, f"there is no field {given!r}.", f"Did you mean {ours!r}?")
    close = nearest(given, FIELDS)
    hint = f"Did you mean {close!r}?" if close else f"LLaMA-Factory's own arguments go by 'advanced.{given}'."
    raise refusal("unknown_field", field, f"there is no field {given!r}.", hint)


def _checked(name: str, given: str, parameter: SweepParameter, method: str) -> dict[str, Any]:
    field = f"parameters.{given}"
    told = parameter.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    if parameter.values is not None:
        extra = sorted(set(told) - {"values"})
        if extra:
            raise refusal("conflicting_fields", field, f"values stand alone, without {', '.join(extra)}.")
        return {"values": parameter.values}
    if parameter.min is None or parameter.max is None:
        raise refusal("missing_field", field, "it needs values, or min and max.")
    if not parameter.min < parameter.max:
        raise refusal("bad_range", field, "min must be less than max.")
    if parameter.log and parameter.step is not None:
        raise refusal("conflicting_fields", field, "log and step cannot both be.", "Leave one of the two out.")
    if parameter.log and parameter.min <= 0:
        raise refusal("bad_range", field, "log needs a min above zero.")
    if parameter.step is not None and parameter.step <= 0:
        raise refusal("bad_range", field, "step must be above zero.")
    integer = parameter.integer if parameter.integer is not None else _whole(name, parameter)
    numbers = [n for n in (parameter.min, parameter.max, parameter.step) if n is not None]
    if integer and any(number != int(number) for number in numbers):
        raise refusal("bad_range", field, "whole numbers need whole min, max and step.")
    if method == "grid" and (parameter.log or (parameter.step is None and not integer)):
        raise refusal(
            "bad_range", field, "a grid needs to know which values of the range.",
            "Give values, or a step, or choose the method random.",
        )  # fmt: skip
    kept = {**told, "integer": integer}
    if (Dimension.of(kept).count or 0) > _MOST_STEPS:
        raise refusal("bad_range", field, "step is too small for this range.")
    return kept


def _whole(name: str, parameter: SweepParameter) -> bool:
    """What the field takes; for anything in `advanced`, what the range looks like."""
    if name in FIELDS:
        kinds = _kinds(TrainingRequest.model_fields[FIELDS[name]].annotation)
        return int in kinds and float not in kinds
    return all(isinstance(number, int) for number in (parameter.min, parameter.max, parameter.step or 1))


def _kinds(annotation: Any) -> set[Any]:
    return {annotation}.union(*(_kinds(part) for part in get_args(annotation) if not isinstance(part, int | str)))


def _check_conflicts(found: Mapping[str, Any], base: TrainingRequest) -> None:
    for name in found:
        own = name.removeprefix(ADVANCED)
        ours = next((ours for ours, theirs in NAMED.items() if theirs == own), None) if name != own else None
        if ours is not None:
            raise refusal(
                "conflicting_fields", f"parameters.{name}", f"the field {ours!r} sets it.", f"Use {ours!r} instead."
            )
        if name.startswith(ADVANCED) and "advanced" in found:
            raise refusal("conflicting_fields", f"parameters.{name}", "'advanced' as a whole is tried too.")
    for name, stronger in _OUTDONE.items():
        if name in found and (stronger in found or getattr(base, FIELDS[stronger]) is not None):
            raise refusal(
                "conflicting_fields", f"parameters.{name}", f"{stronger!r} is set too and stands instead of it.",
                f"Leave {stronger!r} out, or {name!r}.",
            )  # fmt: skip


def count_trials(request: SweepRequest, space: Space) -> int:
    there_are = points(space)
    if request.method == "grid":
        assert there_are is not None
        if there_are > MOST_TRIALS:
            raise refusal(
                "too_many_trials", "parameters", f"the grid has {there_are} points; {MOST_TRIALS} are allowed.",
                "Give fewer values, or choose the method random with that many trials.",
            )  # fmt: skip
        return there_are
    assert request.trials is not None
    if there_are is not None and there_are < request.trials:
        raise refusal(
            "too_many_trials", "trials", f"there are only {there_are} different combinations of these values.",
            f"Ask for {there_are} at most.",
        )  # fmt: skip
    return request.trials


def check_points(base: Mapping[str, Any], parameters: Mapping[str, Any], method: str) -> Point:
    """Builds the job of every grid point, or of every value and end of a range. Answers the first point."""
    space = space_of(parameters)
    first: Point | None = None
    faults: dict[tuple[str, str], FieldProblem] = {}
    for point in grid(space) if method == "grid" else _ends(space):
        first = first or point
        try:
            request_with(base, point)
        except ValidationError as error:
            for fault in error.errors():
                found = _fault(point, fault["loc"], fault["msg"])
                faults.setdefault((found.field, found.message), found)
    if faults:
        errors = list(faults.values())
        field, message = errors[0].field, errors[0].message
        raise Refusal(422, "invalid_request", f"{field}: {message}", field=field, errors=errors[:20])
    assert first is not None
    return first


def _ends(space: Space) -> Iterator[Point]:
    """Each value and end once, the others at their first."""
    first = {name: dimension.ends[0] for name, dimension in space.items()}
    yield first
    for name, dimension in space.items():
        yield from ({**first, name: value} for value in dimension.ends[1:])


def _fault(point: Point, place: tuple[int | str, ...], message: str) -> FieldProblem:
    name = str(place[0]) if place else ""
    message = message.removeprefix("Value error, ")
    said = message[:1].lower() + message[1:]
    if name in point:
        return FieldProblem(field=f"parameters.{name}", code="bad_value", message=f"{point[name]!r}: {said}."[:500])
    return FieldProblem(field=".".join(["base", *map(str, place)]), code="bad_value", message=f"{said}."[:500])


def place_of(field: str | None, parameters: Mapping[str, Any]) -> str | None:
    """Where in the sweep's request a fault of its job lies."""
    if field is None:
        return None
    for name in parameters:
        if field in (name, name.removeprefix(ADVANCED)) or field.startswith(f"{name}."):
            return f"parameters.{name}"
    return f"base.{field}"
