"""Health answers for processes that serve nothing else: /healthz, /readyz, /info, /metrics."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from imts_shared import __version__

LOOK_SECONDS = 0.5
"""How soon it notices that it shall end."""

Ready = Callable[[], bool | str]


class HealthServer(ThreadingHTTPServer):
    """Answers in threads of its own, so that a busy process still answers."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], ready: Ready, info: Mapping[str, Any]) -> None:
        super().__init__(address, _Handler)
        self.ready = ready
        self.info = info

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: HealthServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._json(200, {"status": "ok"})
        elif path == "/readyz":
            said = self.server.ready()
            if said is True:
                self._json(200, {"status": "ready"})
            else:
                self._json(503, {"status": "not ready", "reason": said or "starting"})
        elif path == "/info":
            self._json(200, dict(self.server.info))
        elif path == "/metrics":
            self._send(200, CONTENT_TYPE_LATEST, generate_latest())
        else:
            self._json(404, {"status": "unknown", "paths": ["/healthz", "/readyz", "/info", "/metrics"]})

    def _json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content, default=str).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds and say nothing worth a line."""


def serve_health(
    port: int, host: str, service: str, ready: Ready, extra: Mapping[str, Any] | None = None
) -> HealthServer:
    """Serves until the process ends or `shutdown` is called. `ready` says True, or why not."""
    info = {
        "service": service,
        "version": __version__,
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(),
        **(extra or {}),
    }
    server = HealthServer((host, port), ready, info)
    threading.Thread(target=server.serve_forever, args=(LOOK_SECONDS,), name="health", daemon=True).start()
    return server
