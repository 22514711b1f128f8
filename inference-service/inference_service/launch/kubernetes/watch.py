"""The pods of this release, asked for once for all who wait for news of one."""

import asyncio
from time import monotonic

from inference_service.launch.kubernetes.api import Api, ClusterAway
from inference_service.launch.kubernetes.objects import LAUNCH, Object

FRESH_SECONDS = 0.9


class Watch:
    """Asking anew each second needs no more than `list`, and misses nothing that a broken watch would."""

    def __init__(self, api: Api, labels: dict[str, str]) -> None:
        self._api = api
        self._labels = labels
        self._asking = asyncio.Lock()
        self._asked_at = -1e9
        self._answer: list[Object] | ClusterAway = []

    async def pods(self) -> list[Object]:
        """Who asks while the cluster does not answer is told so at once: waiting for it by turns would take minutes."""
        async with self._asking:
            if monotonic() - self._asked_at >= FRESH_SECONDS:
                try:
                    self._answer = await self._api.pods(self._labels)
                except ClusterAway as away:
                    self._answer = away
                self._asked_at = monotonic()
            if isinstance(self._answer, ClusterAway):
                raise ClusterAway(str(self._answer))
            return self._answer

    async def of(self, launch: str) -> list[Object]:
        return [pod for pod in await self.pods() if (pod["metadata"].get("labels") or {}).get(LAUNCH) == launch]
