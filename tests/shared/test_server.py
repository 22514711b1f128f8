"""Uvicorn's server, which ours wakes up less often."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.shared.conftest import free_port

PROGRAM = """
import sys, uvicorn
from imts_shared.service import server
server.TICK_SECONDS *= float(sys.argv[2])
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})
server.serve(server.Server(uvicorn.Config(app, port=int(sys.argv[1]), lifespan="off", log_level="critical")))
"""


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """With a clock so many times as slow as usual."""
    port, slower = free_port(), getattr(request, "param", 1)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port), str(slower)])
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        try:
            httpx.get(url, trust_env=False)
            break
        except httpx.TransportError:
            time.sleep(0.05)
    yield process, url
    process.kill()
    process.wait()


@pytest.mark.parametrize("served", [60], indirect=True)
def test_it_ends_when_it_is_told_not_when_its_clock_comes_round(
    served: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, url = served
    assert httpx.get(url, trust_env=False).text == "here"
    process.send_signal(signal.SIGTERM)
    process.wait(20)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_sleeps_while_nobody_asks(served: tuple[subprocess.Popen[bytes], str]) -> None:
    process, _ = served
    before = _wakes(process.pid)
    time.sleep(3)
    assert _wakes(process.pid) - before <= 10


def test_its_answers_tell_the_time(served: tuple[subprocess.Popen[bytes], str]) -> None:
    _, url = served
    first = httpx.get(url, trust_env=False).headers["date"]
    for _ in range(100):
        if httpx.get(url, trust_env=False).headers["date"] != first:
            return
        time.sleep(0.1)
    raise AssertionError(f"it is still {first}")


def test_a_start_that_fails_says_so(served: tuple[subprocess.Popen[bytes], str]) -> None:
    _, url = served
    again = subprocess.run([sys.executable, "-c", PROGRAM, url.rpartition(":")[2], "1"], timeout=30, check=False)
    assert again.returncode != 0


def _wakes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])
