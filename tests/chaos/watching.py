"""A watcher for each job: reads its events live, comes back after every break with the last one it saw."""

import json
import threading
import time
from typing import Any

import httpx

from tests.chaos.platform import ChaosPlatform


class Watching:
    def __init__(self, platform: ChaosPlatform) -> None:
        self._platform = platform
        self._threads: dict[str, threading.Thread] = {}
        self.seen: dict[str, list[dict[str, Any]]] = {}

    def add(self, job_id: str) -> None:
        self.seen[job_id] = []
        thread = threading.Thread(target=self._watch, args=(job_id,), daemon=True)
        self._threads[job_id] = thread
        thread.start()

    def wait(self, seconds: float) -> list[str]:
        """The jobs whose watchers have not come to the end."""
        deadline = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return [job_id for job_id, thread in self._threads.items() if thread.is_alive()]

    def _watch(self, job_id: str) -> None:
        seen = self.seen[job_id]
        while True:
            headers = {
                "Authorization": f"Bearer {self._platform.key}",
                "Accept": "text/event-stream",
                "Last-Event-ID": str(seen[-1]["seq"]) if seen else "0",
            }
            try:
                with (
                    httpx.Client(timeout=httpx.Timeout(20, connect=5)) as client,
                    client.stream("GET", f"{self._platform.url}/api/jobs/{job_id}/events", headers=headers) as stream,
                ):
                    for line in stream.iter_lines():
                        if line == "event: end":
                            return
                        if line.startswith('data: {"seq"'):
                            seen.append(json.loads(line[6:]))
            except httpx.TransportError:
                pass
            time.sleep(0.1)
