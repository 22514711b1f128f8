"""A registered model's files are used only as they were registered."""

import os
from pathlib import Path

import pytest

from imts_shared.contracts.models import ModelInput, ModelKind
from imts_shared.storage import Storage
from imts_shared.worker.checkpoints import BadCheckpoint, store
from imts_shared.worker.registered import files_of


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "made" / "config.json").write_text("{}")
    storage = Storage((tmp_path / "storage").as_uri())
    store(storage, tmp_path / "made", "jobs/1/model")
    return storage


MODEL = ModelInput(named="m", id="1", name="m", version=1, kind=ModelKind.merged, prefix="jobs/1/model/", sha256="a")


def test_on_a_disk_they_are_used_where_they_lie(storage: Storage, tmp_path: Path) -> None:
    assert files_of(storage, tmp_path / "models", MODEL) == tmp_path / "storage" / "jobs" / "1" / "model"


def test_what_has_changed_is_refused_though_it_was_right_before(storage: Storage, tmp_path: Path) -> None:
    weights = files_of(storage, tmp_path / "models", MODEL) / "model.safetensors"
    weights.write_bytes(b"weighty")
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors has changed"):
        files_of(storage, tmp_path / "models", MODEL)
    weights.write_bytes(b"weights")
    files_of(storage, tmp_path / "models", MODEL)
    weights.unlink()
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors is missing"):
        files_of(storage, tmp_path / "models", MODEL)


def test_what_was_read_is_not_read_again(storage: Storage, tmp_path: Path) -> None:
    weights = files_of(storage, tmp_path / "models", MODEL) / "model.safetensors"
    times = weights.stat().st_atime_ns, weights.stat().st_mtime_ns
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=times)
    files_of(storage, tmp_path / "models", MODEL)
