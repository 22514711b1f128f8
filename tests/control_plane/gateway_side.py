"""What tests of the gateway's side of the control plane share."""

from datetime import UTC, datetime
from typing import Any

import httpx

from tests.conftest import SERVICE_KEY

PROVIDER_KEY = "sk-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


def provider(name: str = "claude", **fields: Any) -> dict[str, Any]:
    """An address in the world that no resolver has to be asked for."""
    return {
        "name": name,
        "kind": "openai",
        "baseUrl": "https://93.184.215.14/v1",
        "apiKey": PROVIDER_KEY,
        "models": [{"name": "gpt-5", "inputPrice": 1.25, "outputPrice": 10}],
    } | fields


class GatewaySide:
    """One life of a gateway: it tells parts in their order."""

    def __init__(self, url: str, gateway: str = "gateway-1") -> None:
        self.http = httpx.AsyncClient(
            base_url=f"{url}/internal/gateway", timeout=30, headers={"Authorization": f"Bearer {SERVICE_KEY}"}
        )
        self.gateway = gateway
        self.number = 0

    async def report(self, number: int | None = None, **told: Any) -> httpx.Response:
        """As gateways write it: all lists, in this order."""
        self.number = self.number + 1 if number is None else number
        lists = {kind: told.get(kind, []) for kind in ("used", "decisions", "feedback", "requests")}
        return await self.http.post("/reports", json={"gateway": self.gateway, "number": self.number, **lists})

    async def written(self, body: bytes | str) -> httpx.Response:
        return await self.http.post("/reports", content=body, headers={"content-type": "application/json"})

    async def told(self, **told: Any) -> dict[str, Any]:
        answer = await self.report(**told)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def snapshot(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.get("/snapshot")
        return found


def used(**fields: Any) -> dict[str, Any]:
    return {
        "day": "2026-11-21",
        "keyId": "00000000-0000-7000-8000-000000000001",
        "project": "default",
        "model": "gpt-5",
        "upstream": "openai",
        "requests": 1,
        "inputTokens": 100,
        "outputTokens": 10,
        "cost": 0.1,
    } | fields


def decision(decision_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "decisionId": decision_id,
        "model": "gpt-5",
        "reason": "best for German law questions",
        "route": "auto",
        "project": "default",
        "policy": "thompson",
        "features": {"language": "de", "domain": "law", "complexity": 0.4},
        "context": [1.0, 0.25, -3.5],
        "candidates": [{"model": "gpt-5", "score": 0.8, "propensity": 0.75, "quality": 0.9}],
        "at": datetime.now(UTC).isoformat(),
        "keyId": "00000000-0000-7000-8000-000000000001",
        "result": {"failed": False, "cost": 0.01, "latencySeconds": 1.5, "inputTokens": 100, "outputTokens": 10},
    } | fields


def feedback(decision_id: str, **fields: Any) -> dict[str, Any]:
    return {"decisionId": decision_id, "rating": 5, "at": datetime.now(UTC).isoformat()} | fields


def logged(request_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "requestId": request_id,
        "at": datetime.now(UTC).isoformat(),
        "project": "default",
        "keyId": "00000000-0000-7000-8000-000000000001",
        "model": "gpt-5",
        "asked": "auto",
        "upstream": "openai",
        "status": 200,
        "seconds": 1.5,
        "inputTokens": 100,
        "outputTokens": 10,
    } | fields
