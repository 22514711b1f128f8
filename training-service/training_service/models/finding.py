"""From a model's name to a folder on this machine."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imts_shared.contracts.models import BUILTIN_MODELS, ModelInput, ModelKind
from imts_shared.worker.checkpoints import BadCheckpoint
from imts_shared.worker.engine import BadConfig, EngineJob
from imts_shared.worker.registered import files_of
from training_service.models import builtin, hub

NOT_A_MODEL = ("optimizer.pt", "scheduler.pt", "rng_state", "scaler.pt", "training_args.bin", "trainer_state.json")
"""Files of a checkpoint that resuming needs and a model does not."""


@dataclass(frozen=True)
class Found:
    """A base model's folder, and the adapters that stand on it, lowest first."""

    folder: Path
    template: str | None = None
    adapters: list[Path] = field(default_factory=list)
    base_name: str = ""
    trust_remote_code: bool = False


def find(job: EngineJob, named: str, say: Callable[[str], None]) -> Found:
    registered = next((model for model in job.models if model.named == named), None)
    if registered is not None:
        return _registered(job, registered, say)
    return _unregistered(job, named, say)


def _registered(job: EngineJob, model: ModelInput, say: Callable[[str], None]) -> Found:
    if model.kind == ModelKind.gguf:
        raise BadConfig(f"Model {model.name!r} is GGUF, which cannot be trained or merged.", "Name the model it is of.")
    if model.kind == ModelKind.base:
        found = _unregistered(job, model.source or model.name, say, trust=model.trust_remote_code)
        return Found(found.folder, model.template or found.template, [], model.name, model.trust_remote_code)
    if model.kind == ModelKind.merged:
        return Found(_stored(job, model), model.template, [], model.name, model.trust_remote_code)
    if model.base is not None:
        below = _registered(job, model.base, say)
    elif model.base_name:
        below = _unregistered(job, model.base_name, say)
    else:
        raise BadConfig(f"Adapter {model.name!r} does not say what it stands on.", "Train it anew.")
    folder = _stored(job, model)
    return Found(
        below.folder, model.template or below.template, [*below.adapters, folder], below.base_name,
        below.trust_remote_code,
    )  # fmt: skip


def _stored(job: EngineJob, model: ModelInput) -> Path:
    try:
        return files_of(job.storage, Path(job.options["models"]), model)
    except BadCheckpoint as error:
        raise BadConfig(
            f"The files of model {model.name!r} are not what was registered: {error}.",
            "Verify it with POST /api/models/{id}/verify, and train it again.",
        ) from error


def _unregistered(job: EngineJob, named: str, say: Callable[[str], None], *, trust: bool = False) -> Found:
    if named.startswith("builtin:"):
        name = named.removeprefix("builtin:")
        if named not in BUILTIN_MODELS:
            raise BadConfig(f"There is no {named!r}.", f"Built in are {' and '.join(BUILTIN_MODELS)}.")
        folder = builtin.folder(Path(job.options["models"]), name, say)
        return Found(folder, builtin.TEMPLATES[name], [], named)
    if named.startswith(("/", "./", "../", "~")):
        return Found(_local(job, named), None, [], named, trust)
    return Found(hub.fetch(job, named, say), None, [], named, trust)


def _local(job: EngineJob, named: str) -> Path:
    roots = [Path(root).resolve() for root in job.options.get("modelRoots", "").split(os.pathsep) if root]
    folder = Path(named).expanduser().resolve()
    if not any(folder.is_relative_to(root) for root in roots):
        raise BadConfig(
            f"{named} does not lie under a folder that models may be read from.",
            "An admin names such folders in IMTS_MODEL_ROOTS."
            + (f" Now: {', '.join(map(str, roots))}." if roots else " Now there is none."),
        )
    check_folder(folder, named)
    return folder


WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""Where neither is, transformers would read a pickle that lies beside."""


def check_folder(folder: Path, named: str) -> None:
    """Says in words what transformers would say in a traceback."""
    if not folder.is_dir():
        raise BadConfig(f"{named} is not a folder on this worker.", "Check the path, and that every worker sees it.")
    config = folder / "config.json"
    if not config.is_file():
        raise BadConfig(f"{named} holds no config.json: it is not a model's folder.", "Name the folder that has one.")
    try:
        json.loads(config.read_text())
    except ValueError as error:
        raise BadConfig(f"{named}/config.json is not JSON: {error}.") from error
    if not any((folder / name).is_file() for name in WEIGHTS):
        other = next((path.name for path in folder.glob("*.bin")), None)
        raise BadConfig(
            f"{named} holds no model.safetensors"
            + (f", only {other}, a pickle that could run code." if other else "."),
            "Convert the weights to safetensors.",
        )
