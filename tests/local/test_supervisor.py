"""The supervisor with real servers: it keeps things up, leaves nothing behind and loses nothing."""

import os
import signal
import subprocess
from collections.abc import Callable

from imts_cli.local import processes
from tests.local.conftest import Copy, eventually


def end(supervisor: "subprocess.Popen[str]", number: signal.Signals) -> int:
    supervisor.send_signal(number)
    return supervisor.wait(30)


def test_a_killed_supervisor_leaves_no_orphan_and_the_next_has_all_data(copy: Copy) -> None:
    supervisor = copy.start()
    left = copy.processes()
    assert len(left) > 4
    with copy.sql() as connection:
        connection.execute("CREATE TABLE kept (id int)")
        for number in range(50):
            connection.execute("INSERT INTO kept VALUES (%s)", [number])
        end(supervisor, signal.SIGKILL)
    services = [processes.Record(one.pid, one.started) for one in copy.state().services if one.pid is not None]
    assert len(services) == 4
    assert eventually(lambda: not any(one.alive for one in services), within=8)
    supervisor = copy.start()
    assert not any(one.alive for one in left), "what a service itself had left is ended by the next start"
    with copy.sql() as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (50,)
    assert end(supervisor, signal.SIGTERM) == 0


def test_stopping_ends_every_process_in_order(copy: Copy) -> None:
    supervisor = copy.start()
    running = copy.processes()
    assert end(supervisor, signal.SIGINT) == 0
    assert not any(one.alive for one in running)
    assert "database system is shut down" in copy.home.log("postgres").read_text()
    assert copy.state().state == "stopped"


def test_a_service_that_dies_is_started_again_and_counted(copy: Copy) -> None:
    copy.start()
    for name in ("worker", "postgres", "valkey"):
        before = copy.pid(name)
        os.kill(before, signal.SIGKILL)
        assert eventually(
            lambda name=name, before=before: any(
                one.name == name and one.restarts >= 1 and one.state == "ready" and one.pid != before
                for one in copy.state().services
            ),
            within=15,
        ), name
    with copy.sql() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_status_says_what_runs_and_that_nothing_runs(copy: Copy) -> None:
    copy.start()
    found = copy.status()
    assert list(found) == ["ready", "url", "gateway_url", "api_key_file", "services"]
    assert found["ready"] is True
    assert found["url"] == f"http://127.0.0.1:{copy.port('control-plane')}"
    assert {one["name"]: one["state"] for one in found["services"]} == dict.fromkeys(
        ("postgres", "valkey", "worker", "control-plane"), "ready"
    )
    assert all(one["memoryBytes"] > 2**20 for one in found["services"])
    assert copy.imts("down").stdout.splitlines()[-1] == "IMTS is down; all data is kept."
    answer = copy.imts("status", "--json")
    assert answer.returncode == 3
    assert '"ready": false' in answer.stdout
    again = copy.imts("down")
    assert (again.returncode, again.stdout) == (0, "IMTS is not running.\n")


def test_two_copies_run_side_by_side(new_copy: Callable[..., Copy]) -> None:
    one, other = new_copy("one"), new_copy("other")
    one.start()
    other.offset = one.offset + 1
    other.start()
    for copy in (one, other):
        with copy.sql() as connection:
            connection.execute("CREATE TABLE mine (home text)")
            connection.execute("INSERT INTO mine VALUES (%s)", [str(copy.root)])
    one.imts("down")
    assert other.status()["ready"] is True
    with other.sql() as connection:
        assert connection.execute("SELECT home FROM mine").fetchone() == (str(other.root),)


def test_a_second_supervisor_says_that_it_is_up(copy: Copy) -> None:
    copy.start()
    for arguments in (("up",), ("up", "-d")):
        answer = copy.imts(*arguments)
        assert answer.returncode == 0
        assert answer.stdout.startswith("IMTS is already up: http://127.0.0.1:")


def test_a_pid_used_again_by_another_process_is_left_alone() -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    recorded = processes.Record(stranger.pid, "1")
    assert not recorded.alive
    assert processes.end([recorded])
    assert stranger.poll() is None
    assert processes.end([processes.record(stranger.pid)])
    stranger.wait()


def test_postgres_is_durable_and_demands_its_password_and_secrets_are_private(copy: Copy) -> None:
    copy.start()
    with copy.sql() as connection:
        url = f"postgresql://imts:wrong@127.0.0.1:{copy.port('postgres')}/imts"
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    from imts_cli.local.postgres import outside_trouble

    assert "password authentication failed" in (outside_trouble(url) or "")
    for secret in copy.home.secrets.iterdir():
        assert secret.stat().st_mode & 0o777 == 0o600, secret
