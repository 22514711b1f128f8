"""The running platform that a benchmark measures, and the machine it runs on."""

import argparse
import json
import os
import platform as host
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

ROOT = Path(__file__).parent.parent


def machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cores": os.cpu_count(), "memoryGiB": round(memory, 1), "python": host.python_version(), "os": sys.platform}


@dataclass
class Platform:
    url: str
    key: str
    database_url: str

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--url")
        parser.add_argument("--key-file", type=Path)
        parser.add_argument("--database-url")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Platform":
        url, key_file, database_url = arguments.url, arguments.key_file, arguments.database_url
        if not url:
            told = _status()
            url, key_file = told["url"], Path(told["api_key_file"])
            database_url = database_url or _local_database_url(key_file.parent)
        return cls(url, key_file.read_text().splitlines()[0], database_url)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def ensure_project(self, name: str) -> None:
        async with (
            aiohttp.ClientSession(self.url, headers=self.headers) as session,
            session.post("/api/projects", json={"name": name}) as answer,
        ):
            assert answer.status in {201, 409}, await answer.text()

    async def upload(self, project: str, name: str, content: bytes) -> str:
        form = aiohttp.FormData()
        form.add_field("name", name)
        form.add_field("project", project)
        form.add_field("file", content, filename=f"{name}.jsonl")
        async with (
            aiohttp.ClientSession(self.url, headers=self.headers) as session,
            session.post("/api/datasets", data=form) as answer,
        ):
            body = await answer.json(content_type=None)
            assert answer.status in {200, 201}, body
            return str(body["id"])

    async def quiet(self, project: str) -> None:
        """Jobs of this project stay queued: what is measured is their storing, not their running."""
        async with (
            aiohttp.ClientSession(self.url, headers=self.headers) as session,
            session.patch(f"/api/projects/{project}", json={"maxRunningJobs": 0}) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def clear(self, project: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("DELETE FROM jobs WHERE project = %s", (project,))
            connection.execute("VACUUM ANALYZE jobs")


def gateway_url() -> str:
    return str(_status()["gateway_url"])


def _status() -> dict[str, Any]:
    status = subprocess.run([ROOT / "imts", "status", "--json"], capture_output=True, text=True, check=False)
    told: dict[str, Any] = json.loads(status.stdout)
    if not told["ready"]:
        raise SystemExit("The platform is not up: run ./imts up -d first.")
    return told


def _local_database_url(secrets: Path) -> str:
    told = os.environ.get("IMTS_DATABASE_URL")
    if told:
        return told
    password = (secrets / "postgres-password").read_text().strip()
    port = 15432 + int(os.environ.get("IMTS_PORT_OFFSET", "0"))
    return f"postgresql://imts:{password}@127.0.0.1:{port}/imts"


def wait_until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)
