"""What this worker has to say to the control plane: engines' lines and messages, in numbered batches."""

from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import orjson

from imts_shared.contracts.serving import ReportedDeploymentLine, ReportedDeploymentMessage
from imts_shared.worker.masking import Mask
from inference_service.keys import Key

MOST_LINES = 20_000
LINES_A_BATCH = 2_000
MOST_MESSAGES = 1_000
FILE_BYTES = 8 * 2**20


class Said:
    """A batch that nobody acknowledged is said again under its number, so that each line is stored once."""

    def __init__(self) -> None:
        self.number = 1
        self._lines: deque[ReportedDeploymentLine] = deque(maxlen=MOST_LINES)
        self._messages: deque[ReportedDeploymentMessage] = deque(maxlen=MOST_MESSAGES)
        self._batch: tuple[list[ReportedDeploymentLine], list[ReportedDeploymentMessage]] | None = None

    def line(self, key: Key, at: datetime, text: str) -> None:
        self._lines.append(
            ReportedDeploymentLine(
                deployment_id=key.deployment_id, revision=key.revision, replica=key.number, at=at, text=text
            )
        )

    def message(self, deployment_id: str, text: str) -> None:
        now = datetime.now(UTC)
        self._messages.append(ReportedDeploymentMessage(deployment_id=deployment_id, at=now, text=text[:4_000]))

    def batch(self) -> tuple[list[ReportedDeploymentLine], list[ReportedDeploymentMessage]]:
        if self._batch is None:
            lines = [self._lines.popleft() for _ in range(min(len(self._lines), LINES_A_BATCH))]
            messages = list(self._messages)
            self._messages.clear()
            self._batch = lines, messages
        return self._batch

    def heard(self) -> None:
        self.number += 1
        self._batch = None

    @property
    def more(self) -> bool:
        return bool(self._lines or self._messages)


class LineSink:
    """An engine's lines: masked, kept in a file that does not grow for ever, and told."""

    def __init__(self, said: Said, key: Key, file: Path, secrets: list[str]) -> None:
        self._said = said
        self._key = key
        self._path = file
        self._mask = Mask(secrets)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a")

    def take(self, encoded: bytes) -> str:
        """Gives back the text."""
        told = orjson.loads(self._mask(encoded))
        text: str = told["text"]
        if not text.strip():
            return text
        self._file.write(f"{told['at']} {text}\n")
        self._file.flush()
        if self._file.tell() > FILE_BYTES:
            self._file.close()
            self._path.replace(self._path.with_suffix(".1.log"))
            self._file = self._path.open("a")
        self._said.line(self._key, datetime.fromisoformat(told["at"]), text)
        return text

    def close(self) -> None:
        self._file.close()
