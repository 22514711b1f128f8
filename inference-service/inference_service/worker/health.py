"""Whether an engine generates, and when it was last of use to somebody."""

from datetime import UTC, datetime
from time import monotonic

from inference_service.engines.speaking import EngineClient

PROOF_SECONDS = 15.0
PATIENCE_SECONDS = 20.0
MOST_FAILURES = 3


class Unhealthy(Exception):
    """It runs and does not generate; the message says what was seen."""


class Health:
    """Tokens that it makes for others prove it alive; only an idle engine is asked for one."""

    def __init__(self, client: EngineClient) -> None:
        self.metrics: dict[str, float] = {}
        self.last_used_at: datetime | None = None
        self._client = client
        self._proof_at = monotonic()
        self._failures = 0
        self._probes = 0
        self._worked = 0.0
        self._used = 0.0

    async def first(self, seconds: float) -> None:
        """The generation that makes a started engine a ready one."""
        silent = await self._client.generates(seconds)
        if silent is not None:
            raise Unhealthy(silent.why)
        self._probes += 1
        self._proof_at = monotonic()

    async def look(self) -> None:
        """Raises Unhealthy when it has not generated for too long."""
        counts = await self._client.counts()
        if counts is not None:
            self._take(counts)
        if monotonic() - self._proof_at < PROOF_SECONDS:
            return
        silent = await self._client.generates(PATIENCE_SECONDS)
        if silent is None:
            self._probes += 1
            self._proved()
            return
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            raise Unhealthy(silent.why)

    @property
    def idle(self) -> bool:
        return not self.metrics.get("running") and not self.metrics.get("waiting")

    def _take(self, counts: dict[str, float]) -> None:
        made = counts.get("generationTokens", 0.0)
        worked = made + counts.get("decodes", 0.0)  # llama.cpp counts tokens when an answer is whole
        if worked > self._worked:
            self._proved()
        self._worked = worked
        used = counts.get("requests", made) - self._probes
        if used > self._used or counts.get("running") or counts.get("waiting"):
            self.last_used_at = datetime.now(UTC)
        self._used = used
        if "requests" in counts:
            counts["requests"] = used
        self.metrics = counts

    def _proved(self) -> None:
        self._proof_at = monotonic()
        self._failures = 0
