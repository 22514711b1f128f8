"""What proves an engine alive that is never free for a token of ours."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from inference_service.engines.speaking import EngineClient
from inference_service.worker import health


@contextmanager
def busy(decodes_each: int) -> Iterator[str]:
    """As llama.cpp's server: tokens are counted when an answer is whole, decodes as they are made."""
    decodes = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal decodes
            decodes += decodes_each
            self.send_response(200)
            self.end_headers()
            self.wfile.write(
                b"llamacpp:requests_processing 4\nllamacpp:tokens_predicted_total 0\nllamacpp:n_decode_total %d\n"
                % decodes
            )

        def do_POST(self) -> None:
            self.send_error(503, "all slots are taken")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROOF_SECONDS", 0.05)


async def look(url: str) -> None:
    client = EngineClient(url, "one")
    one = health.Health(client)
    try:
        for _ in range(6):
            await asyncio.sleep(0.06)
            await one.look()
    finally:
        await client.close()


async def test_one_that_works_at_long_answers_is_alive() -> None:
    with busy(decodes_each=3) as url:
        await look(url)


async def test_one_that_only_says_so_is_not() -> None:
    with busy(decodes_each=0) as url, pytest.raises(health.Unhealthy, match="all slots are taken"):
        await look(url)
