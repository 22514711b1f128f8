"""The calls that the gateway makes to the control plane, with the services' key."""

from collections.abc import Mapping
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from imts_shared.contracts.problems import Problem
from imts_shared.contracts.routes import Lesson, Lessons
from imts_shared.contracts.serving import Snapshot
from imts_shared.contracts.usage import ReportAnswer, SpentScope

HELD_SECONDS = 25
ANSWER_SECONDS = 10
LESSONS_AT_ONCE = 100

_SPENT = TypeAdapter(list[SpentScope])
_Answer = TypeVar("_Answer", bound=BaseModel)


class Unanswered(Exception):
    """It is away, or says what cannot be understood: asking again later may do."""


class Declined(Exception):
    """It answered, and the answer is no; the message is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


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
            raise Declined(_detail(content) or f"The control plane declined ({status}).", status)
        if status >= 300:
            raise Unanswered(f"the control plane answered {status} to the wake")

    async def report(self, content: bytes) -> ReportAnswer:
        return await self._told(ReportAnswer, "/internal/gateway/reports", content)

    async def feedback(self, gateway: str, content: bytes) -> Lesson:
        return await self._told(Lesson, "/internal/gateway/feedback", content, gateway=gateway)

    async def lessons(self, gateway: str, after: int, *, start: bool) -> Lessons:
        """Held open there until there are some; at the start, the newest that there are, this gateway's own among them.
        Few at once, as no request is answered while they are read."""
        asked = {"gateway": gateway, "after": str(after), "limit": str(LESSONS_AT_ONCE)}
        asked |= {"start": "true"} if start else {"wait": str(HELD_SECONDS)}
        return await self._got(Lessons, "/internal/gateway/lessons", asked, HELD_SECONDS + ANSWER_SECONDS)

    async def as_caller(
        self, kind: type[_Answer], path: str, asked: dict[str, str], headers: Mapping[str, str]
    ) -> _Answer:
        """With the key of who asks the gateway, and what it may see."""
        return _understood(kind, path, *await self._ask("GET", path, asked, ANSWER_SECONDS, headers=headers))

    async def spent(self) -> list[SpentScope]:
        status, content = await self._ask("GET", "/internal/gateway/spent", {}, ANSWER_SECONDS)
        if status != 200:
            raise Unanswered(f"the control plane answered {status} to what was spent")
        try:
            return _SPENT.validate_json(content)
        except ValidationError as error:
            raise Unanswered("what was spent is not told as it should be") from error

    async def _told(self, kind: type[_Answer], path: str, content: bytes, **asked: str) -> _Answer:
        return _understood(kind, path, *await self._ask("POST", path, asked, ANSWER_SECONDS, content))

    async def _got(self, kind: type[_Answer], path: str, asked: dict[str, str], seconds: float) -> _Answer:
        return _understood(kind, path, *await self._ask("GET", path, asked, seconds))

    async def _ask(
        self,
        method: str,
        path: str,
        asked: dict[str, str],
        seconds: float,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        told = dict(headers or self._headers)
        if content is not None:
            told["content-type"] = "application/json"
        try:
            async with self._session.request(
                method,
                self._url + path,
                params=asked,
                data=content,
                headers=told,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Unanswered(str(error) or type(error).__name__) from error


def _understood(kind: type[_Answer], path: str, status: int, content: bytes) -> _Answer:
    if 400 <= status < 500 and status not in {401, 408, 429}:
        raise Declined(_detail(content) or f"The control plane declined ({status}).", status)
    if status != 200:
        raise Unanswered(f"the control plane answered {status} to {path}")
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise Unanswered(f"the answer to {path} is not what it should be: {error.error_count()} faults") from error


def _detail(content: bytes) -> str | None:
    try:
        return Problem.model_validate_json(content).detail
    except ValidationError:
        return None
