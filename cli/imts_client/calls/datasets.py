"""Data sets: upload, versions, problems, preview and download."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from imts_client.calls.call import Call, Listing, path, query
from imts_client.uploads import Upload

if TYPE_CHECKING:
    from imts_shared.contracts.datasets import Dataset, DatasetPreview, RowProblem

UPLOAD_SECONDS = 3_600.0
"""The answer to an upload comes when the whole file has been checked."""


def default_name(file: Path) -> str:
    """The file's own name, as far as a data set may be called so."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._") or "data"


def add(upload: Upload, name: str, form: str | None = None, project: str | None = None) -> "Call[Dataset]":
    """Repeatable: the same content under the same name is the same version."""
    fields = query(name=name, format=form, project=project)
    return Call(
        "POST",
        path("datasets"),
        "datasets.Dataset",
        form=fields,
        upload=upload,
        repeatable=True,
        read_seconds=UPLOAD_SECONDS,
    )


def find(
    text: str | None = None, form: str | None = None, all_versions: bool = False, limit: int | None = None
) -> "Listing[Dataset]":
    params = query(text=text, format=form, allVersions=all_versions or None, limit=limit)
    return Listing(path("datasets"), "datasets.DatasetPage", "datasets.Dataset", params)


def get(dataset: str) -> "Call[Dataset]":
    return Call("GET", path("datasets", dataset), "datasets.Dataset", repeatable=True)


def versions(dataset: str, limit: int | None = None) -> "Listing[Dataset]":
    params = query(limit=limit)
    return Listing(path("datasets", dataset, "versions"), "datasets.DatasetPage", "datasets.Dataset", params)


def problems(dataset: str, limit: int | None = None) -> "Listing[RowProblem]":
    params = query(limit=limit)
    return Listing(path("datasets", dataset, "problems"), "datasets.ProblemPage", "datasets.RowProblem", params)


def preview(dataset: str, offset: int = 0, limit: int = 20) -> "Call[DatasetPreview]":
    params = query(offset=offset, limit=limit)
    return Call("GET", path("datasets", dataset, "preview"), "datasets.DatasetPreview", params, repeatable=True)


def download(dataset: str) -> "Call[None]":
    return Call("GET", path("datasets", dataset, "download"), repeatable=True)


def delete(dataset: str) -> "Call[None]":
    return Call("DELETE", path("datasets", dataset), repeatable=True)
