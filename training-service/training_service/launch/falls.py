"""How ranks end, and which of their ends is told: when one falls, others fall over it."""

import traceback
from dataclasses import dataclass
from pathlib import Path

from imts_shared.contracts.internal import Outcome
from imts_shared.worker.engine import EngineFailure, Stopped
from imts_shared.worker.failures import outcome_of
from training_service.failures import explained, peer_lost

SETTLE_SECONDS = 1.0
"""So long is waited to see who was first."""


@dataclass(frozen=True)
class Fall:
    """How a rank ended, in its own words."""

    outcome: Outcome
    after_another: bool = False
    """Whether it only lost one that it was working with."""

    def failure(self, number: int) -> EngineFailure:
        said = self.outcome
        return EngineFailure(f"Rank {number}: {said.message}", said.hint, said.reason)


def told(error: BaseException) -> Fall:
    """To be called where the error was caught: its traceback goes into the log."""
    if isinstance(error, Stopped):
        return Fall(Outcome(status="stopped"))
    traceback.print_exception(error)
    better = explained(error) if isinstance(error, Exception) else None
    return Fall(outcome_of(better or error, Path(__file__).parent.parent), peer_lost(error))
