"""The Python client: what it sends, what it believes, and what it does when the network does not."""

import inspect
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from imts_client import (
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    ServerFault,
    TooManyRequests,
    Unauthorized,
    UnexpectedAnswer,
    WaitTimeout,
)
from imts_client import calls as all_calls
from imts_client.calls import access as access_calls
from imts_client.calls import datasets as dataset_calls
from imts_client.calls import jobs as job_calls
from imts_client.calls import models as model_calls
from imts_client.retries import retry_after
from imts_client.sse import Message, Parser
from imts_shared.contracts.jobs import AnalysisRequest, JobKind, JobState
from tests.cli.conftest import Served
from tests.cli.relay import Relay
from tests.cli.stand_in import KEY, Platform

PARTS = ("jobs", "workers", "datasets", "models", "deployments", "sweeps", "keys", "projects", "tokens", "webhooks",
         "providers", "routes", "routing", "usage")  # fmt: skip


def test_both_clients_say_the_same(served: Served) -> None:
    one, other = Client(served.url, KEY), AsyncClient(served.url, KEY)
    for part in PARTS:
        methods = dict(inspect.getmembers(getattr(one, part), inspect.ismethod))
        awaited = dict(inspect.getmembers(getattr(other, part), inspect.ismethod))
        assert methods.keys() == awaited.keys()
        for name in methods.keys() - {"__init__"}:
            mine, theirs = inspect.signature(methods[name]), inspect.signature(awaited[name])
            assert mine.parameters == theirs.parameters, (part, name)
            answer = str(theirs.return_annotation).replace("AsyncIterator", "Iterator")
            assert str(mine.return_annotation) == answer, (part, name)
    one.close()


def test_every_call_names_a_contract_that_exists() -> None:
    for module in (job_calls, dataset_calls, model_calls, access_calls):
        for name in re.findall(
            r'"((?:jobs|workers|datasets|models|access)\.[A-Z]\w+)"', Path(module.__file__).read_text()
        ):
            assert all_calls.call._model(name).model_fields


def test_jobs_from_submission_to_deletion(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY) as client:
        job = client.jobs.submit(AnalysisRequest(dataset="faq", name="n", labels={"team": "blue"}))
        assert job.kind is JobKind.analysis
        assert job.spec == {"dataset": "faq"}
        assert client.jobs.get(job.id).labels == {"team": "blue"}
        assert client.jobs.pause(job.id).state is JobState.paused
        assert client.jobs.wait(job.id).state is JobState.paused
        assert client.jobs.resume(job.id).state is JobState.queued
        with pytest.raises(Conflict) as refused:
            client.jobs.delete(job.id)
        assert (refused.value.code, refused.value.hint) == ("job_not_ended", "Stop it first.")
        with pytest.raises(WaitTimeout):
            client.jobs.wait(job.id, patience=0.2)
        platform.event(job.id, "metric", {"step": 1, "loss": 0.5})
        assert client.jobs.metrics(job.id, names=["loss"]).points[0].values == {"loss": 0.5}
        assert client.jobs.stop(job.id).state is JobState.stopped
        assert client.jobs.retry(job.id).state is JobState.queued
        client.jobs.stop(job.id)
        assert client.jobs.clone(job.id).clone_of == job.id
        client.jobs.delete(job.id)
        with pytest.raises(NotFound):
            client.jobs.get(job.id)


def test_lists_page_by_themselves(served: Served, platform: Platform) -> None:
    for number in range(120):
        platform.add_job("training" if number % 3 else "analysis", name=f"job {number}", labels={"n": str(number % 2)})
    with Client(served.url, KEY) as client:
        names = [job.name for job in client.jobs.list()]
        assert names == [f"job {number}" for number in reversed(range(120))]
        assert len([r for r in platform.requests if r[1] == "/api/jobs"]) == 3
        assert len(list(client.jobs.list(most=7))) == 7
        wanted = client.jobs.list(kinds=[JobKind.analysis], labels={"n": "0"}, states=["queued"], text="job")
        assert all(job.kind is JobKind.analysis and job.labels == {"n": "0"} for job in wanted)


