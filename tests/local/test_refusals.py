"""What stands in the way is said in one sentence with the cure, never as a traceback."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from imts_cli.local import LocalError, home, postgres
from imts_cli.local.home import LAYOUT_VERSION, Home
from tests.local.conftest import Copy


def refused(answer: "subprocess.CompletedProcess[str]") -> str:
    assert answer.returncode == 1, answer
    assert "Traceback" not in answer.stdout + answer.stderr
    assert len(answer.stderr.splitlines()) == 1, answer.stderr
    return answer.stderr


@pytest.mark.parametrize("arguments", [("up",), ("up", "-d")])
def test_a_port_in_use_names_port_service_user_and_cure(copy: Copy, arguments: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", copy.port("watcher"))):
        said = refused(copy.imts(*arguments))
    assert f"Port {copy.port('watcher')}, which watcher needs, is in use by" in said
    assert f"(process {os.getpid()})" in said
    assert "IMTS_PORT_OFFSET" in said


@pytest.mark.parametrize("offset", ["many", "-1", "60000"])
def test_an_offset_that_is_none(new_copy: Callable[..., Copy], offset: str) -> None:
    assert f"IMTS_PORT_OFFSET={offset}" in refused(new_copy(IMTS_PORT_OFFSET=offset).imts("up"))


def test_a_newer_home_is_refused(copy: Copy) -> None:
    copy.root.mkdir()
    copy.home.layout.write_text(json.dumps({"version": LAYOUT_VERSION + 1}))
    assert "newer IMTS" in refused(copy.imts("up"))


def test_a_damaged_layout_is_refused(copy: Copy) -> None:
    copy.root.mkdir()
    copy.home.layout.write_text("{")
    assert "layout.json is damaged" in refused(copy.imts("up"))


def test_a_home_that_is_a_file(copy: Copy) -> None:
    copy.root.write_text("")
    assert "set IMTS_HOME" in refused(copy.imts("up"))


def test_databases_that_are_damaged_or_foreign_are_refused_and_untouched(copy: Copy) -> None:
    copy.home.prepare()
    postgres.prepare(copy.home)
    data = postgres.data_folder(copy.home)
    (data / "PG_VERSION").write_text("99\n")
    assert "belongs to Postgres 99" in refused(copy.imts("up"))
    (data / "PG_VERSION").unlink()
    assert "PG_VERSION cannot be read" in refused(copy.imts("up"))
    (data / "PG_VERSION").write_text("18\n")
    shutil.move(data / "global", data / "elsewhere")
    assert "global/pg_control is missing" in refused(copy.imts("up"))
    assert (data / "elsewhere" / "pg_control").exists()


def test_a_setup_that_was_cut_off_is_done_again(copy: Copy) -> None:
    copy.home.prepare()
    unfinished = copy.home.postgres / "data.unfinished"
    (unfinished / "base").mkdir(parents=True)
    postgres.prepare(copy.home)
    assert (postgres.data_folder(copy.home) / "PG_VERSION").read_text() == "18\n"
    assert not unfinished.exists()


def test_a_full_disk_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "LEAST_FREE_BYTES", shutil.disk_usage(tmp_path).free * 2)
    with pytest.raises(LocalError, match="MB free and IMTS needs"):
        Home(tmp_path / "home").prepare()


def test_an_outside_server_that_does_not_answer_is_named_without_its_password(
    new_copy: Callable[..., Copy],
) -> None:
    copy = new_copy(IMTS_DATABASE_URL="postgresql://imts:hidden@127.0.0.1:1/imts", IMTS_REDIS_URL="redis://127.0.0.1:1")
    said = refused(copy.imts("up"))
    assert "Postgres at postgresql://127.0.0.1:1/imts (IMTS_DATABASE_URL) cannot be used" in said
    assert "hidden" not in said


def test_logs_of_an_unknown_service(copy: Copy) -> None:
    copy.home.prepare()
    copy.home.log("watcher").write_text("one\ntwo\n")
    assert "there are: watcher." in refused(copy.imts("logs", "nobody"))
    assert copy.imts("logs", "watcher", "-n", "1").stdout == "two\n"


def test_doctor_masks_secrets_and_fails_when_a_port_is_taken(new_copy: Callable[..., Copy]) -> None:
    copy = new_copy(IMTS_SECRET_KEY="do-not-show-this-secret-0123456789abcdef")
    with socket.create_server(("127.0.0.1", copy.port("control-plane"))):
        answer = copy.imts("doctor", "--json")
    assert answer.returncode == 1
    checks = {check["name"]: check for check in json.loads(answer.stdout)["checks"]}
    assert checks["port control-plane"]["level"] == "fail"
    assert checks["secret_key"]["found"] == "set, not shown  (environment, IMTS_SECRET_KEY)"
    assert "do-not-show" not in answer.stdout


def test_a_database_of_a_newer_version_is_refused(copy: Copy) -> None:
    supervisor = copy.start()
    with copy.sql() as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    supervisor.terminate()
    assert supervisor.wait(30) == 0
    assert "at revision ffffffffffff" in refused(copy.imts("up", "-d"))
    assert copy.status()["ready"] is False
