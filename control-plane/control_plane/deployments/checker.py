"""Asking an inference worker what it thinks of an engine's arguments before they are stored."""

from typing import Any

from control_plane.checks import Checks, settled
from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.serving import EngineCheck, EngineCheckRequest

PATIENCE_SECONDS = 10.0
UNCHECKED = "No inference worker answered: the engine checks its arguments when it starts."


class EngineChecker:
    def __init__(self, url: str, service_key: str) -> None:
        self._checks = Checks(url, service_key, PATIENCE_SECONDS)

    async def close(self) -> None:
        await self._checks.close()

    async def check(self, engine: Engine, arguments: dict[str, Any]) -> list[str]:
        """What there is to say about them; a Refusal when the engine would not take them. With nobody to ask, the
        engine's start shows it."""
        if not arguments:
            return []
        found = await self._checks.ask(EngineCheckRequest(engine=engine, engine_args=arguments), EngineCheck)
        return [UNCHECKED] if found is None else settled(found.notes, "bad_arguments")
