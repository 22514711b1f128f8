"""Health answers over real HTTP."""

import json
import urllib.error
import urllib.request
from typing import Any

from imts_shared.health import serve_health


def get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_health_answers() -> None:
    said: list[bool | str] = ["Redis is not reached"]
    server = serve_health(0, "127.0.0.1", "some-service", lambda: said[0], {"slots": 2})
    try:
        assert get(server.port, "/healthz")[0] == 200
        status, body = get(server.port, "/readyz")
        assert (status, json.loads(body)["reason"]) == (503, "Redis is not reached")
        said[0] = True
        assert get(server.port, "/readyz?verbose")[0] == 200
        info = json.loads(get(server.port, "/info")[1])
        assert (info["service"], info["slots"]) == ("some-service", 2)
        assert b"process_resident_memory_bytes" in get(server.port, "/metrics")[1]
        assert get(server.port, "/else")[0] == 404
    finally:
        server.shutdown()
