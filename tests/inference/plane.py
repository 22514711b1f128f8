"""A control plane as the inference worker knows it: one call, over real HTTP, that answers what a test wants."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SERVICE_KEY = "service-key-of-the-tests"


class Plane:
    def __init__(self, beat: float = 0.2) -> None:
        self.deleted: list[str] = []
        self.wanted: dict[str, dict[str, Any]] = {}
        self.beat = beat
        self.replicas: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.phases: list[tuple[str, str, str | None]] = []
        self.requests: list[dict[str, Any]] = []
        self.away = False
        self.forgetful = 0
        """Answers that get lost although the batch was stored."""
        self._batches: dict[str, int] = {}
        self._lock = threading.Lock()
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, answer = plane.take(self.path, self.headers["authorization"], body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, path: str, key: str, body: dict[str, Any]) -> tuple[int, Any]:
        assert (path, key) == ("/internal/deployments/sync", f"Bearer {SERVICE_KEY}")
        with self._lock:
            if self.away:
                return 503, {"code": "away"}
            self.requests.append({**body, "lines": len(body["lines"])})
            life = f"{body['workerId']} {body['pid']}"
            before = self._batches.get(life, 0)
            assert body["batch"] in (before, before + 1)
            if body["batch"] > before:
                self._batches[life] = body["batch"]
                self.lines += body["lines"]
                self.messages += body["messages"]
            self.replicas = body["replicas"]
            for one in self.replicas:
                said = (
                    f"{one['deploymentId']}/{one['revision']}",
                    one["state"],
                    (one.get("progress") or {}).get("phase"),
                )
                if said not in self.phases[-8:]:
                    self.phases.append(said)
            if self.forgetful:
                self.forgetful -= 1
                return 500, {"code": "lost"}
            told = {"deployments": list(self.wanted.values()), "gone": self.deleted}
            return 200, {**told, "leaseSeconds": 20, "beatSeconds": self.beat}

    def want(self, name: str, revisions: list[dict[str, Any]], **more: Any) -> None:
        with self._lock:
            self.wanted[name] = {
                "id": name,
                "name": name,
                "project": "default",
                "replicas": 1,
                "servingRevision": None,
                "revisions": revisions,
                "adapters": [],
                "drainSeconds": 5,
                **more,
            }

    def forget(self, name: str) -> None:
        """Another worker has it."""
        with self._lock:
            self.wanted.pop(name, None)

    def delete(self, name: str) -> None:
        with self._lock:
            del self.wanted[name]
            self.deleted.append(name)

    def replica(self, name: str, revision: int = 1, number: int = 0) -> dict[str, Any] | None:
        with self._lock:
            found = (one for one in self.replicas if (one["deploymentId"], one["revision"], one["number"])
                     == (name, revision, number))  # fmt: skip
            return next(found, None)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def revision(model: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "number": number,
        "model": {"named": model, **more.pop("of", {})},
        "engine": "vllm",
        "engineArgs": {},
        "startTimeoutSeconds": 180,
        **more,
    }
