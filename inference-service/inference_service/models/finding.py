"""Where a model's files lie on this machine, brought here if they are not."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx

from imts_shared.contracts.deployments import DeploymentReason
from imts_shared.contracts.models import BUILTIN_MODELS, ModelInput, ModelKind
from imts_shared.contracts.serving import WantedModel
from imts_shared.storage import Storage, StorageError
from imts_shared.worker.checkpoints import BadCheckpoint
from imts_shared.worker.registered import files_of
from inference_service.engines.environment import VllmEnvironment
from inference_service.engines.starting import Model
from inference_service.models import hub, weights
from inference_service.settings import InferenceSettings
from inference_service.trouble import CannotServe, bad_model

LOOK_SECONDS = 1.0
Say = Callable[[str], None]


class Finder:
    def __init__(self, rules: InferenceSettings, environment: VllmEnvironment) -> None:
        self._rules = rules
        self._environment = environment
        self._storage = Storage(rules.storage_url, rules.storage_options)

    async def model(self, wanted: WantedModel, token: str | None, say: Say) -> Model:
        found = await self._find(wanted, token, say)
        self._check_seen(found.path, wanted.named)
        if found.path.suffix == ".gguf":
            await asyncio.to_thread(weights.check_gguf, found.path, wanted.named)
        else:
            await asyncio.to_thread(weights.check_model, found.path, wanted.named)
        return found

    async def adapter(self, wanted: WantedModel) -> Path:
        if wanted.registered is None or wanted.registered.kind != ModelKind.adapter:
            raise weights.bad_adapter(f"{wanted.named} is no registered adapter")
        folder = await asyncio.to_thread(self._stored, wanted.registered)
        self._check_seen(folder, wanted.named)
        return folder

    def _check_seen(self, path: Path, named: str) -> None:
        volume = self._rules.volume
        if volume is None:
            return
        if not path.is_relative_to(volume) or not path.resolve().is_relative_to(volume.resolve()):
            raise bad_model(
                f"{named} lies in {path}, outside of {volume}, the volume that engines see.",
                f"Keep models under it (IMTS_MODELS_FOLDER, IMTS_MODEL_ROOTS); it is the claim"
                f" {self._rules.engine_claim} (IMTS_ENGINE_CLAIM).",
            )

    async def _find(self, wanted: WantedModel, token: str | None, say: Say) -> Model:
        registered = wanted.registered
        if registered is None:
            return Model(await self._unregistered(wanted.named, token, say, code=False))
        trust = registered.trust_remote_code
        if registered.kind == ModelKind.base:
            folder = await self._unregistered(registered.source or registered.name, token, say, code=trust)
            return Model(folder, trust)
        folder = await asyncio.to_thread(self._stored, registered)
        if registered.kind == ModelKind.gguf:
            return Model(_gguf(folder, registered.name))
        if registered.kind == ModelKind.adapter:
            raise bad_model(f"{registered.name} is an adapter.", "Deploy its base, and name it in `adapters`.")
        return Model(folder, trust)

    def _stored(self, model: ModelInput) -> Path:
        if model.prefix is None:
            raise bad_model(f"{model.name!r} has no files.", "Train it again.")
        try:
            return files_of(self._storage, self._rules.models, model)
        except BadCheckpoint as error:
            raise bad_model(
                f"The files of model {model.name!r} are not what was registered: {error}.",
                "Verify it with POST /api/models/{id}/verify, and train it again.",
            ) from error
        except (StorageError, OSError) as error:
            raise CannotServe(
                DeploymentReason.engine_error, f"The files of model {model.name!r} could not be fetched: {error}."
            ) from error

    async def _unregistered(self, named: str, token: str | None, say: Say, *, code: bool) -> Path:
        if named.startswith("builtin:"):
            return await self._builtin(named, say)
        if named.startswith(("/", "./", "../", "~")):
            return self._local(named)
        python, _ = await self._environment.ready(say)
        return await hub.fetch(named, self._rules, python, token, say, code=code)

    def _local(self, named: str) -> Path:
        roots = [root.resolve() for root in self._rules.model_roots]
        path = Path(named).expanduser().resolve()
        if not any(path.is_relative_to(root) for root in roots):
            raise bad_model(
                f"{named} does not lie under a folder that models may be read from.",
                "An admin names such folders in IMTS_MODEL_ROOTS."
                + (f" Now: {', '.join(map(str, roots))}." if roots else " Now there is none."),
            )
        if path.is_file() and path.suffix == ".gguf":
            return path
        if not path.is_dir():
            raise bad_model(
                f"{named} is not a folder on this worker.", "Check the path, and that every worker sees it."
            )
        return _gguf(path, named) if not (path / "config.json").exists() and any(path.glob("*.gguf")) else path

    async def _builtin(self, named: str, say: Say) -> Path:
        """Making one needs torch, so the training service does it."""
        if named not in BUILTIN_MODELS:
            raise bad_model(f"There is no {named!r}.", f"Built in are {' and '.join(BUILTIN_MODELS)}.")
        name = named.removeprefix("builtin:")
        folder = self._rules.models / "builtin" / name
        headers = {"Authorization": f"Bearer {self._rules.service_key.get_secret_value()}"}
        async with httpx.AsyncClient(
            base_url=self._rules.training_url, headers=headers, timeout=10, trust_env=False
        ) as client:
            while not _made(folder):
                say(f"The training service makes {named}; this happens once on a machine.")
                try:
                    answer = await client.post(f"/models/builtin/{name}")
                except httpx.TransportError as error:
                    raise CannotServe(
                        DeploymentReason.engine_error,
                        f"{named} is not made yet, and the training service, which makes it, does not answer.",
                        "Start the training service, or deploy another model.",
                    ) from error
                if not answer.is_success:
                    raise CannotServe(DeploymentReason.engine_error, f"{named} could not be made: {answer.text[:300]}")
                told = answer.json()
                if told["ready"]:
                    folder = Path(told["folder"])
                    if not _made(folder):
                        raise bad_model(f"{named} was made in {folder}, which this worker does not see.")
                    break
                await asyncio.sleep(LOOK_SECONDS)
        return folder


def _made(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "made.json").read_text()))
    except (OSError, ValueError):
        return False


def _gguf(folder: Path, named: str) -> Path:
    """The first part where a model comes in several."""
    files = sorted(path for path in folder.rglob("*.gguf") if not path.name.startswith("mmproj"))
    if not files:
        raise bad_model(f"{named} holds no GGUF file.", "Export the model again.")
    return files[0]
