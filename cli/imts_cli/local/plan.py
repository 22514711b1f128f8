"""From the environment, the settings file and the home to what shall run."""

import os
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from imts_cli.local import LocalError, postgres, valkey
from imts_cli.local.home import Home
from imts_cli.local.services import Plan, Service, platform_environment, platform_services, platform_steps


def file_settings(home: Home) -> Mapping[str, object]:
    """The settings file's values by name; the library that reads it is slow to load, so only if there is a file."""
    named = os.environ.get("IMTS_CONFIG")
    if not named and not (home.root / "imts.yaml").exists():
        return {}
    from imts_shared.settings import SettingsFileError, read_settings_file, settings_file

    os.environ["IMTS_HOME"] = str(home.root)
    try:
        return read_settings_file(settings_file(), os.environ.get("IMTS_PROFILE", "dev"))
    except (SettingsFileError, OSError) as error:
        raise LocalError(f"The settings file cannot be used: {error}") from error


def make_plan(home: Home, ports: Mapping[str, int]) -> Plan:
    in_file = file_settings(home)
    servers: list[Service] = []
    outside: list[tuple[str, Callable[[], str | None]]] = []

    database_url = os.environ.get("IMTS_DATABASE_URL") or str(in_file.get("database_url") or "")
    if database_url:
        where = f"Postgres at {shown(database_url)} (IMTS_DATABASE_URL)"
        outside.append((where, lambda: postgres.outside_trouble(database_url)))
    else:
        database_url = postgres.database_url(home, ports["postgres"])
        servers.append(postgres.service(home, ports["postgres"]))

    redis_url = os.environ.get("IMTS_REDIS_URL") or str(in_file.get("redis_url") or "")
    if redis_url:
        where = f"Redis at {shown(redis_url)} (IMTS_REDIS_URL)"
        outside.append((where, lambda: valkey.outside_trouble(redis_url)))
    else:
        redis_url = valkey.redis_url(home, ports["valkey"])
        servers.append(valkey.service(home, ports["valkey"]))

    names = frozenset(f"IMTS_{name.upper()}" for name in in_file)
    return Plan(
        url=f"http://127.0.0.1:{ports['control-plane']}",
        servers=tuple(servers),
        steps=platform_steps(home),
        services=platform_services(ports),
        environment=platform_environment(home, ports, database_url, redis_url, names),
        outside=tuple(outside),
    )


def shown(url: str) -> str:
    """The address without what is secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
