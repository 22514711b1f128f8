"""Models: base models added, what jobs made, lineage, files, verification; and the checkpoints of jobs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imts_client.calls.call import Call, Listing, path, query
from imts_client.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from imts_shared.contracts.models import CheckpointList, Lineage, Model, ModelFiles, Verification

VERIFY_SECONDS = 3_600.0
"""The answer to a verification comes when every file has been read."""


def add(
    name: str, source: str, template: str | None = None, trust_remote_code: bool = False, project: str | None = None
) -> "Call[Model]":
    """Not repeatable: each time is a version of its own."""
    fields = {"name": name, "source": source, "template": template, "project": project}
    given: dict[str, Any] = {field: value for field, value in fields.items() if value is not None}
    if trust_remote_code:
        given["trustRemoteCode"] = True
    return Call("POST", path("models"), "models.Model", json=given)


def find(
    text: str | None = None,
    kinds: Sequence[str] = (),
    job_id: str | None = None,
    project: str | None = None,
    limit: int | None = None,
) -> "Listing[Model]":
    params = query(text=text, kind=list(kinds), jobId=job_id, project=project, limit=limit)
    return Listing(path("models"), "models.ModelPage", "models.Model", params)


def get(model: str) -> "Call[Model]":
    return Call("GET", path("models", model), "models.Model", repeatable=True)


def change(model: str, template: str | None = None, trust_remote_code: bool | None = None) -> "Call[Model]":
    fields = {"template": template, "trustRemoteCode": trust_remote_code}
    given = {field: value for field, value in fields.items() if value is not None}
    return Call("PATCH", path("models", model), "models.Model", json=given, repeatable=True)


def lineage(model: str) -> "Call[Lineage]":
    return Call("GET", path("models", model, "lineage"), "models.Lineage", repeatable=True)


def card(model: str) -> "Call[None]":
    """Markdown, so it is read as a download is."""
    return Call("GET", path("models", model, "card"), repeatable=True)


def files(model: str) -> "Call[ModelFiles]":
    return Call("GET", path("models", model, "files"), "models.ModelFiles", repeatable=True)


def download(model: str, file: str) -> "Call[None]":
    return Call("GET", path("models", model, "files", *file.split("/")), repeatable=True)


def verify(model: str) -> "Call[Verification]":
    address = path("models", model, "verify")
    return Call("POST", address, "models.Verification", repeatable=True, read_seconds=VERIFY_SECONDS)


def delete(model: str) -> "Call[None]":
    return Call("DELETE", path("models", model), repeatable=True)


def checkpoints(job_id: str) -> "Call[CheckpointList]":
    return Call("GET", path("jobs", job_id, "checkpoints"), "models.CheckpointList", repeatable=True)


def promote(job_id: str, step: int, name: str | None = None) -> "Call[Model]":
    """Repeatable: a checkpoint is promoted once."""
    address = path("jobs", job_id, "checkpoints", str(step), "promote")
    return Call("POST", address, "models.Model", json={"name": name} if name else {}, repeatable=True)


def place_in(folder: Path, file: str) -> Path:
    """Where a file of a model goes; never outside the folder, whatever the model calls it."""
    target = folder / file
    if not target.resolve().is_relative_to(folder.resolve()):
        raise UnexpectedAnswer(f"The model names a file outside itself: {file}.")
    return target
