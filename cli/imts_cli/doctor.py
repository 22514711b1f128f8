"""`imts doctor`: everything IMTS needs, one line each, with the cure where something is wrong."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imts_cli.local import LocalError, postgres, settings_in_force, state, valkey
from imts_cli.local.home import LAYOUT_VERSION, LEAST_FREE_BYTES, Home
from imts_cli.local.plan import file_settings, shown
from imts_cli.local.ports import ports_from_environment, user_of
from imts_cli.local.status import status

LEAST_MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Check:
    level: str
    name: str
    found: str
    cure: str = ""

    def as_line(self) -> str:
        return f"{self.level:<5}{self.name:<28}{self.found}" + (f"  -> {self.cure}" if self.cure else "")

    def as_json(self) -> dict[str, str]:
        return {"level": self.level, "name": self.name, "found": self.found, "cure": self.cure}


def examine(home: Home) -> list[Check]:
    checks = [*_machine(home), *_data(home)]
    for part in (_ports, _servers, _settings, _services):
        try:
            checks += part(home)
        except LocalError as error:
            checks.append(Check("fail", part.__name__.strip("_"), str(error)))
    return checks


def _machine(home: Home) -> Iterator[Check]:
    yield Check("ok", "python", f"{platform.python_version()} at {sys.executable}")
    place = shutil.which("uv") or next((str(p) for p in home.root.glob("tools/**/bin/uv")), None)
    yield (Check("ok", "uv", place) if place else Check("warn", "uv", "not found", "the next `./imts` fetches it"))
    stamped = (home.root / "envs" / "platform.stamp").exists()
    inside = Path(sys.prefix) == home.root / "envs" / "platform"
    if inside and not stamped:
        yield Check("warn", "environment", f"{sys.prefix}, not finished", "run `./imts` again: it repairs it")
    else:
        yield Check("ok", "environment", sys.prefix + ("" if inside else " (not made by ./imts)"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory < LEAST_MEMORY_BYTES:
        yield Check("warn", "memory", f"{memory // 2**20} MB", "2048 MB or more are better")
    else:
        yield Check("ok", "memory", f"{memory // 2**20} MB")


def _data(home: Home) -> Iterator[Check]:
    there = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE_BYTES:
        yield Check("fail", "disk", f"{free // 2**20} MB free at {there}", "make room, or set IMTS_HOME")
    else:
        yield Check("ok", "disk", f"{free // 2**20} MB free at {there}")
    if not os.access(there, os.W_OK):
        yield Check("fail", "home", f"{home.root} cannot be written", "set IMTS_HOME to a folder of yours")
        return
    try:
        home.check_layout()
        if postgres.data_folder(home).exists():
            postgres.check(postgres.data_folder(home))
    except LocalError as error:
        yield Check("fail", "home", str(error))
        return
    known = f"layout {LAYOUT_VERSION}" if home.layout.exists() else "new"
    yield Check("ok", "home", f"{home.root} ({known})")


def _ports(home: Home) -> list[Check]:
    found = state.read(home)
    ours = {service.port for service in found.services} if found is not None and found.supervisor.alive else set()
    checks = []
    for service, port in ports_from_environment().items():
        user = user_of(port)
        if port in ours or user is None:
            checks.append(Check("ok", f"port {service}", f"{port} {'ours' if port in ours else 'free'}"))
        else:
            checks.append(Check("fail", f"port {service}", f"{port} used by {user}", "set IMTS_PORT_OFFSET"))
    return checks


def _servers(home: Home) -> Iterator[Check]:
    in_file = file_settings(home)
    running = {service["name"]: service["state"] for service in status(home)["services"]}
    for name, variable, trouble in (
        ("postgres", "IMTS_DATABASE_URL", postgres.outside_trouble),
        ("valkey", "IMTS_REDIS_URL", valkey.outside_trouble),
    ):
        url = os.environ.get(variable) or str(in_file.get(variable.removeprefix("IMTS_").lower()) or "")
        if not url:
            yield Check("ok", name, f"embedded, {running.get(name, 'not running')}")
        elif said := trouble(url):
            yield Check("fail", name, f"{shown(url)}: {said}", f"start it, or mend {variable}")
        else:
            yield Check("ok", name, f"{shown(url)} answers")
    url = os.environ.get("IMTS_STORAGE_URL") or str(in_file.get("storage_url") or home.storage.as_uri())
    yield _storage(url, in_file.get("storage_options"))


def _storage(url: str, options: object) -> Check:
    from imts_shared.storage import Storage, StorageError

    try:
        Storage(url, options if isinstance(options, dict) else None).exists("doctor")
    except (StorageError, ValueError, OSError) as error:
        return Check("fail", "storage", f"{shown(url)}: {error}", "mend IMTS_STORAGE_URL")
    return Check("ok", "storage", shown(url))


def _settings(home: Home) -> Iterator[Check]:
    for setting in settings_in_force.settings(home, file_settings(home)):
        yield Check("ok", setting.name, f"{setting.value}  ({setting.source})")


def _services(home: Home) -> Iterator[Check]:
    found = status(home)
    if not found["services"]:
        yield Check("warn", "services", "not running", "start them with `imts up`")
    for service in found["services"]:
        words = f"{service['state']}, {service['restarts']} restarts"
        if service["state"] == "ready":
            yield Check("ok", service["name"], words)
        else:
            yield Check("fail", service["name"], words, f"see `imts logs {service['name']}`")
