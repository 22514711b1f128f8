"""A request that the gateway makes of itself, for a caller who asked in other words."""

from inference_service.gateway.errors import Headers, Refusal
from inference_service.gateway.exchange import WHOLE_BYTES


class Heard:
    """An answer taken within, instead of sent."""

    paused = False

    def __init__(self) -> None:
        self.status = 0
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._size = 0

    async def room(self) -> None:
        return

    def head(self, status: int, headers: Headers) -> None:
        self.status, self._headers = status, headers

    def body(self, piece: bytes, *, last: bool) -> None:
        self._size += len(piece)
        if self._size > WHOLE_BYTES:
            raise Refusal(502, f"The answer is larger than {WHOLE_BYTES} bytes.", code="answer_too_large")
        self._parts.append(piece)

    @property
    def whole(self) -> bytes:
        return b"".join(self._parts)

    def said(self, name: bytes) -> list[tuple[bytes, bytes]]:
        return [one for one in self._headers if one[0].lower() == name]

    def one(self, name: bytes) -> str | None:
        found = self.said(name)
        return found[-1][1].decode() if found else None


class Given:
    """A body that is here already."""

    arrived = True

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.size = len(body)

    def taken(self) -> bytes:
        self.size = 0
        return self._body

    async def come(self) -> None:
        return
