"""What was asked of models, counted."""

from collections.abc import AsyncIterator, Sequence
from datetime import date

from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import limits as calls
from imts_shared.contracts.usage import UsageLine, UsagePage


class AsyncUsage:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        by: Sequence[str] = ("day", "model"),
        since: date | None = None,
        until: date | None = None,
        project: str | None = None,
        key: str | None = None,
        model: str | None = None,
        upstream: str | None = None,
        most: int | None = None,
    ) -> AsyncIterator[UsageLine]:
        """A line for each of `by`: day, key, model, project, upstream. Days are UTC's; `until` counts."""
        listing = calls.usage(by, since, until, project=project, key=key, model=model, upstream=upstream)
        return self._transport.every(listing, most)

    async def total(
        self,
        *,
        since: date | None = None,
        until: date | None = None,
        project: str | None = None,
        key: str | None = None,
        model: str | None = None,
        upstream: str | None = None,
    ) -> UsageLine:
        """All of it in one line."""
        listing = calls.usage((), since, until, project=project, key=key, model=model, upstream=upstream, limit=1)
        page: UsagePage = await self._transport.send(listing.call())
        return page.total
