"""Who gets which GPUs: what a job takes of a worker, what waits for what, and that nobody waits for ever."""

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.database import Database
from control_plane.workers.room import Room, askable, chosen
from tests.control_plane.test_jobs import submit
from tests.control_plane.worker_side import WorkerSide, execute


class Site:
    """Training jobs by a name, and the workers that they went to."""

    def __init__(self, client: httpx.AsyncClient, worker: WorkerSide) -> None:
        self.client = client
        self.worker = worker
        self.ids: dict[str, str] = {}
        self.messages: dict[str, Any] = {}

    async def join(self, name: str, gpus: int = 0, slots: int | None = None, **more: Any) -> None:
        await self.worker.join(name, ("training",), slots=slots or max(1, gpus), gpus=gpus, **more)

    async def submit(self, name: str, gpus: int | None = None, **body: Any) -> dict[str, Any]:
        asked = {} if gpus is None else {"gpus": gpus}
        job = await submit(self.client, modelName="builtin:tiny-qwen3", name=name, **asked, **body)
        self.ids[name] = job["id"]
        return job

    async def sent(self) -> dict[str, str]:
        """What goes out now, by job and worker."""
        told = {message.job_id: message for message in await self.worker.dispatch()}
        names = {identity: name for name, identity in self.ids.items()}
        self.messages |= {names[identity]: message for identity, message in told.items()}
        return {names[identity]: (await self.job(names[identity]))["workerId"] for identity in told}

    async def job(self, name: str) -> dict[str, Any]:
        return (await self.client.get(f"/api/jobs/{self.ids[name]}")).json()

    async def why(self, name: str) -> tuple[str, str]:
        waiting = (await self.job(name))["waitingFor"]
        return waiting["code"], waiting["message"]

    async def end(self, name: str) -> None:
        message, place = self.messages[name], (await self.job(name))["workerId"]
        assert (await self.worker.claim(message, place)).status_code == 200
        done = await self.worker.report(message, batch=1, outcome={"status": "succeeded", "result": {}})
        assert done.status_code == 200, done.text

    async def busy(self) -> dict[str, str]:
        found = (await self.client.get("/api/workers")).json()["items"]
        return {one["id"]: f"{one['busy']}/{one['slots']}" for one in found}

    def waited(self, name: str, seconds: float = 3600) -> None:
        execute(
            self.worker.database.url,
            "UPDATE jobs SET created_at = created_at - make_interval(secs => %s) WHERE id = %s",
            seconds,
            self.ids[name],
        )


@pytest.fixture
async def site(url: str, admin: httpx.AsyncClient, database: Database) -> Site:
    return Site(admin, WorkerSide(url, database))


async def test_a_job_takes_the_gpus_that_it_asks_for_and_as_many_slots(site: Site) -> None:
    await site.join("four", gpus=4)
    for name, gpus in (("two", 2), ("plain", None), ("cpu", 0), ("next", None)):
        await site.submit(name, gpus)
    assert await site.sent() == {"two": "four", "plain": "four", "cpu": "four"}
    assert await site.busy() == {"four": "4/4"}
    assert (await site.why("next"))[0] == "busy"
    assert await site.sent() == {}
    await site.end("two")
    assert await site.busy() == {"four": "2/4"}
    assert await site.sent() == {"next": "four"}
    assert await site.busy() == {"four": "3/4"}


async def test_slots_that_were_set_otherwise(site: Site) -> None:
    await site.join("narrow", gpus=4, slots=1)
    await site.submit("all", 4)
    await site.submit("after", 1)
    assert await site.sent() == {"all": "narrow"}
    assert await site.busy() == {"narrow": "1/1"}
    await site.end("all")
    assert await site.sent() == {"after": "narrow"}
    await site.join("wide", gpus=2, slots=5)
    for name, gpus in (("a", 1), ("b", None), ("c", None), ("d", 0), ("e", 0), ("f", 0)):
        await site.submit(name, gpus)
    assert await site.sent() == dict.fromkeys("abdef", "wide")
    assert await site.busy() == {"narrow": "1/1", "wide": "5/5"}


async def test_without_any_gpu_every_job_runs_on_the_cpu(site: Site) -> None:
    await site.join("cpu", slots=2)
    await site.submit("many", 8)
    await site.submit("plain")
    assert (await site.why("many"))[0] == "turn"
    assert await site.sent() == {"many": "cpu", "plain": "cpu"}
    assert await site.busy() == {"cpu": "2/2"}


async def test_where_there_are_gpus_what_names_them_waits_for_them(site: Site) -> None:
    await site.join("cpu", slots=9)
    await site.join("gpus", gpus=2)
    told = await site.submit("four", 4)
    assert told["waitingFor"] == {"code": "no_worker", "message": "No worker owns 4 GPUs; the largest has 2."}
    assert told["expectedStartAt"] is None
    await site.submit("none", 0)
    await site.submit("one", 1)
    await site.submit("plain")
    await site.submit("later")
    await site.submit("named", 1)
    assert await site.sent() == {"none": "cpu", "one": "gpus", "plain": "gpus", "later": "cpu"}
    code, words = await site.why("named")
    assert (code, words.partition(";")[0]) == ("busy", "GPUs needed on one worker: 1, free on one: 0")
    assert (await site.why("four"))[0] == "no_worker"
    await site.join("large", gpus=4)
    assert await site.sent() == {"four": "large"}
    assert await site.sent() == {}
    await site.end("plain")
    assert await site.sent() == {"named": "gpus"}


