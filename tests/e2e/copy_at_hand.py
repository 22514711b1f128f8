"""A copy of the platform as `./imts` makes and runs it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent.parent


class Imts:
    def __init__(self, home: Path, offset: int) -> None:
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IMTS_")},
            "IMTS_HOME": str(home),
            "IMTS_PORT_OFFSET": str(offset),
        }

    def run(self, *arguments: str, expect: int = 0, seconds: float = 240) -> str:
        done = subprocess.run(
            [ROOT / "imts", *arguments],
            env=self.environment, capture_output=True, text=True, check=False, timeout=seconds,
        )  # fmt: skip
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if expect == 0 else done.stderr

    def told(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments))


class Platform:
    """One that is up, by its REST API with the admin's key."""

    def __init__(self, imts: Imts) -> None:
        status = imts.told("status", "--json")
        self.imts = imts
        self.services = {service["name"]: service for service in status["services"]}
        self.gateway_url = status["gateway_url"]
        self.key = Path(status["api_key_file"]).read_text().splitlines()[0]
        self.headers = {"Authorization": f"Bearer {self.key}"}
        self.http = httpx.Client(base_url=status["url"], headers=self.headers, timeout=60)
