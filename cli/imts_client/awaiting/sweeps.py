"""Training sweeps."""

from collections.abc import AsyncIterator

from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import sweeps as calls
from imts_shared.contracts.sweeps import Sweep, SweepRequest, SweepSummary


class AsyncSweeps:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def submit(self, request: SweepRequest, *, idempotency_key: str | None = None) -> Sweep:
        return await self._transport.send(calls.submit(request, idempotency_key))

    def list(self, *, project: str | None = None, most: int | None = None) -> AsyncIterator[SweepSummary]:
        return self._transport.every(calls.find(project), most)

    async def get(self, sweep_id: str) -> Sweep:
        """With its trials, best first."""
        return await self._transport.send(calls.get(sweep_id))

    async def stop(self, sweep_id: str) -> Sweep:
        return await self._transport.send(calls.stop(sweep_id))

    async def delete(self, sweep_id: str) -> None:
        """One that has ended; its jobs stay."""
        await self._transport.send(calls.delete(sweep_id))
