"""What is said of decisions that another gateway made, or an earlier life of this one: the control plane has them."""

import asyncio

from loguru import logger

from imts_shared.contracts.routes import Feedback
from inference_service.gateway.control_plane import ControlPlane, Declined, Unanswered
from inference_service.gateway.errors import Refusal, unavailable
from inference_service.gateway.learners import Learners

TOLD_SECONDS = 1.0
"""After so long the control plane has heard of a decision that another gateway made just now."""
MOST_TELLING = 50
NOT_FOUND, CONFLICT = 404, 409


class Elsewhere:
    def __init__(self, control_plane: ControlPlane, learners: Learners, life: str) -> None:
        self._control_plane = control_plane
        self._learners = learners
        self._life = life
        self._telling: set[asyncio.Task[None]] = set()

    async def take(self, feedback: Feedback) -> None:
        """It is learned here as well. Raises the Refusal of who said it."""
        said = feedback.model_dump_json().encode()
        try:
            try:
                lesson = await self._control_plane.feedback(self._life, said)
            except Declined as declined:
                if declined.status != NOT_FOUND:
                    raise
                await asyncio.sleep(TOLD_SECONDS)
                lesson = await self._control_plane.feedback(self._life, said)
        except Declined as declined:
            if declined.status == CONFLICT:
                raise already_rated() from None
            message = f"There is no decision `{feedback.decision_id}` here."
            raise Refusal(404, message, code="unknown_decision", param="decisionId") from None
        except Unanswered:
            message = "This gateway does not know the decision, and the control plane cannot be asked: try again."
            raise unavailable(message, "control_plane_away", retry_after=5) from None
        self._learners.hear(lesson)

    def notice(self, feedback: Feedback) -> None:
        """Nobody waits for what was said. Of many signs at once some may be lost: each says little."""
        if len(self._telling) >= MOST_TELLING:
            return
        task = asyncio.get_running_loop().create_task(self._notice(feedback))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _notice(self, feedback: Feedback) -> None:
        try:
            await self.take(feedback)
        except Refusal as refusal:
            logger.info("a sign is lost", signal=feedback.signal, problem=refusal.message)


def already_rated() -> Refusal:
    message = "This key has rated the decision already: a rating counts once."
    return Refusal(409, message, code="already_rated", param="decisionId")
