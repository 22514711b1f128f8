"""What other policies would have been worth on what a route has decided: reckoned in a process of its own, one at a
time, so that requests are answered meanwhile."""

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from loguru import logger
from pydantic import Field, ValidationError

from imts_shared.contracts.base import Request
from imts_shared.contracts.routes import AUTO, RouteSettings
from inference_service.gateway.errors import Refusal, unavailable
from inference_service.gateway.reckoning import FIXED, KNOWN, MOST_POLICIES, Found, Task

MOST = 20_000
AGAIN_SECONDS = 10
SAID_BYTES = 2_000
MODULE = "inference_service.gateway.reckoning"


class EvaluateRequest(Request):
    route: str = Field(AUTO, min_length=1, max_length=100)
    policies: list[str] = Field(default_factory=list, max_length=MOST_POLICIES)
    from_: datetime | None = Field(None, alias="from")
    to: datetime | None = None

    def query(self) -> dict[str, str]:
        """A time without a zone is UTC's."""
        times = {"from": self.from_, "to": self.to}
        told = {name: at if at.tzinfo else at.replace(tzinfo=UTC) for name, at in times.items() if at is not None}
        return {"route": self.route, **{name: at.isoformat() for name, at in told.items()}}


class Replay:
    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._busy = False

    async def value(
        self, headers: Mapping[str, str], project: str, asked: EvaluateRequest, settings: RouteSettings
    ) -> dict[str, Any]:
        """With the caller's own key; of the decisions that he sees, those of the project."""
        for policy in asked.policies:
            if policy not in KNOWN and not policy.startswith(FIXED):
                known = f"{', '.join(KNOWN)} or {FIXED} and a model's name"
                raise Refusal(
                    400, f"A policy is {known}, not `{policy[:100]}`.", code="invalid_request", param="policies"
                )
        if self._busy:
            told = {"retry-after": str(AGAIN_SECONDS)}
            message = "Another evaluation is under way here: one runs at a time."
            raise Refusal(429, message, code="evaluation_under_way", headers=told)
        self._busy = True
        try:
            found = await self._found(headers, project, asked, settings)
        finally:
            self._busy = False
        if found.declined is not None:
            raise Refusal(403, found.declined, code="not_allowed")
        if found.away is not None:
            message = "The control plane cannot be asked: try again."
            raise unavailable(message, "control_plane_away", retry_after=5)
        valued: dict[str, Any] = {"route": asked.route, "decisions": found.decisions, "policies": found.policies}
        if found.cut:
            valued["note"] = (
                f"There are more decisions: only the newest {MOST} count here. Name a time with from and to."
            )
        return valued

    async def _found(
        self, headers: Mapping[str, str], project: str, asked: EvaluateRequest, settings: RouteSettings
    ) -> Found:
        task = Task(
            url=self._url,
            headers=dict(headers),
            query={**asked.query(), "project": project},
            policies=asked.policies,
            settings=RouteSettings.model_validate(settings.model_dump(include=set(RouteSettings.model_fields))),
            most=MOST,
            seconds=self._seconds,
        )
        try:
            async with asyncio.timeout(self._seconds):
                return Found.model_validate_json(await _apart(task.model_dump_json().encode()))
        except TimeoutError:
            message = (
                f"The evaluation took longer than {self._seconds:g} seconds: name a shorter time with from and to."
            )
            raise Refusal(504, message, code="evaluation_timeout", param="from") from None
        except ValidationError:
            raise Refusal(500, "The evaluation failed; the gateway's log says how.", code="gateway_error") from None


async def _apart(task: bytes) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        found, said = await process.communicate(task)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        logger.error("evaluation failed", status=process.returncode, said=said[-SAID_BYTES:].decode(errors="replace"))
    return found
