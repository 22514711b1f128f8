"""A replica's life as the control plane sees it: real worker, real processes, an engine that fails on demand."""

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.inference.plane import Plane, revision
from tests.inference.workers import Worker, alive, until


def of(gguf: Path, number: int = 1, **more: Any) -> dict[str, Any]:
    """`arguments` are for the stand-in; of llama.cpp's options it is one that takes anything."""
    arguments = more.pop("arguments", None)
    given = {"chat_template_kwargs": arguments} if arguments else {}
    return revision(str(gguf), number, engine="llamacpp", engineArgs=given, **more)


def generate(url: str, **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/completions", json={"prompt": "1", **more}, timeout=30)


def pid(url: str) -> int:
    return int(generate(url).json()["choices"][0]["text"])


def test_it_becomes_ready_and_says_how_far_it_is(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf, arguments={"slow": 0.5})])
    found = worker.state("one", "ready", 20)
    assert found["url"]
    assert found["restarts"] == 0
    assert ("one/1", "starting", "loading weights") in plane.phases
    first = plane.requests[0]
    assert first["engines"] == {"vllm": "missing", "llamacpp": "installed"}
    assert (first["launcher"], first["draining"], first["gpusFree"]) == ("process", False, 0)
    until(lambda: any("small.gguf" in line["text"] for line in plane.lines), 5)
    until(lambda: "generationTokens" in plane.replica("one")["metrics"], 5)
    until(lambda: plane.replica("one").get("memoryBytes", 0) > 10**6, 10)
    assert "lastUsedAt" not in plane.replica("one"), "its own probe is no use"
    assert generate(found["url"]).status_code == 200
    until(lambda: plane.replica("one").get("lastUsedAt"), 10)


def test_an_engine_that_is_killed_comes_back(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)])
    before = worker.state("one", "ready", 20)
    killed = pid(before["url"])
    os.kill(killed, signal.SIGKILL)
    until(lambda: plane.replica("one")["restarts"] == 1, 10)
    after = worker.state("one", "ready", 20)
    assert pid(after["url"]) != killed
    assert after["startedAt"] != before["startedAt"]
    assert any("signal 9" in message["text"] for message in plane.messages)


def test_falls_in_a_row_wait_longer_and_end_as_a_crash_loop(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf, arguments={"dies_after": 0.0, "says": "RuntimeError: the moon is full"})])
    began = time.monotonic()
    found = worker.state("one", "failed", 40)
    assert 1 + 2 + 4 + 8 <= time.monotonic() - began < 30
    assert (found["reason"], found["restarts"]) == ("crash_loop", 4)
    assert "the moon is full" in found["message"]
    assert worker.processes() == []
    plane.want("other", [of(gguf)])
    worker.state("other", "ready", 20)


def test_what_the_user_got_wrong_is_not_tried_again(worker: Worker, plane: Plane, gguf: Path) -> None:
    cut = gguf.with_name("cut.gguf")
    cut.write_bytes(b"GG")
    plane.want("cut", [of(cut)])
    plane.want("unknown", [revision(str(gguf), engine="llamacpp", engineArgs={"ctx_size": 9})])
    plane.want("misspelt", [revision(str(gguf), engine="llamacpp", engineArgs={"ctx_sise": 9})])
    plane.want("nowhere", [of(gguf.with_name("none.gguf"))])
    plane.want("outside", [of(Path("/etc/hostname"))])
    plane.want("missing", [revision(str(gguf.parent))])
    plane.want("gpus", [of(gguf, gpu=2)])
    for name, reason, words in [
        ("cut", "bad_model", "not a GGUF file"),
        ("unknown", "bad_arguments", "--ctx-size"),  # which the stand-in does not know
        ("misspelt", "bad_arguments", "Did you mean ctx_size?"),
        ("nowhere", "bad_model", "none.gguf"),
        ("outside", "bad_model", "IMTS_MODEL_ROOTS"),
        ("missing", "engine_missing", "IMTS_ENGINE_PYTHON"),
        ("gpus", "no_room", "2 GPUs"),
    ]:
        found = worker.state(name, "failed", 20)
        assert (found["reason"], found["restarts"]) == (reason, 0)
        assert words in found["message"] + found.get("hint", "")


def test_a_builtin_model_waits_for_the_service_that_makes_it(worker: Worker, plane: Plane) -> None:
    plane.want("one", [revision("builtin:tiny-qwen3", engine="llamacpp")])
    until(lambda: (plane.replica("one") or {}).get("restarts"), 10)
    assert "the training service, which makes it, does not answer" in plane.replica("one")["message"]


