"""A request that the gateway makes of itself, for a caller who asked in other words."""

from typing import Any

from inference_service.gateway.errors import Refusal
from inference_service.gateway.exchange import WHOLE_BYTES
from inference_service.gateway.requests import Incoming


class Heard:
    """An answer taken within, instead of sent."""

    def __init__(self) -> None:
        self.status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = 0

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self._headers = message["status"], message["headers"]
            return
        part = message.get("body", b"")
        self._size += len(part)
        if self._size > WHOLE_BYTES:
            raise Refusal(502, f"The answer is larger than {WHOLE_BYTES} bytes.", code="answer_too_large")
        self._parts.append(part)

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    def said(self, name: bytes) -> list[tuple[bytes, bytes]]:
        return [one for one in self._headers if one[0].lower() == name]

    def one(self, name: bytes) -> str | None:
        found = self.said(name)
        return found[-1][1].decode() if found else None


def given(body: bytes, caller: Incoming) -> Incoming:
    """A body that is here already."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return caller.same_caller(receive)
