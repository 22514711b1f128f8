"""Asking a service what it thinks of a request before it is stored."""

from collections.abc import Sequence
from typing import TypeVar

import httpx
from loguru import logger
from pydantic import BaseModel, ValidationError

from control_plane.problems import Refusal
from imts_shared.contracts.problems import FieldNote, FieldProblem

_Found = TypeVar("_Found", bound=BaseModel)


class Checks:
    def __init__(self, url: str, service_key: str, patience_seconds: float) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {service_key}"},
            timeout=httpx.Timeout(patience_seconds, connect=2),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, request: BaseModel, kind: type[_Found]) -> _Found | None:
        """None when nobody answers: a service that is away holds nobody up."""
        try:
            answer = await self._http.post(
                "/check",
                content=request.model_dump_json(by_alias=True),
                headers={"content-type": "application/json"},
            )
            answer.raise_for_status()
            return kind.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            logger.bind(service=str(self._http.base_url), error=str(error)[:300]).warning("nothing could be checked")
            return None


def settled(notes: Sequence[FieldNote], code: str) -> list[str]:
    """The warnings among them; a Refusal of all the errors, where there are some."""
    errors = [
        FieldProblem(field=note.field, code=code, message=note.message, hint=note.hint)
        for note in notes
        if note.level == "error"
    ]
    if errors:
        first = errors[0]
        raise Refusal(422, code, first.message, field=first.field, hint=first.hint, errors=errors)
    return [f"{note.field}: {note.message}" for note in notes]
