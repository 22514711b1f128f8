"""Asking the training service what it thinks of a job before the job is stored."""

from typing import Any

import httpx
from loguru import logger
from pydantic import ValidationError

from control_plane.problems import Refusal
from imts_shared.contracts.internal import DatasetInput, Device
from imts_shared.contracts.models import ModelInput
from imts_shared.contracts.problems import FieldProblem
from imts_shared.contracts.training import CheckRequest, TrainingCheck

PATIENCE_SECONDS = 20.0
"""The service imports frameworks for ten seconds after its start, and answers within milliseconds from then on."""

UNCHECKED = "The training service did not answer: the job is checked when it starts."


class Checker:
    def __init__(self, url: str, service_key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {service_key}"},
            timeout=httpx.Timeout(PATIENCE_SECONDS, connect=2),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def checked(
        self, spec: dict[str, Any], inputs: list[DatasetInput], models: list[ModelInput], devices: list[Device]
    ) -> dict[str, Any]:
        """The specification with what the check adds to it; a Refusal when it found an error. A service that is away
        holds nobody up."""
        found = await self._ask(CheckRequest(spec=spec, inputs=inputs, models=models, devices=devices))
        if found is None:
            return {**spec, "warnings": [UNCHECKED]}
        if not found.ok:
            raise _refusal(found)
        warnings = [f"{note.field}: {note.message}" for note in found.notes]
        added: dict[str, Any] = {"warnings": warnings} if warnings else {}
        if found.estimate is not None:
            added["estimate"] = found.estimate.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {**spec, **added}

    async def _ask(self, request: CheckRequest) -> TrainingCheck | None:
        try:
            answer = await self._http.post(
                "/check",
                content=request.model_dump_json(by_alias=True),
                headers={"content-type": "application/json"},
            )
            answer.raise_for_status()
            return TrainingCheck.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            logger.bind(error=str(error)[:300]).warning("a training job could not be checked")
            return None


def _refusal(found: TrainingCheck) -> Refusal:
    errors = [note for note in found.notes if note.level == "error"]
    first = errors[0]
    return Refusal(
        422,
        "bad_config",
        first.message,
        field=first.field,
        hint=first.hint,
        errors=[
            FieldProblem(field=note.field, code="bad_config", message=note.message, hint=note.hint) for note in errors
        ],
    )
