"""What to do so that there is what is wanted: a table without side effects."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from imts_shared.contracts.serving import WantedDeployment, WantedRevision
from inference_service.keys import Key


class Do(Enum):
    end = "end"
    """At once: another worker looks after it by now."""
    drain = "drain"
    resume = "resume"
    """It was about to leave and is wanted again."""
    start = "start"


@dataclass(frozen=True)
class Action:
    do: Do
    key: Key


def actions(wanted: Iterable[WantedDeployment], gone: Collection[str], held: Mapping[Key, bool]) -> list[Action]:
    """`gone` are deployments that were deleted. `held` tells of each replica that is here whether it drains. What ends
    comes first, for it makes room."""
    deployments = list(wanted)
    known = {*gone, *(one.id for one in deployments)}
    keys = [
        Key(one.id, revision.number, number)
        for one in deployments
        for revision in _serving_first(one)
        for number in range(one.replicas)
    ]
    shall = set(keys)
    ending = [Action(Do.end, key) for key in sorted(held) if key.deployment_id not in known]
    draining = [
        Action(Do.drain, key)
        for key, drains in sorted(held.items())
        if key.deployment_id in known and key not in shall and not drains
    ]
    resuming = [Action(Do.resume, key) for key in keys if held.get(key)]
    starting = [Action(Do.start, key) for key in keys if key not in held]
    return [*ending, *draining, *resuming, *starting]


def _serving_first(one: WantedDeployment) -> list[WantedRevision]:
    return sorted(one.revisions, key=lambda revision: (revision.number != one.serving_revision, revision.number))
