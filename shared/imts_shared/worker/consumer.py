"""Celery's consumer, made to come back soon after Redis does."""

import threading
from typing import Any

from celery.worker.consumer.consumer import Consumer
from celery.worker.state import maybe_shutdown
from loguru import logger

LONGEST_PAUSE = 1.5

connected = threading.Event()
"""Whether messages can come in. One consumer a process."""


class SteadyConsumer(Consumer):  # type: ignore[misc]
    """Celery alone waits ever longer between tries, up to half a minute, and gives up after a hundred."""

    def ensure_connected(self, conn: Any) -> Any:
        def tell(error: Exception, pause: float) -> None:
            connected.clear()
            logger.bind(why=str(error), pause=pause).warning("redis not reached")

        conn = conn.ensure_connection(
            tell, None, interval_start=0.2, interval_step=0.3, interval_max=LONGEST_PAUSE, callback=maybe_shutdown
        )
        self.first_connection_attempt = False
        return conn

    def on_ready(self) -> None:
        super().on_ready()
        connected.set()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        connected.clear()
        logger.bind(why=str(exc)).warning("redis not reached")

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        connected.clear()
        super().on_connection_error_after_connected(exc)
