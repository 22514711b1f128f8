"""What is remembered of decisions: each as a few bytes once its request has ended, what came of it once, and what was
asked last."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pytest

from imts_shared.contracts.access import Role
from imts_shared.contracts.routes import Feedback, Lesson, Lessons, Result
from imts_shared.contracts.serving import Snapshot
from inference_service.gateway.afterwards import Afterwards
from inference_service.gateway.control_plane import ControlPlane
from inference_service.gateway.counting import Tokens
from inference_service.gateway.decided import Decided
from inference_service.gateway.directory import Caller, Directory
from inference_service.gateway.elsewhere import MOST_TELLING, Elsewhere
from inference_service.gateway.judge import Judge
from inference_service.gateway.learners import Learners
from inference_service.gateway.ledger import Ledger
from inference_service.gateway.lessons import Hearing
from inference_service.gateway.quota import FREE, Quota
from inference_service.gateway.router import Router
from inference_service.routing.decision import Offer

NOW = datetime.now(UTC)


class Noted(Ledger):
    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.judgements: list[Feedback] = []

    def decided(self, decision: bytes) -> None:
        self.told.append(decision)

    def judged(self, feedback: Feedback) -> None:
        self.judgements.append(feedback)


class Made:
    """A gateway's memory, and one decision in it."""

    def __init__(self) -> None:
        directory = Directory()
        directory.apply(Snapshot(version="v1", keys=[], models=[]))
        self.learners = Learners(directory)
        self.ledger = Noted()
        nobody = (object.__new__(Elsewhere), object.__new__(Judge), Afterwards())
        self.router = Router(directory, self.learners, object.__new__(Quota), self.ledger, *nobody)
        self.decided = self.decides()

    def decides(self) -> Decided:
        features = self.learners.extractor("default").extract({"messages": [{"role": "user", "content": "Hello"}]})
        offers = [Offer("one"), Offer("other")]
        choice = self.learners.of("default", "mine").explain(features, offers, np.random.default_rng(1))
        caller = Caller("k", Role.inference, "default")
        kept, at = self.router._remember(caller, "default", "mine", features, choice)
        return Decided(kept, features, choice, at, FREE)

    def lesson(self, **told: Any) -> Lesson:
        kept = self.decided.kept
        record = orjson.loads(kept.record)
        about = {"decision_id": kept.id, "features": record["features"], "context": record["context"], "at": NOW}
        return Lesson(
            **{**about, **told}, number=1, gateway="b", project="default", route="mine", model=kept.model, key_id="k"
        )


@pytest.mark.parametrize("tried", [True, False])
def test_a_decision_is_encoded_once_its_request_has_ended(tried: bool) -> None:
    here = Made()
    made = here.decided
    here.router.finished(made, made.model, Tokens(), 0.0, 0.1, failed=False, tried=tried)
    assert isinstance(made.kept.made, bytes)
    assert made.kept.answer().candidates
    assert len(here.ledger.told) == tried


@pytest.mark.parametrize("said", [{"quality": 1.0, "rating": 5}, {"result": Result(cost=0.5)}])
async def test_what_was_taken_here_is_not_learned_of_another_gateway_once_more(said: dict[str, Any]) -> None:
    """Both were told at the same moment, before one heard of the other."""
    here = Made()
    signal = "rating" if "rating" in said else "reported"
    feedback = Feedback(decision_id=here.decided.id, key_id="k", at=NOW, signal=signal, **said)
    again = here.lesson(**{name: value for name, value in said.items() if name != "rating"})
    here.router.take(here.decided.kept, feedback)
    before = here.learners.of("default", "mine").stats()["models"]
    await _heard(here, again)
    assert here.learners.of("default", "mine").stats()["models"] == before
    await _heard(here, again.model_copy(update={"decision_id": "another", "key_id": "other"}))
    assert here.learners.of("default", "mine").stats()["models"] != before


async def _heard(here: Made, lesson: Lesson) -> None:
    told = asyncio.Event()

    class Telling(ControlPlane):
        def __init__(self) -> None: ...

        async def lessons(self, _life: str, after: int, *, start: bool) -> Lessons:
            if after:
                told.set()
                await asyncio.sleep(60)
            return Lessons(items=[lesson], number=1)

    hearing = asyncio.create_task(Hearing(Telling(), here.learners, here.router, "here").follow())
    await told.wait()
    hearing.cancel()


def test_what_was_asked_since_is_not_forgotten_for_what_is_heard_late() -> None:
    here = Made()
    body = b'{"model": "mine"}'
    asked = here.decides()
    here.router.finished(asked, asked.model, Tokens(), 0.0, 0.1, failed=False, tried=True, body=body)
    what = orjson.loads(here.ledger.told[-1])["asked"]
    late = here.lesson(asked=what, decision_id="of-another-gateway", at=NOW - timedelta(seconds=300))
    assert here.router.heard(late)
    again = here.decides()
    here.router.finished(again, again.model, Tokens(), 0.0, 0.1, failed=False, tried=True, body=body)
    assert [(one.signal, one.decision_id) for one in here.ledger.judgements] == [("regenerated", asked.id)]


async def test_signs_of_decisions_elsewhere_are_told_a_few_at_a_time() -> None:
    answered = asyncio.Event()
    told = 0

    class Slow(ControlPlane):
        def __init__(self) -> None: ...

        async def feedback(self, _life: str, _said: bytes) -> Lesson:
            nonlocal told
            told += 1
            await answered.wait()
            return Made().lesson(quality=0.25)

    directory = Directory()
    directory.apply(Snapshot(version="v1", keys=[], models=[]))
    elsewhere = Elsewhere(Slow(), Learners(directory), "here")
    for number in range(1_000):
        elsewhere.notice(Feedback(decision_id=f"dec-{number}", quality=0.25, weight=0.3, signal="regenerated", at=NOW))
    await asyncio.sleep(0)
    assert told == MOST_TELLING
    answered.set()
    for _ in range(100):
        await asyncio.sleep(0)
    elsewhere.notice(Feedback(decision_id="dec-later", quality=0.25, weight=0.3, signal="regenerated", at=NOW))
    await asyncio.sleep(0)
    assert told == MOST_TELLING + 1
