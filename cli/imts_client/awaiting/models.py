"""Models and checkpoints."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import models as calls
from imts_client.uploads import Told
from imts_shared.contracts.models import CheckpointList, Lineage, Model, ModelFiles, ModelKind, Verification


class AsyncModels:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def add(
        self,
        name: str,
        source: str,
        *,
        template: str | None = None,
        trust_remote_code: bool = False,
        project: str | None = None,
    ) -> Model:
        """A base model; the source is `builtin:...`, a hub id or an absolute path."""
        return await self._transport.send(calls.add(name, source, template, trust_remote_code, project))

    def list(
        self,
        *,
        text: str | None = None,
        kinds: Sequence[ModelKind | str] = (),
        job_id: str | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> AsyncIterator[Model]:
        return self._transport.every(calls.find(text, kinds, job_id, project), most)

    async def get(self, model: str) -> Model:
        """By id, by name, or by `name@version`."""
        return await self._transport.send(calls.get(model))

    async def change(self, model: str, *, template: str | None = None, trust_remote_code: bool | None = None) -> Model:
        return await self._transport.send(calls.change(model, template, trust_remote_code))

    async def lineage(self, model: str) -> Lineage:
        return await self._transport.send(calls.lineage(model))

    async def card(self, model: str) -> str:
        async with self._transport.download(calls.card(model)) as (_, pieces):
            return b"".join([piece async for piece in pieces]).decode()

    async def files(self, model: str) -> ModelFiles:
        return await self._transport.send(calls.files(model))

    async def verify(self, model: str) -> Verification:
        """The platform reads every file: a large model takes minutes."""
        return await self._transport.send(calls.verify(model))

    async def download(self, model: str, to: str | Path, *, told: Told | None = None) -> None:
        """Every file into the folder `to`; each is whole or not there."""
        folder = Path(to)
        model_id = (await self.get(model)).id
        for file in (await self.files(model_id)).items:
            await self._download(model_id, file.path, calls.place_in(folder, file.path), told)

    async def _download(self, model: str, file: str, target: Path, told: Told | None) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        try:
            async with self._transport.download(calls.download(model, file)) as (size, pieces):
                with part.open("wb") as opened:
                    async for piece in pieces:
                        opened.write(piece)
                        if told is not None:
                            told(opened.tell(), size or 0)
            part.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()

    async def delete(self, model: str) -> None:
        await self._transport.send(calls.delete(model))

    async def checkpoints(self, job_id: str) -> CheckpointList:
        """A job's, newest first."""
        return await self._transport.send(calls.checkpoints(job_id))

    async def promote(self, job_id: str, step: int, *, name: str | None = None) -> Model:
        """Makes a checkpoint a model; promoting it again answers the same one."""
        return await self._transport.send(calls.promote(job_id, step, name))
