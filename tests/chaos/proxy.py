"""A TCP proxy between workers and the control plane that can drop, delay and swallow."""

import contextlib
import random
import socket
import threading
import time
from typing import Literal

Mode = Literal["pass", "drop", "delay", "silence"]


class FaultyProxy:
    """`drop`: connections are cut in the middle of an exchange. `delay`: each piece waits. `silence`: nothing moves."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.mode: Mode = "pass"
        self._upstream = upstream
        self._chance = random.Random(port)
        self._listener: socket.socket | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        if self._listener is not None:
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream), timeout=5)
            except OSError:
                # nobody listens: say so as a kernel would, by a reset instead of an orderly end
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                client.close()
                continue
            server.settimeout(None)
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                mode = self.mode
                if mode == "drop" and self._chance.random() < 0.3:
                    break
                if mode == "delay":
                    time.sleep(self._chance.uniform(0.05, 1.5))
                while self.mode == "silence" and not self._ended.is_set():
                    time.sleep(0.05)
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
