"""Data sets."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import datasets as calls
from imts_client.uploads import Told, Upload
from imts_shared.contracts.datasets import Dataset, DatasetFormat, DatasetPreview, RowProblem


class AsyncDatasets:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def add(
        self,
        file: str | Path,
        name: str | None = None,
        *,
        format: DatasetFormat | str | None = None,
        project: str | None = None,
        told: Told | None = None,
    ) -> Dataset:
        """Streams a file of any size; the name is the file's own unless given."""
        upload = Upload(Path(file), told)
        return await self._transport.send(calls.add(upload, name or calls.default_name(Path(file)), format, project))

    def list(
        self,
        *,
        text: str | None = None,
        format: DatasetFormat | str | None = None,
        all_versions: bool = False,
        most: int | None = None,
    ) -> AsyncIterator[Dataset]:
        return self._transport.every(calls.find(text, format, all_versions), most)

    async def get(self, dataset: str) -> Dataset:
        """By id, by name, or by `name@version`."""
        return await self._transport.send(calls.get(dataset))

    def versions(self, dataset: str, *, most: int | None = None) -> AsyncIterator[Dataset]:
        return self._transport.every(calls.versions(dataset), most)

    def problems(self, dataset: str, *, most: int | None = None) -> AsyncIterator[RowProblem]:
        return self._transport.every(calls.problems(dataset), most)

    async def preview(self, dataset: str, *, offset: int = 0, limit: int = 20) -> DatasetPreview:
        return await self._transport.send(calls.preview(dataset, offset, limit))

    async def download(self, dataset: str, to: str | Path, *, told: Told | None = None) -> None:
        """Writes beside `to` first, so that `to` is whole or not there."""
        target = Path(to)
        part = target.with_name(f"{target.name}.part")
        try:
            async with self._transport.download(calls.download(dataset)) as (size, pieces):
                with part.open("wb") as file:
                    async for piece in pieces:
                        file.write(piece)
                        if told is not None:
                            told(file.tell(), size or 0)
            part.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()

    async def delete(self, dataset: str) -> None:
        await self._transport.send(calls.delete(dataset))
