"""Providers: models of others that the gateway may ask."""

from collections.abc import AsyncIterator

from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import providers as calls
from imts_shared.contracts.providers import Provider, ProviderChange, ProviderCheck, ProviderRequest


class AsyncProviders:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, request: ProviderRequest) -> Provider:
        return await self._transport.send(calls.create(request))

    def list(self, *, project: str | None = None, most: int | None = None) -> AsyncIterator[Provider]:
        return self._transport.every(calls.find(project), most)

    async def get(self, provider: str, *, project: str | None = None) -> Provider:
        """By id or by name; `project`: where several projects have one of this name."""
        return await self._transport.send(calls.get(provider, project))

    async def change(self, provider: str, change: ProviderChange, *, project: str | None = None) -> Provider:
        """What is left out of the change stays; `models` and `limits` are replaced whole."""
        return await self._transport.send(calls.change(provider, change, project))

    async def delete(self, provider: str, *, project: str | None = None) -> None:
        await self._transport.send(calls.delete(provider, project))

    async def check(self, provider: str, *, project: str | None = None) -> ProviderCheck:
        """Asks the provider with its key, and says what came of it."""
        return await self._transport.send(calls.check(provider, project))
