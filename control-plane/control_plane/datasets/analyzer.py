"""Asking the analyzer service, which reads files so that the control plane need not."""

import httpx

from imts_shared.contracts.datasets import DatasetFormat, FileType, Inspection, PreviewAnswer
from imts_shared.contracts.problems import Problem

INSPECT_SECONDS = 3_600.0
"""A file of many gigabytes takes its time; a silent analyzer is noticed by its connection."""


class AnalyzerAway(Exception):
    """The analyzer does not answer, or not sensibly; what was asked can be asked again later."""


class AnalyzerFailed(AnalyzerAway):
    """The analyzer answered that it cannot read this very file; asked again, it would say the same."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_FINAL = {"inspection_failed", "no_such_file", "bad_key"}


class Analyzer:
    def __init__(self, url: str, service_key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {service_key}"},
            timeout=httpx.Timeout(30, connect=3),
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def inspect(self, key: str, file_name: str, asked: DatasetFormat | None) -> Inspection:
        body: dict[str, object] = {"key": key, "fileName": file_name, "format": asked}
        return Inspection.model_validate(await self._ask("/inspect", body, INSPECT_SECONDS))

    async def preview(self, key: str, file_type: FileType, offset: int, limit: int) -> PreviewAnswer:
        body: dict[str, object] = {"key": key, "fileType": file_type, "offset": offset, "limit": limit}
        return PreviewAnswer.model_validate(await self._ask("/preview", body, 60))

    async def _ask(self, path: str, body: dict[str, object], seconds: float) -> object:
        try:
            answer = await self._http.post(path, json=body, timeout=httpx.Timeout(seconds, connect=3))
        except httpx.TransportError as error:
            raise AnalyzerAway(f"the analyzer does not answer: {type(error).__name__}") from error
        if answer.status_code == 200:
            return answer.json()
        if answer.headers.get("content-type", "").startswith("application/problem+json"):
            problem = Problem.model_validate_json(answer.content)
            if problem.code in _FINAL:
                raise AnalyzerFailed(problem.code, problem.detail)
        raise AnalyzerAway(f"the analyzer answered {answer.status_code}: {answer.text[:200]}")
