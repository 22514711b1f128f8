"""Server-sent events out of bytes that come in pieces of any size."""

from inference_service.gateway.anthropic.failures import Garbage

EVENT_BYTES = 2**20
"""An event larger than this, or a line that does not end within it, is no answer of a model."""

_MARK = b"\xef\xbb\xbf"


class Events:
    __slots__ = ("_begun", "_data", "_data_bytes", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._begun = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that this piece makes whole. Raises Garbage where an event grows past its bound."""
        if b"\n" not in piece:
            self._rest += piece
            if len(self._rest) > EVENT_BYTES:
                raise Garbage("a line of the stream does not end")
            return []
        lines = (bytes(self._rest) + piece).split(b"\n")
        self._rest = bytearray(lines.pop())
        if not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(_MARK)
        whole = []
        for line in lines:
            if line in (b"", b"\r"):
                if data := b"\n".join(self._data):
                    whole.append(data)
                self._data = []
                self._data_bytes = 0
            elif line.startswith(b"data:"):
                self._take(line)
        return whole

    def _take(self, line: bytes) -> None:
        self._data_bytes += len(line)
        if self._data_bytes > EVENT_BYTES:
            raise Garbage("an event of the stream does not end")
        self._data.append(line[6 if line[5:6] == b" " else 5 :].removesuffix(b"\r"))
