"""Data sets."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from imts_client.blocking.transport import Transport
from imts_client.calls import datasets as calls
from imts_client.uploads import Told, Upload
from imts_shared.contracts.datasets import Dataset, DatasetFormat, DatasetPreview, RowProblem


class Datasets:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
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
        return self._transport.send(calls.add(upload, name or calls.default_name(Path(file)), format, project))

    def list(
        self,
        *,
        text: str | None = None,
        format: DatasetFormat | str | None = None,
        all_versions: bool = False,
        most: int | None = None,
    ) -> Iterator[Dataset]:
        return self._transport.every(calls.find(text, format, all_versions), most)

    def get(self, dataset: str) -> Dataset:
        """By id, by name, or by `name@version`."""
        return self._transport.send(calls.get(dataset))

    def versions(self, dataset: str, *, most: int | None = None) -> Iterator[Dataset]:
        return self._transport.every(calls.versions(dataset), most)

    def problems(self, dataset: str, *, most: int | None = None) -> Iterator[RowProblem]:
        return self._transport.every(calls.problems(dataset), most)

    def preview(self, dataset: str, *, offset: int = 0, limit: int = 20) -> DatasetPreview:
        return self._transport.send(calls.preview(dataset, offset, limit))

    def download(self, dataset: str, to: str | Path, *, told: Told | None = None) -> None:
        """Writes beside `to` first, so that `to` is whole or not there."""
        target = Path(to)
        part = target.with_name(f"{target.name}.part")
        try:
            with self._transport.download(calls.download(dataset)) as (size, pieces), part.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                    if told is not None:
                        told(file.tell(), size or 0)
            part.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()

    def delete(self, dataset: str) -> None:
        self._transport.send(calls.delete(dataset))
