"""Settings: one `imts.yaml`, the environment over it, profiles, and where each value came from.

Order, strongest first: environment (`IMTS_<NAME>`), the file's `profiles.<profile>`, the file's top level, the
default in the class. The file is `$IMTS_CONFIG`, else `$IMTS_HOME/imts.yaml`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict


def _parted(value: Any) -> Any:
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


Folders = Annotated[list[Path], NoDecode, BeforeValidator(_parted)]
"""Written in the environment like PATH."""


class SettingsFileError(ValueError):
    """The settings file is not what it should be; the message says where and what."""


def settings_file() -> Path:
    named = os.environ.get("IMTS_CONFIG")
    return Path(named) if named else Path(os.environ.get("IMTS_HOME", ".imts")) / "imts.yaml"


def read_settings_file(path: Path, profile: str) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise SettingsFileError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise SettingsFileError(f"{path} must hold settings by name, such as `log_level: DEBUG`")
    profiles = content.pop("profiles", {}) or {}
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise SettingsFileError(f"{path}: `profiles` must hold settings by profile and name")
    return {**content, **profiles.get(profile, {})}


class FileSource(PydanticBaseSettingsSource):
    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = read_settings_file(settings_file(), os.environ.get("IMTS_PROFILE", "dev"))
        return {name: value for name, value in found.items() if name in self.settings_cls.model_fields}


class Settings(BaseSettings):
    """What every process needs; each service adds its own."""

    model_config = SettingsConfigDict(
        env_prefix="IMTS_", extra="ignore", validate_default=True, hide_input_in_errors=True
    )

    profile: Literal["dev", "prod"] = Field("dev", description="Which part of the file's `profiles` is in force.")
    home: Path = Field(Path(".imts"), description="Where a single machine keeps its state.")
    host: str = Field("127.0.0.1", description="The address that servers listen on.")
    gpu_locks_folder: Path | None = Field(
        None, description="Where the holders of this machine's GPUs keep their locks; by default `gpus` in the home."
    )
    redis_url: SecretStr = Field(description="Redis or Valkey, the doorbell between watcher and workers.")
    storage_url: str = Field(description="Where files lie: file:///path or s3://bucket/prefix.")
    storage_options: dict[str, str] = Field(
        default_factory=dict, description="Options of the storage client, such as endpoint or region."
    )
    service_key: SecretStr = Field(description="The key by which the services of one platform know each other.")
    control_plane_url: str = Field("http://127.0.0.1:8080", description="Where the control plane answers.")
    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level logged.")
    log_format: Literal["text", "json"] = Field("text", description="json in containers.")

    @property
    def gpu_locks(self) -> Path:
        return (self.gpu_locks_folder or self.home / "gpus").absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, FileSource(settings_cls)
