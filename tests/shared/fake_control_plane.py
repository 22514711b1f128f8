"""The internal contract over real HTTP, with the faults that a test asks for."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeJob:
    spec: dict[str, Any]
    token: str = "token"
    attempt: int = 1
    lease: float = 20.0
    beat: float = 0.5
    grace: float = 2.0
    timeout: int | None = None
    resume_from: dict[str, Any] | None = None
    prefix: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    claim_id: str | None = None
    order: str = "continue"
    over: bool = False
    batch: int = 0
    applied: list[dict[str, Any]] = field(default_factory=list)
    outcome: dict[str, Any] | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    heard_at: float = 0.0

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e["data"] for b in self.applied for e in b.get("events", []) if e["type"] == kind]

    def lines(self) -> list[str]:
        return [line["text"] for b in self.applied for line in b.get("logs", [])]


class FakeControlPlane:
    """`faults` are used up one a report: drop (applied, not answered), lose (neither), 503, slow, refuse."""

    def __init__(self) -> None:
        self.jobs: dict[str, FakeJob] = {}
        self.workers: dict[str, dict[str, Any]] = {}
        self.left: list[str] = []
        self.faults: deque[str] = deque()
        self.claim_faults: deque[str] = deque()
        self.silent = False
        self.requests = 0
        self.lock = threading.Lock()
        self.port = 0
        self.server: ThreadingHTTPServer | None = None
        self.up()

    def up(self) -> None:
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _body(self) -> dict[str, Any]:
                length = int(self.headers.get("content-length") or 0)
                return json.loads(self.rfile.read(length) or b"{}")

            def _answer(self, status: int, content: Any = None) -> None:
                body = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def reset(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True

            def do_PUT(self) -> None:
                with plane.lock:
                    plane.workers[self.path.rsplit("/", 1)[1]] = self._body()
                self._answer(204)

            def do_DELETE(self) -> None:
                with plane.lock:
                    plane.left.append(self.path.rsplit("/", 1)[1])
                self._answer(204)

            def do_POST(self) -> None:
                plane.post(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

            def process_request(self, request: Any, client_address: Any) -> None:
                plane.connections.append(request)
                super().process_request(request, client_address)

        self.connections: list[Any] = []
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, handler: Any) -> None:
        _, _, _, job_id, what = handler.path.split("/")
        body = handler._body()
        token = handler.headers["authorization"].removeprefix("Bearer ")
        self.requests += 1
        while self.silent:
            time.sleep(0.05)
        faults = self.claim_faults if what == "claim" else self.faults
        with self.lock:
            fault = faults.popleft() if faults else ""
        if fault == "lose":
            handler.reset()
            return
        if fault == "503":
            handler._answer(503, {"detail": "no database"})
            return
        if fault == "slow":
            time.sleep(0.3)
        with self.lock:
            status, content = self.take(job_id, what, token, body, fault)
        if fault == "drop":
            handler.reset()
            return
        handler._answer(status, content)

    def take(self, job_id: str, what: str, token: str, body: dict[str, Any], fault: str) -> tuple[int, Any]:
        job = self.jobs.get(job_id)
        if job is None or fault == "refuse" or job.over or body["attempt"] != job.attempt:
            return 409, {"code": "attempt_over"}
        if token != job.token:
            return 401, {"code": "wrong_token"}
        job.heard_at = time.monotonic()
        if what == "claim":
            if job.claim_id not in (None, body["claimId"]):
                return 409, {"code": "attempt_over"}
            job.claim_id = body["claimId"]
            return 200, {
                "jobId": job_id,
                "kind": "analysis",
                "project": "default",
                "attempt": job.attempt,
                "spec": job.spec,
                "inputs": [],
                "prefix": job.prefix or f"jobs/{job_id}/{job.attempt}/",
                "resumeFrom": job.resume_from,
                "secrets": job.secrets,
                "leaseSeconds": job.lease,
                "beatSeconds": job.beat,
                "stopGraceSeconds": job.grace,
                "timeoutSeconds": job.timeout,
            }
        number = body.get("batch")
        if number is not None and number > job.batch:
            assert number == job.batch + 1, f"batch {number} after {job.batch}"
            job.batch = number
            job.applied.append(body)
            if body.get("outcome"):
                job.outcome = body["outcome"]
                job.ended.set()
        return 200, {"order": job.order, "leaseSeconds": job.lease}
