"""An engine's lines, out of a cluster's log of its container: each once, however often the log is asked for."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
from loguru import logger

from imts_shared.worker.lines import clean
from inference_service.launch.kubernetes.api import Api, ClusterAway
from inference_service.trouble import CannotServe

AGAIN_SECONDS = 1.0
SKEW_SECONDS = 5
"""A node's clock may be another one than the worker's; what comes twice is dropped."""


class Lines:
    def __init__(self, api: Api, take: Callable[[bytes], str], tail: deque[str], heard: datetime | None) -> None:
        """`heard`: the moment of the last line that an earlier worker took of this engine."""
        self._api = api
        self._take = take
        self._tail = tail
        self._heard = heard

    async def follow(self, pod: str) -> None:
        """Until it is cancelled. That nothing is heard harms nobody but the one who reads it."""
        refused = ""
        while True:
            try:
                async for line in self._api.lines(pod, self._since()):
                    self.hear(line)
            except ClusterAway as away:
                logger.bind(pod=pod, why=str(away)).debug("the log is not heard")
            except CannotServe as trouble:
                if trouble.message != refused:
                    refused = trouble.message
                    logger.bind(pod=pod, why=refused).warning("the log cannot be heard")
                    self._say(datetime.now(UTC), refused)
            await asyncio.sleep(AGAIN_SECONDS)

    async def rest(self, pod: str) -> None:
        """What a container said at its end and was not heard yet. It may have been started again meanwhile, so that its
        log is that of the one before, and what is there now is another's."""
        for before in (True, False):
            try:
                for line in await self._api.last_lines(pod, before=before):
                    self.hear(line.encode())
            except (ClusterAway, CannotServe) as error:
                logger.bind(pod=pod, why=str(error)).warning("an engine's last words are not known")

    def hear(self, line: bytes) -> None:
        moment, _, words = line.partition(b" ")
        try:
            at = datetime.fromisoformat(moment.decode())
        except ValueError:
            return
        if self._heard is None or at > self._heard:
            self._heard = at
            self._say(at, words.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace"))

    def _say(self, at: datetime, text: str) -> None:
        encoded = orjson.dumps({"at": at.isoformat(), "stream": "log", "text": clean(text)})
        self._tail.append(self._take(encoded))

    def _since(self) -> int | None:
        if self._heard is None:
            return None
        return max(1, math.ceil((datetime.now(UTC) - self._heard).total_seconds())) + SKEW_SECONDS
