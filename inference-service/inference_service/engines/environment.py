"""The environment that vLLM runs in: made on first use, and asked once what options its vLLM takes."""

import asyncio
import hashlib
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from loguru import logger

from imts_shared.contracts.deployments import DeploymentReason
from imts_shared.worker.gpus import found
from inference_service.engines.arguments import Options
from inference_service.launch.program import run
from inference_service.settings import InferenceSettings
from inference_service.trouble import CannotServe

DUMP = Path(__file__).with_name("scripts") / "vllm_options.py"
HIDDEN = ("IMTS_", "UV_", "PIP_")
KEPT = ("IMTS_RUN_ID",)
"""By which a supervisor knows the processes that are its own."""
DROPPED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")


def clean_environment() -> dict[str, str]:
    """What an engine's processes inherit: none of our secrets, none of our packages."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or (not name.startswith(HIDDEN) and name not in DROPPED)
    }


class VllmEnvironment:
    """Replicas that want it at once make it once. What went wrong is told to each, and tried again by the next."""

    def __init__(self, rules: InferenceSettings) -> None:
        self._rules = rules
        self._home = rules.home.absolute()
        self._making = asyncio.Lock()
        self._python: Path | None = None
        self._options: Options | None = None

    def state(self) -> Literal["installed", "installable", "missing"]:
        if self._python is not None or self._given() is not None or self._stamped():
            return "installed"
        return "installable" if self._rules.engine_installer else "missing"

    @property
    def options(self) -> Options | None:
        """None until they are known."""
        return self._options

    async def ready(self, say: Callable[[str], None]) -> tuple[Path, Options]:
        async with self._making:
            if self._python is None:
                self._python = self._given() or await self._install(say)
            if self._options is None:
                self._options = await self._ask(self._python, say)
            return self._python, self._options

    async def look(self) -> None:
        """Learns the options of what is installed, so that a mistake is named before a deployment is stored."""
        if self.state() != "installed":
            return
        try:
            await self.ready(lambda text: logger.bind(said=text).debug("engine environment"))
        except CannotServe as trouble:
            logger.bind(why=trouble.message).warning("the engine's options are not known")

    def _given(self) -> Path | None:
        python = self._rules.engine_python
        if python is None:
            return None
        if not os.access(python, os.X_OK):
            raise CannotServe(
                DeploymentReason.engine_missing,
                f"IMTS_ENGINE_PYTHON names {python}, which cannot be run.",
                "Name the Python of an environment that has vLLM.",
            )
        return python

    def _stamped(self) -> bool:
        folder = self._home / "envs"
        return bool(self._rules.engine_installer) and any(
            (folder / f"{name}.stamp").is_file() for name in ("engine", "engine-gpu")
        )

    async def _install(self, say: Callable[[str], None]) -> Path:
        if not self._rules.engine_installer:
            raise CannotServe(
                DeploymentReason.engine_missing,
                "This worker has no vLLM and was not told how to install it.",
                "Set IMTS_ENGINE_PYTHON to a Python that has vLLM, or start the platform with ./imts up.",
            )
        say("Installing vLLM; this happens once on a machine.")
        environment = {**os.environ, "IMTS_HOME": str(self._home)}
        gpus = await asyncio.to_thread(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
        command = [*shlex.split(self._rules.engine_installer), *(["--gpu"] if gpus else [])]
        lines = await run(command, environment, lambda text: None if _listed(text) else say(text))
        python = Path(lines[-1]) if lines else Path()
        if not os.access(python, os.X_OK):
            raise CannotServe(
                DeploymentReason.engine_missing, "The installer did not say where vLLM's Python is.", "See the log."
            )
        return python

    async def _ask(self, python: Path, say: Callable[[str], None]) -> Options:
        target = self._home / "engines" / f"vllm-options-{_identity(python)}.json"
        if not target.is_file():
            say("Learning the options of this vLLM; this happens once for each installation.")
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_suffix(".unfinished")
            await run([str(python), str(DUMP), str(unfinished)], clean_environment(), lambda _: None)
            unfinished.rename(target)
        told = json.loads(target.read_text())
        return Options(told["options"], told["version"], for_cpu=told["forCpu"])


def _listed(text: str) -> bool:
    """One package of what was installed: two hundred lines that nobody waits for."""
    return text.startswith(("+ ", "- "))


def _identity(python: Path) -> str:
    """Of the installation: another vLLM in the same place is asked anew."""
    packages = sorted(path.name for path in python.parent.parent.glob("lib/python*/site-packages/vllm*.dist-info"))
    content = hashlib.sha256(DUMP.read_bytes()).hexdigest()
    return hashlib.sha256(f"{python} {packages} {content}".encode()).hexdigest()[:16]
