"""However requests, settlements, visits and lost answers follow each other: nothing is lost, nothing counts twice, and
no limit is passed."""

import asyncio
import time
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imts_shared.contracts.limits import Limits, Period
from inference_service.gateway.quota.counter import Answered, Counter, Kind, Visit
from inference_service.gateway.quota.scopes import MARGIN, Grant, Scopes, take
from inference_service.gateway.quota.store import Store
from tests.gateway.valkey import Valkey, valkey

LIMIT = 400
REPLICAS = 3
FAR = 60.0

replica = st.integers(0, REPLICAS - 1)
asked = st.tuples(st.just("ask"), replica, st.integers(20, 100))
steps = st.lists(
    st.one_of(
        asked,
        asked,
        st.tuples(st.just("settle"), replica, st.sampled_from([0, 50, 100, 200])),
        st.tuples(st.just("visit"), replica, st.just(0)),
        st.tuples(st.just("slow visit"), replica, st.integers(1, 20)),
        st.tuples(st.just("lost"), replica, st.just(0)),
        st.tuples(st.just("unheard"), replica, st.just(0)),
    ),
    min_size=10,
    max_size=50,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


class Gateway:
    """What a quota does with one counter, step by step."""

    def __init__(self, server: Valkey, key: str, kind: Kind) -> None:
        self.store = Store(server.url, uuid.uuid4().hex, 5.0)
        period = Period.total if kind is Kind.token_budget else None
        self.counter = Counter(key, "key:k", kind, LIMIT, now=time.monotonic(), window=FAR, period=period)
        self.counter.may_fill = True
        self.scopes = Scopes(("key:k",), (Limits(),), [self.counter])
        self.grants: list[tuple[Grant, int]] = []
        self.settled = 0

    def plan(self) -> Visit:
        return self.counter.visit(time.monotonic(), REPLICAS, idle_seconds=FAR, life_ms=60_000)

    async def send(self, visit: Visit) -> Answered:
        [answer] = await self.store.visit([(self.counter.key, visit)])
        return answer

    async def visit(self, taken_meanwhile: int = 0) -> None:
        """While Redis is asked, requests go on taking from what is left."""
        visit = self.plan()
        answer = await self.send(visit)
        while taken_meanwhile and self.take(taken_meanwhile):
            pass
        self.counter.heard(visit, answer, time.monotonic())

    async def ask(self, tokens: int) -> None:
        if not self.take(tokens):
            self.counter.ask(tokens * (MARGIN if self.counter.is_budget else 1))
            await self.visit()
            self.take(tokens)

    def take(self, tokens: int) -> bool:
        grant = take(self.scopes, tokens, tokens * MARGIN, 0)
        if grant is not None:
            self.grants.append((grant, tokens))
        return grant is not None

    def settle(self, percent: int) -> None:
        if self.grants:
            grant, tokens = self.grants.pop(0)
            really = tokens * min(percent, 200 if self.counter.is_budget else 100) // 100
            grant.settle(really, 0)
            self.settled += really


@settings(max_examples=100, deadline=None)
@given(steps=steps, kind=st.sampled_from([Kind.token_budget, Kind.tokens]))
def test_the_books_balance(server: Valkey, steps: list[tuple[str, int, int]], kind: Kind) -> None:
    asyncio.run(_balance(server, steps, kind))


async def _balance(server: Valkey, steps: list[tuple[str, int, int]], kind: Kind) -> None:
    key = f"imts:quota:{uuid.uuid4().hex}"
    gateways = [Gateway(server, key, kind) for _ in range(REPLICAS)]
    for what, which, amount in steps:
        gateway = gateways[which]
        if what == "ask":
            await gateway.ask(amount)
        elif what == "settle":
            gateway.settle(amount)
        elif what == "visit":
            await gateway.visit()
        elif what == "slow visit":
            await gateway.visit(amount)
        elif what == "lost":
            await gateway.send(gateway.plan())
        else:
            gateway.plan()
        counters = [gateway.counter for gateway in gateways]
        assert all(counter.left >= 0 and counter.promised >= 0 for counter in counters)
        held = sum(counter.left + counter.promised for counter in counters)
        assert sum(gateway.settled for gateway in gateways) + held <= LIMIT
    for gateway in gateways:
        while gateway.grants:
            gateway.settle(100)
        await gateway.visit()
        assert gateway.counter.promised == 0
    counted = server.counter(key.removeprefix("imts:quota:"))
    assert float(counted["s"]) == sum(gateway.settled for gateway in gateways) <= LIMIT
    assert float(counted.get("d", 0)) == 0
    for gateway in gateways:
        await gateway.store.close()
