"""What the gateway's benchmarks need of the platform that runs: providers, a route, and a key with limits that hold
nobody up; all of it is taken away again."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from platform_at_hand import _status

PLENTY = {
    "requestsPerMinute": 10**9, "tokensPerMinute": 10**12, "tokenBudget": 10**14, "moneyBudget": 10**9,
    "budgetPeriod": "month",
}  # fmt: skip


@dataclass
class Bench:
    gateway: str
    key: str
    key_id: str
    route: str
    models: list[str]
    project: str
    client: httpx.Client
    pid: int

    @classmethod
    @contextlib.contextmanager
    def made(cls, *upstreams: str) -> Iterator["Bench"]:
        told = _status()
        admin = Path(told["api_key_file"]).read_text().splitlines()[0]
        mark = secrets.token_hex(3)
        headers = {"authorization": f"Bearer {admin}"}
        with httpx.Client(base_url=told["url"], headers=headers, trust_env=False, timeout=30) as client:
            project = f"bench-{mark}"
            _done(client.post("/api/projects", json={"name": project, "limits": PLENTY}))
            ups = upstreams if len(upstreams) > 1 else upstreams * 2
            models = [f"bench-{mark}-{letter}" for letter in "ab"] if len(upstreams) == 1 else [f"bench-{mark}"] * 3
            providers = [
                _done(
                    client.post(
                        "/api/providers",
                        json={
                            "name": f"bench-{mark}-{number}", "kind": "openai", "baseUrl": f"{up}/v1",
                            "apiKey": "none", "allowInternal": True, "project": project,
                            "models": [{"name": name, "inputPrice": 1, "outputPrice": 2}],
                        },
                    )
                )
                for number, (name, up) in enumerate(zip(models, ups, strict=False))
            ]  # fmt: skip
            route = {"name": f"bench-{mark}-route", "project": project, "models": sorted(set(models))}
            _done(client.post("/api/routes", json=route))
            made = _done(
                client.post(
                    "/api/keys", json={"name": project, "role": "inference", "project": project, "limits": PLENTY}
                )
            )
            gateway = told["gateway_url"]
            bench = cls(gateway, made["key"], made["id"], route["name"], models, project, client, _pid(gateway))
            try:
                bench.until_known()
                yield bench
            finally:
                for one in providers:
                    client.delete(f"/api/providers/{one['id']}")
                client.delete(f"/api/routes/{route['name']}", params={"project": project})
                client.delete(f"/api/keys/{made['id']}")

    def until_known(self) -> None:
        for _ in range(100):
            answer = httpx.get(
                f"{self.gateway}/v1/models", headers={"authorization": f"Bearer {self.key}"}, trust_env=False
            )
            if answer.status_code == 200 and {one["id"] for one in answer.json()["data"]} >= {self.route}:
                return
        raise SystemExit("the gateway does not hear of the benchmark's route")

    def usage(self) -> dict[str, Any]:
        return dict(_done(self.client.get("/api/usage", params={"by": "model", "project": self.project}))["total"])

    def memory(self) -> float:
        return _kib(self.pid, "VmRSS") / 1024

    def most_memory(self) -> float:
        """The most that it ever took."""
        return _kib(self.pid, "VmHWM") / 1024


def _pid(gateway: str) -> int:
    return int(httpx.get(f"{gateway}/info", trust_env=False).json()["pid"])


def _kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


def _done(answer: httpx.Response) -> Any:
    if answer.status_code >= 300:
        raise SystemExit(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}")
    return answer.json()
