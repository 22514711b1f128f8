"""Models of a hub: fetched once, by the hub's own client, which the engine's environment has."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.engines.environment import clean_environment
from inference_service.launch.program import run
from inference_service.settings import InferenceSettings
from inference_service.trouble import CannotServe, bad_model

SCRIPT = Path(__file__).parents[1] / "engines" / "scripts" / "hub_fetch.py"
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(@[\w./-]{1,100})?$")
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
"""No pickles. Code (*.py) only where an admin has allowed it for that model."""
STORE_IT = "PUT /api/projects/{project}/tokens/huggingface"


async def fetch(
    named: str, rules: InferenceSettings, python: Path, token: str | None, say: Callable[[str], None], *, code: bool
) -> Path:
    if not HUB_ID.fullmatch(named):
        raise bad_model(
            f"{named!r} names no model.",
            "Name builtin:..., a registered model, a path, or a hub id such as Qwen/Qwen3-0.6B.",
        )
    repository, _, revision = named.partition("@")
    asked = {
        "repository": repository,
        "revision": revision or None,
        "cache": str(rules.models / "hub" / "huggingface"),
        "patterns": [*WANTED, "*.py"] if code else WANTED,
        "offline": rules.hub_offline,
        "token": token,
        "mirror": rules.hub_mirror,
    }
    say(f"Fetching {repository}.")
    lines = await run([str(python), str(SCRIPT)], clean_environment(), say, json.dumps(asked).encode())
    answer = json.loads(lines[-1])
    if "folder" in answer:
        return Path(answer["folder"])
    raise _fault(answer["fault"], repository, revision, rules.hub_offline)


def _fault(fault: str, repository: str, revision: str, offline: bool) -> CannotServe:
    if fault == "gated":
        return bad_model(
            f"{repository} is gated: it needs a token of somebody who was granted access.",
            f"Ask for access on its page, then store the token: {STORE_IT}.",
        )
    if fault == "unknown":
        return bad_model(
            f"The hub has no model {repository!r}, or it is private.",
            f"Check the id. A private one needs a token: {STORE_IT}.",
        )
    if fault == "revision":
        return bad_model(f"{repository} has no revision {revision!r}.", "Leave `@...` out for the newest.")
    if fault == "disk":
        return CannotServe(
            DeploymentReason.engine_error, f"{repository} could not be stored.", "Is space left for the models?"
        )
    why = "this platform is set to stay offline" if offline else "the hub is not reached from here"
    return bad_model(
        f"{repository} is not on this machine, and {why}.",
        "Name a model that is here (builtin:smollm2-135m, a registered one, a path),"
        " or let the worker reach the hub or a mirror (IMTS_HUB_MIRROR).",
    )
