"""What other gateways have learned, as it comes, in one order and each once."""

import asyncio

from loguru import logger

from inference_service.gateway.control_plane import ControlPlane, Declined, Unanswered
from inference_service.gateway.learners import Learners
from inference_service.gateway.router import Router

AGAIN_SECONDS = 1.0


class Hearing:
    def __init__(self, control_plane: ControlPlane, learners: Learners, router: Router, life: str) -> None:
        self._control_plane = control_plane
        self._learners = learners
        self._router = router
        self._life = life
        self.number = 0
        self.started = False
        """All is heard that there was at the start."""

    async def follow(self) -> None:
        """First the newest of all routes, which is all that this gateway will know of them; then what is new. Its own
        it has learned when they happened."""
        said = ""
        while True:
            try:
                heard = await self._control_plane.lessons(self._life, self.number, start=not self.started)
            except (Unanswered, Declined) as error:
                if str(error) != said:
                    said = str(error)
                    logger.warning("lessons not heard", problem=said)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            said = ""
            for place, lesson in enumerate(heard.items):
                if lesson.gateway != self._life and self._router.heard(lesson):
                    self._learners.hear(lesson)
                if place % 20 == 19:
                    await asyncio.sleep(0)
            self.number = heard.number
            self.started = self.started or not heard.more
            await asyncio.sleep(0.02)