async def test_the_awaiting_client(served: Served, platform: Platform, rows: Path, tmp_path: Path) -> None:
    async with AsyncClient(served.url, KEY) as client:
        assert (await client.who_am_i()).role == "admin"
        job = await client.jobs.submit_fields("analysis", {"dataset": "faq"})
        platform.log(job.id, "one", "two")
        platform.move(job.id, "succeeded")
        assert [event.seq async for event in client.jobs.watch(job.id)] == [1, 2, 3]
        assert [line.text async for line in client.jobs.follow_logs(job.id, after=1)] == ["two"]
        assert (await client.jobs.wait(job.id)).state is JobState.succeeded
        dataset = await client.datasets.add(rows)
        assert (dataset.name, dataset.rows) == ("faq-rows", 2)
        await client.datasets.download(dataset.id, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == rows.read_bytes()
        assert [one.id async for one in client.datasets.list()] == [dataset.id]
        with pytest.raises(NotFound):
            await client.jobs.get("nothing")


def test_a_lost_answer_makes_no_second_job(served: Served, platform: Platform, relay: Relay) -> None:
    relay.swallow = 2
    with Client(relay.url, KEY) as client:
        job = client.jobs.submit(AnalysisRequest(dataset="faq"))
    assert list(platform.jobs) == [job.id]
    sent = [headers["idempotency-key"] for method, _, headers in platform.requests if method == "POST"]
    assert len(sent) == 3
    assert len(set(sent)) == 1


def test_a_lost_answer_to_a_removal_is_no_error(served: Served, platform: Platform, relay: Relay) -> None:
    job = platform.add_job(state="stopped")
    relay.swallow = 1
    with Client(relay.url, KEY) as client:
        client.jobs.delete(job["id"])
        assert not platform.jobs
        with pytest.raises(NotFound):
            client.jobs.delete(job["id"])


def test_what_cannot_be_repeated_is_not(served: Served, platform: Platform, relay: Relay) -> None:
    with Client(relay.url, KEY) as client:
        relay.swallow = 1
        with pytest.raises(ConnectionFailed):
            client.keys.create("ci")
        assert len(platform.keys) == 1
        platform.faults = [(503, {})]
        with pytest.raises(ServerFault):
            client.keys.create("ci")
        platform.faults = [(429, {"retry-after": "0"})]
        assert client.keys.create("ci").key
    assert len(platform.keys) == 2


def test_retry_after_is_honoured(served: Served, platform: Platform) -> None:
    platform.faults = [(503, {"retry-after": "1"}), (429, {"retry-after": "0"})]
    begun = time.monotonic()
    with Client(served.url, KEY) as client:
        assert list(client.jobs.list()) == []
        assert 1.0 <= time.monotonic() - begun < 3
        platform.faults = [(429, {"retry-after": "3600"})]
        with pytest.raises(TooManyRequests):
            list(client.jobs.list())
        platform.faults = [(503, {"retry-after": "0"})] * 9
        with pytest.raises(ServerFault):
            list(client.jobs.list())
        assert len(platform.faults) == 5


def test_retry_after_may_be_a_date_or_nonsense() -> None:
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "nan"}) is None
    assert retry_after({}) is None


def test_refusals_say_what_the_server_said(served: Served) -> None:
    with Client(served.url, KEY) as client, pytest.raises(InvalidRequest) as refused:
        client.jobs.submit_fields("analysis", {"datset": "faq"})
    assert (refused.value.field, refused.value.hint) == ("datset", "Did you mean 'dataset'?")
    with Client(served.url, "wrong") as client, pytest.raises(Unauthorized, match="opens nothing"):
        client.who_am_i()


def test_an_answer_of_another_version(served: Served, platform: Platform) -> None:
    job = platform.add_job(state="pondering")
    with Client(served.url, KEY) as client, pytest.raises(UnexpectedAnswer, match="state"):
        client.jobs.get(job["id"])


def test_nobody_there(served: Served, relay: Relay) -> None:
    relay.down()
    with Client(relay.url, KEY) as client, pytest.raises(ConnectionFailed, match="Nobody answers"):
        client.who_am_i()


def test_watching_across_breaks_doubles_and_loses_nothing(platform: Platform, relay: Relay) -> None:
    """Every connection breaks after 900 bytes, mostly inside a message, while events go on."""
    job = platform.add_job()
    relay.cut_after = 900

    def work() -> None:
        for step in range(60):
            platform.event(job["id"], "metric", {"step": step, "note": "x" * (step % 7) + "\u2028"})
            time.sleep(0.005)
        platform.move(job["id"], "succeeded")

    worker = threading.Thread(target=work)
    worker.start()
    breaks: list[Any] = []
    with Client(relay.url, KEY) as client:
        seen = [event.seq for event in client.jobs.watch(job["id"], on_break=breaks.append)]
    worker.join()
    assert seen == list(range(1, 63))
    assert len(breaks) > 5


