"""The API against its own description: a schema-driven fuzzer finds no 5xx and nothing that is not documented."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import uvicorn

from control_plane.api.app import create_app
from control_plane.settings import ControlPlaneSettings
from tests.conftest import free_port
from tests.control_plane.conftest import NewKey


@pytest.fixture
def server(config: ControlPlaneSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Thousands of deliberately wrong keys are part of the fuzzing: their rate limit has a test of its own."""
    monkeypatch.setattr(config, "failed_keys_per_minute", 1_000_000)
    port = free_port()
    uvicorn_server = uvicorn.Server(uvicorn.Config(create_app(config), port=port, log_config=None))
    thread = threading.Thread(target=uvicorn_server.run, daemon=True)
    thread.start()
    while not uvicorn_server.started:
        thread.join(0.05)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{port}"
    uvicorn_server.should_exit = True
    thread.join(10)


@pytest.mark.timeout(600)
@pytest.mark.slow
async def test_schemathesis_finds_nothing(server: str, new_key: NewKey, tmp_path: Path, database_url: str) -> None:
    """A model is called as the fuzzer likes to call things, so that it gets past the names that nothing has."""
    key = await new_key()
    async with httpx.AsyncClient(base_url=server, headers={"Authorization": f"Bearer {key}"}) as client:
        base = {"name": "0", "source": "builtin:tiny-qwen3"}
        assert (await client.post("/api/models", json=base)).status_code == 201
    examples = os.environ.get("IMTS_TEST_FUZZ_EXAMPLES", "10")
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{server}/openapi.json",
        "--header",
        f"Authorization: Bearer {key}",
        "--phases=examples,coverage,fuzzing,stateful",
        f"--max-examples={examples}",
        "--continue-on-failure",
        "--suppress-health-check=all",
        "--generation-deterministic",
        "--request-timeout=20",
        "--no-color",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2_000:]
    assert " 0 generated" not in done.stdout
    with psycopg.connect(database_url) as connection:
        jobs = connection.execute("SELECT count(*) FROM jobs").fetchone()
    assert jobs is not None
    assert jobs[0] >= 20, f"the fuzzer made {jobs[0]} jobs\n{done.stdout[-3000:]}"
