"""Providers: models of others that the gateway may ask."""

from collections.abc import Iterator

from imts_client.blocking.transport import Transport
from imts_client.calls import providers as calls
from imts_shared.contracts.providers import Provider, ProviderChange, ProviderCheck, ProviderRequest


class Providers:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: ProviderRequest) -> Provider:
        return self._transport.send(calls.create(request))

    def list(self, *, project: str | None = None, most: int | None = None) -> Iterator[Provider]:
        return self._transport.every(calls.find(project), most)

    def get(self, provider: str, *, project: str | None = None) -> Provider:
        """By id or by name; `project`: where several projects have one of this name."""
        return self._transport.send(calls.get(provider, project))

    def change(self, provider: str, change: ProviderChange, *, project: str | None = None) -> Provider:
        """What is left out of the change stays; `models` and `limits` are replaced whole."""
        return self._transport.send(calls.change(provider, change, project))

    def delete(self, provider: str, *, project: str | None = None) -> None:
        self._transport.send(calls.delete(provider, project))

    def check(self, provider: str, *, project: str | None = None) -> ProviderCheck:
        """Asks the provider with its key, and says what came of it."""
        return self._transport.send(calls.check(provider, project))
