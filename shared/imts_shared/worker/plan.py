"""What the worker hands to a child. Light to import: the worker's own process needs nothing that engines need."""

from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

Pipe: TypeAlias = "Connection[Any, Any]"


@dataclass(frozen=True)
class ChildPlan:
    """All that a child needs to know. It gets neither the attempt's token nor the services' key."""

    engine: str
    claim: bytes = field(repr=False)
    storage_url: str
    storage_options: dict[str, str] = field(repr=False)
    scratch: str
    pulse_seconds: float
    options: dict[str, str]
    devices: list[str]


def enter_child(plan: ChildPlan, commands: Pipe, orders: Pipe, reports: Pipe, out: Pipe, err: Pipe) -> None:
    from imts_shared.worker.child import main

    main(plan, commands, orders, reports, out, err)
