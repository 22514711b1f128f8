"""Asking an inference worker what it thinks of an engine's arguments before they are stored."""

from typing import Any

import httpx
from loguru import logger
from pydantic import ValidationError

from control_plane.problems import Refusal
from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.problems import FieldProblem
from imts_shared.contracts.serving import EngineCheck, EngineCheckRequest

PATIENCE_SECONDS = 10.0


class EngineChecker:
    def __init__(self, url: str, service_key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {service_key}"},
            timeout=httpx.Timeout(PATIENCE_SECONDS, connect=2),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def check(self, engine: Engine, arguments: dict[str, Any]) -> list[str]:
        """What there is to say about them; a Refusal when the engine would not take them. A worker that is away holds
        nobody up: the engine's start shows it then."""
        if not arguments:
            return []
        found = await self._ask(EngineCheckRequest(engine=engine, engine_args=arguments))
        if found is None:
            return ["No inference worker answered: the engine checks its arguments when it starts."]
        errors = [note for note in found.notes if note.level == "error"]
        if not found.ok and errors:
            first = errors[0]
            raise Refusal(
                422,
                "bad_arguments",
                first.message,
                field=first.field,
                hint=first.hint,
                errors=[
                    FieldProblem(field=note.field, code="bad_arguments", message=note.message, hint=note.hint)
                    for note in errors
                ],
            )
        return [f"{note.field}: {note.message}" for note in found.notes]

    async def _ask(self, request: EngineCheckRequest) -> EngineCheck | None:
        try:
            answer = await self._http.post(
                "/check",
                content=request.model_dump_json(by_alias=True),
                headers={"content-type": "application/json"},
            )
            answer.raise_for_status()
            return EngineCheck.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            logger.bind(error=str(error)[:300]).warning("engine arguments could not be checked")
            return None
