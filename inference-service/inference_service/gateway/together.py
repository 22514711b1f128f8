"""An answer's head goes out with the beginning of its body: one write for both, which both sides wake up for once."""

import asyncio
from typing import Any

LARGE = 64 * 2**10


class Together:
    """In a transport's place."""

    __slots__ = ("_head", "_holds", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._holds = False
        self._head = b""

    def hold(self) -> None:
        """What is written next is a head, and goes out with what is written after it, be that nothing (`b""`)."""
        self._holds = True

    def write(self, data: bytes) -> None:
        if self._holds:
            self._holds = False
            self._head = data
            return
        head = self._head
        if head:
            self._head = b""
            if len(data) > LARGE:
                self._transport.write(head)
            else:
                data = head + data
        self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
