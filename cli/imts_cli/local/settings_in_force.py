"""Each setting of each service, its value, and where the value comes from."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from imts_cli.local.home import Home
from imts_cli.local.plan import make_plan, shown
from imts_cli.local.ports import ports_from_environment

CLASSES = (
    ("control_plane.settings", "ControlPlaneSettings"),
    ("analyzer_service.settings", "AnalyzerSettings"),
    ("training_service.settings", "TrainingSettings"),
    ("inference_service.settings", "InferenceSettings"),
)
"""By name: the command stands beside the services and is not built on them."""


@dataclass(frozen=True)
class InForce:
    name: str
    value: str
    source: str


def settings(home: Home, in_file: Mapping[str, object]) -> Iterator[InForce]:
    chosen = make_plan(home, ports_from_environment()).environment if home.secrets.exists() else {}
    seen = set()
    for module, class_name in CLASSES:
        settings_class: type[BaseSettings] = getattr(import_module(module), class_name)
        for name, field in settings_class.model_fields.items():
            if name in seen:
                continue
            seen.add(name)
            secret = field.annotation is SecretStr
            value, source = _value(name, field.get_default(call_default_factory=True), in_file, chosen)
            yield InForce(name, _masked(value) if secret else value, source)


def _value(name: str, default: object, in_file: Mapping[str, object], chosen: Mapping[str, str]) -> tuple[str, str]:
    variable = f"IMTS_{name.upper()}"
    if variable in os.environ:
        return os.environ[variable], f"environment, {variable}"
    if name in in_file:
        return str(in_file[name]), f"imts.yaml, profile {os.environ.get('IMTS_PROFILE', 'dev')}"
    if variable in chosen:
        return chosen[variable], "chosen by imts up"
    return ("" if repr(default) == "PydanticUndefined" else str(default)), "default"


def _masked(value: str) -> str:
    return shown(value) if "://" in value else ("set, not shown" if value else "made by the first imts up")
