"""Training sweeps."""

from collections.abc import Iterator

from imts_client.blocking.transport import Transport
from imts_client.calls import sweeps as calls
from imts_shared.contracts.sweeps import Sweep, SweepRequest, SweepSummary


class Sweeps:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def submit(self, request: SweepRequest, *, idempotency_key: str | None = None) -> Sweep:
        return self._transport.send(calls.submit(request, idempotency_key))

    def list(self, *, project: str | None = None, most: int | None = None) -> Iterator[SweepSummary]:
        return self._transport.every(calls.find(project), most)

    def get(self, sweep_id: str) -> Sweep:
        """With its trials, best first."""
        return self._transport.send(calls.get(sweep_id))

    def stop(self, sweep_id: str) -> Sweep:
        return self._transport.send(calls.stop(sweep_id))

    def delete(self, sweep_id: str) -> None:
        """One that has ended; its jobs stay."""
        self._transport.send(calls.delete(sweep_id))
