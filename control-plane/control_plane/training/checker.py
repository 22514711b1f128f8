"""Asking the training service what it thinks of a job before the job is stored."""

from typing import Any

from control_plane.checks import Checks, settled
from imts_shared.contracts.internal import DatasetInput, Device
from imts_shared.contracts.models import ModelInput
from imts_shared.contracts.training import CheckRequest, TrainingCheck

PATIENCE_SECONDS = 20.0
"""The service imports frameworks for ten seconds after its start, and answers within milliseconds from then on."""

UNCHECKED = "The training service did not answer: the job is checked when it starts."


class Checker:
    def __init__(self, url: str, service_key: str) -> None:
        self._checks = Checks(url, service_key, PATIENCE_SECONDS)

    async def close(self) -> None:
        await self._checks.close()

    async def checked(
        self, spec: dict[str, Any], inputs: list[DatasetInput], models: list[ModelInput], devices: list[Device]
    ) -> dict[str, Any]:
        """The specification with what the check adds to it; a Refusal when it found an error."""
        request = CheckRequest(spec=spec, inputs=inputs, models=models, devices=devices)
        found = await self._checks.ask(request, TrainingCheck)
        if found is None:
            return {**spec, "warnings": [UNCHECKED]}
        warnings = settled(found.notes, "bad_config")
        added: dict[str, Any] = {"warnings": warnings} if warnings else {}
        if found.estimate is not None:
            added["estimate"] = found.estimate.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {**spec, **added}