def test_watching_gives_up_when_patience_ends(platform: Platform, relay: Relay) -> None:
    job = platform.add_job()
    with Client(relay.url, KEY) as client:
        events = client.jobs.watch(job["id"], patience=0.5)
        assert next(events).seq == 1
        relay.down()
        with pytest.raises(ConnectionFailed):
            next(events)


def test_a_stream_that_is_refused_is_not_tried_again(served: Served, platform: Platform) -> None:
    job = platform.add_job()
    with Client(served.url, "wrong") as client, pytest.raises(Unauthorized):
        next(client.jobs.watch(job["id"]))
    platform.faults = [(503, {}), (429, {})]
    with Client(served.url, KEY) as client:
        assert next(client.jobs.watch(job["id"])).seq == 1


def test_upload_streams_and_survives_a_break(served: Served, platform: Platform, relay: Relay, tmp_path: Path) -> None:
    big = tmp_path / "big.jsonl"
    big.write_bytes(b'{"text": "abcdefgh"}\n' * 200_000)
    told: list[int] = []
    relay.swallow = 1
    with Client(relay.url, KEY) as client:
        dataset = client.datasets.add(big, "big", told=lambda done, total: told.append(done))
        assert (dataset.bytes, dataset.rows) == (big.stat().st_size, 200_000)
        assert max(told) == big.stat().st_size
        assert told.count(big.stat().st_size) >= 2
        client.datasets.download("big", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == big.read_bytes()
        assert client.datasets.preview("big", offset=5, limit=2).offset == 5


def test_a_broken_download_leaves_no_file(platform: Platform, served: Served, relay: Relay, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"x" * 100_000)
    with Client(served.url, KEY) as client:
        client.datasets.add(file, "rows")
    relay.cut_after = 50_000
    with Client(relay.url, KEY) as client, pytest.raises(ConnectionFailed):
        client.datasets.download("rows", tmp_path / "copy")
    assert [found.name for found in tmp_path.iterdir()] == ["rows.jsonl"]


def test_tokens(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY) as client:
        assert client.tokens.set("reward:judge", "abc").name == "reward:judge"
        client.tokens.set("wandb", "abc", project="blue")
        assert [one.name for one in client.tokens.list()] == ["reward:judge"]
        client.tokens.delete("wandb", project="blue")
    assert platform.tokens == {("default", "reward:judge"): "abc"}


def test_keys_projects_and_webhooks(served: Served, platform: Platform) -> None:
    with Client(served.url, KEY) as client:
        key = client.keys.create("ci", role="viewer")
        assert [one.id for one in client.keys.list()] == [key.id]
        assert client.keys.revoke(key.id).revoked_at
        assert client.projects.create("blue", running=2).max_running_jobs == 2
        assert client.projects.set_quota("blue", running=None).max_running_jobs is None
        assert [project.name for project in client.projects.list()] == ["blue"]
        hook = client.webhooks.create("http://example.org/hook", states=["failed"])
        assert hook.secret
        assert [one.id for one in client.webhooks.list()] == [hook.id]
        assert [one.tries for one in client.webhooks.deliveries(hook.id)] == [2]
        client.webhooks.redeliver(hook.id, "d1")
        client.webhooks.delete(hook.id)
        assert not platform.webhooks


def test_an_id_stays_one_part_of_the_path() -> None:
    assert job_calls.get("../keys").path == "/api/jobs/..%2Fkeys"
    assert job_calls.get("").path == "/api/jobs/%20"


def test_sse_messages_are_whole_or_not_there() -> None:
    whole = 'id: 7\nevent: log\ndata: {"text": "a\u2028b"}\n\n'.encode()
    for cut in range(len(whole)):
        parser = Parser()
        assert list(parser.feed(whole[:cut])) == []
        assert list(parser.feed(whole[cut:])) == [Message("7", "log", '{"text": "a\u2028b"}')]
    assert list(Parser().feed(b": ping\r\n\r\ndata: x\r\n\r\n")) == [Message(None, "message", "x")]
