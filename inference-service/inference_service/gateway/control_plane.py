"""The two calls that the gateway makes to the control plane, with the services' key."""

import aiohttp
from pydantic import SecretStr, ValidationError

from imts_shared.contracts.problems import Problem
from imts_shared.contracts.serving import Snapshot

HELD_SECONDS = 25
ANSWER_SECONDS = 10


class Unanswered(Exception):
    """It is away, or says what cannot be understood: asking again later may do."""


class Declined(Exception):
    """It answered, and the answer is no; the message is its own."""


class ControlPlane:
    def __init__(self, session: aiohttp.ClientSession, url: str, key: SecretStr) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key.get_secret_value()}"}

    async def snapshot(self, version: str | None) -> Snapshot | None:
        """Held open there until there is a newer one than `version`; None: there was none in that time."""
        asked = {"wait": str(HELD_SECONDS if version else 0)} | ({"version": version} if version else {})
        status, content = await self._ask(
            "GET", "/internal/gateway/snapshot", asked, HELD_SECONDS + ANSWER_SECONDS if version else ANSWER_SECONDS
        )
        if status in {204, 304}:
            return None
        if status != 200:
            raise Unanswered(f"the control plane answered {status} to the snapshot")
        try:
            return Snapshot.model_validate_json(content)
        except ValidationError as error:
            raise Unanswered(f"the snapshot is not what it should be: {error.error_count()} faults") from error

    async def wake(self, deployment_id: str) -> None:
        status, content = await self._ask("POST", f"/internal/deployments/{deployment_id}/wake", {}, ANSWER_SECONDS)
        if 400 <= status < 500:
            raise Declined(_detail(content) or f"The control plane declined ({status}).")
        if status >= 300:
            raise Unanswered(f"the control plane answered {status} to the wake")

    async def _ask(self, method: str, path: str, asked: dict[str, str], seconds: float) -> tuple[int, bytes]:
        try:
            async with self._session.request(
                method,
                self._url + path,
                params=asked,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Unanswered(str(error) or type(error).__name__) from error


def _detail(content: bytes) -> str | None:
    try:
        return Problem.model_validate_json(content).detail
    except ValidationError:
        return None