def test_a_taken_port_is_named_and_harms_nobody(worker: Worker, plane: Plane, gguf: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        plane.want("good", [of(gguf)])
        worker.state("good", "ready", 20)
        plane.want("bad", [of(gguf, port=port)])
        found = worker.state("bad", "failed", 10)
        assert found["reason"] == "port_taken"
        assert str(port) in found["message"]
        assert worker.state("good", "ready", 1)["restarts"] == 0


def test_an_engine_that_does_not_come_up_in_time_fails(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf, arguments={"slow": 60}, startTimeoutSeconds=5)])
    found = worker.state("one", "failed", 20)
    assert found["reason"] == "start_timeout"
    assert worker.processes() == []


def test_what_does_not_fit_waits_and_what_never_can_is_refused(worker: Worker, plane: Plane, gguf: Path) -> None:
    large = gguf.with_name("large.gguf")
    with large.open("wb") as file:
        file.write(gguf.read_bytes())
        file.truncate(4 * 2**30)
    plane.want("one", [of(gguf)])
    plane.want("two", [of(gguf)])
    for name in ("one", "two"):
        worker.state(name, "ready", 20)
    plane.want("three", [of(gguf)])
    plane.want("four", [of(large)])
    assert worker.state("four", "failed", 10)["reason"] == "no_room"
    waiting = worker.state("three", "pending", 10)
    assert waiting["reason"] == "no_room"
    assert "it waits" in waiting["message"]
    plane.forget("one")
    worker.state("three", "ready", 20)


def test_an_engine_that_falls_keeps_its_place(worker: Worker, plane: Plane, gguf: Path) -> None:
    for name in ("one", "two"):
        plane.want(name, [of(gguf)])
        worker.state(name, "ready", 20)
    plane.want("three", [of(gguf)])
    worker.state("three", "pending", 10)
    os.kill(pid(worker.state("one", "ready", 1)["url"]), signal.SIGKILL)
    until(lambda: (plane.replica("one") or {}).get("restarts") == 1, 10)
    worker.state("one", "ready", 20)
    assert worker.state("three", "pending", 1)["reason"] == "no_room"


def test_a_version_that_does_not_fit_beside_the_old_one_is_refused(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)], replicas=2)
    for number in (0, 1):
        worker.state("one", "ready", 20, number=number)
    plane.want("one", [of(gguf), of(gguf, 2)], replicas=2, servingRevision=1)
    found = worker.state("one", "failed", 10, revision=2)
    assert found["reason"] == "no_room"
    assert "beside the running version" in found["message"]
    assert worker.state("one", "ready", 1)["restarts"] == 0


def test_a_new_version_starts_beside_the_old_one_which_then_drains(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)], servingRevision=1)
    old = worker.state("one", "ready", 20)
    plane.want("one", [of(gguf), of(gguf, 2)], servingRevision=1)
    new = worker.state("one", "ready", 20, revision=2)
    assert new["url"] != old["url"]
    answers: list[int] = []
    running = threading.Thread(target=lambda: answers.append(generate(old["url"], seconds=4).status_code))
    running.start()
    time.sleep(0.3)
    plane.want("one", [of(gguf, 2)], servingRevision=2, drainSeconds=30)
    until(lambda: plane.replica("one")["draining"], 5)
    worker.gone("one", 15)
    running.join()
    assert answers == [200]
    assert pid(new["url"])


def test_what_is_deleted_ends_its_running_requests(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)], drainSeconds=30)
    url = worker.state("one", "ready", 20)["url"]
    answers: list[int] = []
    running = threading.Thread(target=lambda: answers.append(generate(url, seconds=4).status_code))
    running.start()
    time.sleep(0.3)
    plane.delete("one")
    worker.gone("one", 15)
    running.join()
    assert answers == [200]
    assert worker.processes() == []


def test_who_takes_too_long_is_not_waited_for(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)])
    url = worker.state("one", "ready", 20)["url"]
    threading.Thread(target=lambda: _ignoring(url), daemon=True).start()
    time.sleep(0.3)
    plane.want("one", [of(gguf)], replicas=0, drainSeconds=1)
    worker.gone("one", 6)
    assert worker.processes() == []


def _ignoring(url: str) -> None:
    try:
        generate(url, seconds=60)
    except httpx.TransportError:
        return


