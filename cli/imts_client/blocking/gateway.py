"""The gateway, connected when it is first asked: most of the API does without it."""

from typing import TypeVar

from imts_client.blocking.transport import Transport
from imts_client.calls import Call
from imts_client.where import Where, find_gateway

T = TypeVar("T")


class Gateway:
    def __init__(self, platform: Where, url: str | None = None, key: str | None = None) -> None:
        self._platform = platform
        self._url = url
        self._key = key
        self._transport: Transport | None = None

    def send(self, call: Call[T]) -> T:
        if self._transport is None:
            self._transport = Transport(find_gateway(self._platform, self._url, self._key))
        return self._transport.send(call)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
