"""Models and checkpoints."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from imts_client.blocking.transport import Transport
from imts_client.calls import models as calls
from imts_client.uploads import Told
from imts_shared.contracts.models import CheckpointList, Lineage, Model, ModelFiles, ModelKind, Verification


class Models:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
        self,
        name: str,
        source: str,
        *,
        template: str | None = None,
        trust_remote_code: bool = False,
        project: str | None = None,
    ) -> Model:
        """A base model; the source is `builtin:...`, a hub id or an absolute path."""
        return self._transport.send(calls.add(name, source, template, trust_remote_code, project))

    def list(
        self,
        *,
        text: str | None = None,
        kinds: Sequence[ModelKind | str] = (),
        job_id: str | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> Iterator[Model]:
        return self._transport.every(calls.find(text, kinds, job_id, project), most)

    def get(self, model: str) -> Model:
        """By id, by name, or by `name@version`."""
        return self._transport.send(calls.get(model))

    def change(self, model: str, *, template: str | None = None, trust_remote_code: bool | None = None) -> Model:
        return self._transport.send(calls.change(model, template, trust_remote_code))

    def lineage(self, model: str) -> Lineage:
        return self._transport.send(calls.lineage(model))

    def card(self, model: str) -> str:
        with self._transport.download(calls.card(model)) as (_, pieces):
            return b"".join(list(pieces)).decode()

    def files(self, model: str) -> ModelFiles:
        return self._transport.send(calls.files(model))

    def verify(self, model: str) -> Verification:
        """The platform reads every file: a large model takes minutes."""
        return self._transport.send(calls.verify(model))

    def download(self, model: str, to: str | Path, *, told: Told | None = None) -> None:
        """Every file into the folder `to`; each is whole or not there."""
        folder = Path(to)
        model_id = self.get(model).id
        for file in self.files(model_id).items:
            self._download(model_id, file.path, calls.place_in(folder, file.path), told)

    def _download(self, model: str, file: str, target: Path, told: Told | None) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        try:
            with self._transport.download(calls.download(model, file)) as (size, pieces), part.open("wb") as opened:
                for piece in pieces:
                    opened.write(piece)
                    if told is not None:
                        told(opened.tell(), size or 0)
            part.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()

    def delete(self, model: str) -> None:
        self._transport.send(calls.delete(model))

    def checkpoints(self, job_id: str) -> CheckpointList:
        """A job's, newest first."""
        return self._transport.send(calls.checkpoints(job_id))

    def promote(self, job_id: str, step: int, *, name: str | None = None) -> Model:
        """Makes a checkpoint a model; promoting it again answers the same one."""
        return self._transport.send(calls.promote(job_id, step, name))
