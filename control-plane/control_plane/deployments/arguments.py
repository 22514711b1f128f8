"""What can be said against an engine's options before anybody is asked."""

import re
from typing import Any

from control_plane.problems import Refusal
from imts_shared.contracts.deployments import Engine
from imts_shared.contracts.engine_options import refused

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")


def check_arguments(engine: Engine, arguments: dict[str, Any]) -> None:
    """What the engine itself knows of its options is the inference worker's to check."""
    for name, value in arguments.items():
        if _NAME.fullmatch(name) is None:
            raise Refusal(
                422, "bad_arguments", f"{name[:100]!r} is no name of an option.", field="engineArgs",
                hint="Give options by name, such as max_model_len: 4096.",
            )  # fmt: skip
        note = refused(engine, name, value)
        if note is not None:
            raise Refusal(422, "bad_arguments", note.message, field=note.field, hint=note.hint)