async def test_a_worker_that_drains_is_not_replaced_by_a_cpu(site: Site) -> None:
    await site.join("cpu", slots=2)
    await site.join("gpus", gpus=2, draining=True)
    await site.submit("named", 1)
    await site.submit("plain")
    assert await site.sent() == {"plain": "cpu"}
    assert (await site.why("named"))[0] == "busy"
    await site.join("gpus", gpus=2)
    assert await site.sent() == {"named": "gpus"}


async def test_what_fits_nowhere_holds_nobody_up(site: Site) -> None:
    await site.join("gpus", gpus=2)
    for number in range(30):
        await site.submit(f"huge {number}", 8 if number % 2 else 3, priority=5)
        site.waited(f"huge {number}")
    await site.submit("small", 1)
    await site.submit("other", 1, project="other")
    assert set(await site.sent()) == {"small", "other"}
    assert (await site.why("huge 0"))[0] == "no_worker"


async def test_what_does_not_fit_uses_up_no_quota(site: Site) -> None:
    await site.join("gpus", gpus=2)
    await site.client.patch("/api/projects/default", json={"maxRunningJobs": 1})
    await site.submit("huge", 8)
    await site.submit("small", 1)
    await site.submit("second", 1)
    assert set(await site.sent()) == {"small"}
    assert await site.sent() == {}


async def test_small_jobs_fill_up_a_worker_and_leave_another_whole(site: Site) -> None:
    await site.join("a", gpus=4)
    await site.join("b", gpus=4)
    for name in ("1", "2", "3"):
        await site.submit(name)
    went = await site.sent()
    assert len(set(went.values())) == 1
    await site.submit("whole", 4)
    assert await site.sent() == {"whole": ({"a", "b"} - set(went.values())).pop()}


async def test_a_large_job_that_has_waited_gets_a_worker_kept_for_it(site: Site) -> None:
    await site.join("a", gpus=2)
    await site.join("b", gpus=4)
    for name in ("1", "2", "3"):
        await site.submit(name, 1)
    await site.sent()
    await site.submit("large", 4)
    await site.submit("4", 1)
    assert "4" in await site.sent(), "young large jobs keep nobody waiting"
    site.waited("large")
    for name in ("5", "6", "7"):
        await site.submit(name, 1, project="other")
    assert list((await site.sent()).values()) == []
    on_b = [name for name in "1234" if (await site.job(name))["workerId"] == "b"]
    on_a = [name for name in "1234" if name not in on_b]
    for name in on_b[:-1]:
        await site.end(name)
        assert await site.sent() == {}
    for name in on_a[:1]:
        await site.end(name)
        assert list((await site.sent()).values()) == ["a"], "the other worker goes on"
    await site.end(on_b[-1])
    assert await site.sent() == {"large": "b"}


async def test_higher_priority_goes_before_a_large_job_that_has_waited(site: Site) -> None:
    await site.join("gpus", gpus=2)
    await site.submit("first", 1)
    await site.sent()
    await site.submit("large", 2)
    site.waited("large")
    await site.submit("same", 1)
    assert await site.sent() == {}
    await site.submit("urgent", 1, priority=1)
    assert await site.sent() == {"urgent": "gpus"}
    await site.end("first")
    await site.end("urgent")
    assert await site.sent() == {"large": "gpus"}
    assert (await site.why("same"))[0] == "busy"


async def test_large_jobs_that_have_waited_go_in_turn_and_only_as_their_quota_allows(site: Site) -> None:
    await site.join("gpus", gpus=2)
    await site.client.patch("/api/projects/other", json={"maxRunningJobs": 0})
    await site.submit("barred", 2, project="other")
    await site.submit("large", 2)
    await site.submit("larger", 2)
    for name in ("barred", "large", "larger"):
        site.waited(name)
    assert await site.sent() == {"large": "gpus"}
    await site.end("large")
    await site.submit("small", 1)
    assert await site.sent() == {"larger": "gpus"}


PLACES = st.lists(
    st.builds(
        lambda gpus, slots, draining: Room("w", "q", ["training"], slots, gpus, slots, gpus, draining),
        st.integers(0, 4),
        st.integers(1, 6),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(PLACES, st.lists(st.none() | st.integers(0, 6), max_size=20))
def test_nothing_is_given_twice_and_what_can_be_placed_is_known(places: list[Room], jobs: list[int | None]) -> None:
    for asked in jobs:
        possible = askable(places)
        for one in (None, *range(7)):
            if any(room.gpus for room in places):
                assert (one in possible) == (chosen(places, one) is not None)
        room = chosen(places, asked)
        if room is None:
            continue
        room.take(asked)
        assert room.free_slots >= 0
        assert room.free_gpus >= 0
        assert not room.draining
        if room.gpus == 0 and asked:
            assert not any(other.gpus for other in places)
