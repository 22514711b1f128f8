"""The files of a model as its manifest lists them, and whether what lies in storage is still that."""

import hashlib

import orjson
from pydantic import BaseModel, ValidationError

from control_plane.models.rows import ModelRow
from control_plane.problems import Refusal
from imts_shared.contracts.models import ModelFile, Verification
from imts_shared.storage import MIB, BadKey, Storage
from imts_shared.worker.checkpoints import MANIFEST

MOST_MANIFEST_BYTES = 64 * MIB
MOST_PROBLEMS = 100


class _File(BaseModel):
    bytes: int
    sha256: str


class _Manifest(BaseModel):
    files: dict[str, _File]


class BadManifest(Exception):
    """There is no manifest, or it is not one; the message says which."""


def read_manifest(storage: Storage, prefix: str) -> tuple[list[ModelFile], str]:
    """The files and the manifest's own hash."""
    key = f"{prefix}/{MANIFEST}"
    try:
        if storage.size(key) > MOST_MANIFEST_BYTES:
            raise BadManifest(f"{key} is too large to be a manifest")
        content = storage.get_bytes(key)
        files = _Manifest.model_validate(orjson.loads(content)).files
    except FileNotFoundError:
        raise BadManifest(f"{key} is not there") from None
    except (orjson.JSONDecodeError, ValidationError, BadKey):
        raise BadManifest(f"{key} is not a manifest") from None
    listed = [ModelFile(path=path, bytes=file.bytes, sha256=file.sha256) for path, file in sorted(files.items())]
    return listed, hashlib.sha256(content).hexdigest()


def files_of(storage: Storage, row: ModelRow) -> list[ModelFile]:
    """A base model has no files here."""
    if row.prefix is None:
        return []
    try:
        return read_manifest(storage, row.prefix)[0]
    except BadManifest as error:
        raise Refusal(
            409,
            "model_files_missing",
            f"The files of model {row.name!r} version {row.version} cannot be listed: {error}.",
            hint=f"POST /api/models/{row.id}/verify says what is left; restore the storage or delete the model.",
        ) from None


def listed_file(storage: Storage, row: ModelRow, path: str) -> tuple[str, int]:
    """Where the file lies, and its length."""
    if path not in {file.path for file in files_of(storage, row)}:
        raise Refusal(
            404, "unknown_file", f"The model has no file {path!r}.", field="path",
            hint=f"GET /api/models/{row.id}/files lists them.",
        )  # fmt: skip
    key = f"{row.prefix}/{path}"
    try:
        return key, storage.size(key)
    except (FileNotFoundError, BadKey):
        raise Refusal(
            409, "model_files_missing", f"The file {path!r} is not in storage any more.", field="path",
            hint=f"POST /api/models/{row.id}/verify says what is left.",
        ) from None  # fmt: skip


def verify(storage: Storage, row: ModelRow) -> Verification:
    """Reads every file: this can take minutes."""
    if row.prefix is None:
        raise Refusal(
            409,
            "model_has_no_files",
            f"Model {row.name!r} is a base model; its files lie at its source and not here.",
            hint=f"Its source is {row.source}.",
        )
    try:
        files, digest = read_manifest(storage, row.prefix)
    except BadManifest as error:
        return Verification(ok=False, files=0, bytes=0, problems=[f"{error}."])
    problems = []
    if row.sha256 and digest != row.sha256:
        problems.append(f"{MANIFEST} has changed since the model was registered.")
    for file in files:
        fault = _fault(storage, row.prefix, file)
        if fault:
            problems.append(fault)
    return Verification(
        ok=not problems,
        files=len(files),
        bytes=sum(file.bytes for file in files),
        problems=problems[:MOST_PROBLEMS],
    )


def _fault(storage: Storage, prefix: str, file: ModelFile) -> str | None:
    key = f"{prefix}/{file.path}"
    try:
        size = storage.size(key)
        if size != file.bytes:
            return f"{file.path} has {size} bytes and should have {file.bytes}."
        with storage.open(key) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]
    except FileNotFoundError:
        return f"{file.path} is missing."
    except BadKey:
        return f"{file.path} is no name of a file."
    return None if digest == file.sha256 else f"{file.path} has changed since it was stored."
