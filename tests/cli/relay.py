"""A network between client and platform that can be broken: down, cut in the middle, or swallowing answers."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator


class Relay:
    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.cut_after: int | None = None
        """Each connection breaks when so many bytes of its answers went through."""
        self.swallow = 0
        """So many connections break as soon as their answer begins."""
        self.connections = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(50)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.break_all()

    def break_all(self) -> None:
        with self._lock:
            broken, self._open = self._open, set()
        for one in broken:
            _reset(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._target)
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        passed = 0
        try:
            while piece := source.recv(65_536):
                if answers and self.swallow > 0:
                    self.swallow -= 1
                    break
                if answers and self.cut_after is not None:
                    piece = piece[: self.cut_after - passed]
                sink.sendall(piece)
                passed += len(piece)
                if answers and self.cut_after is not None and passed >= self.cut_after:
                    time.sleep(0.02)
                    break
        except OSError:
            pass
        with self._lock:
            self._open -= {source, sink}
        for one in (source, sink):
            _reset(one)


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextlib.contextmanager
def relay_to(port: int) -> Iterator[Relay]:
    relay = Relay(port)
    relay.up()
    try:
        yield relay
    finally:
        relay.down()