def test_replicas_come_and_go_with_their_number(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)], replicas=2)
    urls = {worker.state("one", "ready", 20, number=number)["url"] for number in (0, 1)}
    assert len(urls) == 2
    plane.want("one", [of(gguf)], replicas=1)
    worker.gone("one", 15, number=1)
    assert worker.state("one", "ready", 1)["restarts"] == 0


def test_an_engine_that_runs_and_does_not_generate_is_replaced(worker: Worker, plane: Plane, gguf: Path) -> None:
    mute = gguf.with_name("mute")
    plane.want("one", [of(gguf, arguments={"mute": str(mute)})])
    before = pid(worker.state("one", "ready", 20)["url"])
    mute.touch()
    until(lambda: plane.replica("one")["restarts"] == 1, 60, lambda: plane.replica("one"))
    assert plane.replica("one")["reason"] == "unhealthy"
    assert not alive(before)
    mute.unlink()
    worker.state("one", "ready", 20)


def test_a_control_plane_that_is_away_ends_nothing_and_every_line_comes_once(
    worker: Worker, plane: Plane, gguf: Path
) -> None:
    plane.want("one", [of(gguf)])
    serving = pid(worker.state("one", "ready", 20)["url"])
    plane.away = True
    os.kill(serving, signal.SIGKILL)
    time.sleep(4)
    plane.forgetful = 2
    plane.away = False
    until(lambda: plane.replica("one")["restarts"] == 1, 10)
    worker.state("one", "ready", 20)
    until(lambda: len([line for line in plane.lines if "server is listening" in line["text"]]) > 1, 5)
    texts = [line["text"] for line in plane.lines if "server is listening" in line["text"]]
    assert len(texts) == 2
    assert len([message for message in plane.messages if "signal 9" in message["text"]]) == 1


def test_secrets_are_hidden_in_what_an_engine_says(worker: Worker, plane: Plane, gguf: Path) -> None:
    token = "hf_abcdefghijklmnop"
    plane.want(
        "one", [of(gguf, arguments={"says": f"token {token}", "dies_after": 1.0})], secrets={"huggingface": token}
    )
    until(lambda: any("token ***" in line["text"] for line in plane.lines), 20, lambda: plane.lines)
    assert token not in worker.log.read_text()
    assert not any(token in path.read_text() for path in worker.home.rglob("engine.log"))
    assert not any(token in line["text"] for line in plane.lines)


def test_an_engine_knows_none_of_the_platforms_secrets(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)])
    serving = pid(worker.state("one", "ready", 20)["url"])
    told = Path(f"/proc/{serving}/environ").read_text()
    assert "IMTS_SERVICE_KEY" not in told
    assert "PYTHONPATH" not in told


def test_nothing_is_left_when_the_guard_is_killed(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf, arguments={"forks": True})])
    before = pid(worker.state("one", "ready", 20)["url"])
    of_old = [one.pid for one in psutil.process_iter() if os.getpgid(one.pid) == before]
    assert len(of_old) == 2
    psutil.Process(before).parent().kill()
    until(lambda: not any(alive(one) for one in of_old), 15)
    until(lambda: (plane.replica("one") or {}).get("restarts") == 1, 15)
    assert pid(worker.state("one", "ready", 20)["url"]) != before


def test_nothing_is_left_when_the_worker_is_killed(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)], replicas=2)
    engines = [pid(worker.state("one", "ready", 20, number=number)["url"]) for number in (0, 1)]
    below = worker.processes()
    assert set(engines) < set(below)
    worker.process.kill()
    worker.process.wait()
    until(lambda: not any(alive(one) for one in below), 5)


def test_nothing_is_left_when_the_worker_is_told_to_end(worker: Worker, plane: Plane, gguf: Path) -> None:
    plane.want("one", [of(gguf)])
    worker.state("one", "ready", 20)
    below = worker.processes()
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(15)
    assert not any(alive(one) for one in below)
    assert plane.replicas == []
    assert any(request["draining"] for request in plane.requests)


def test_arguments_are_checked_before_a_deployment_is_stored(worker: Worker) -> None:
    assert worker.check("llamacpp", {"ctx_size": 4096}).json() == {"ok": True, "notes": []}
    refused = worker.check("llamacpp", {"port": 80}).json()
    assert not refused["ok"]
    assert refused["notes"][0]["field"] == "engineArgs.port"
    unknown = worker.check("vllm", {"max_model_len": "many"}).json()
    assert unknown["ok"]
    assert unknown["notes"][0]["level"] == "warning"
    assert worker.check("vllm", {}, key="wrong").status_code == 401
    assert worker.check("nonsense", {}).status_code == 422
