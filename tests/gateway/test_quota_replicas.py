"""Several gateways, each a process, spend of one limit."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.valkey import Valkey, valkey

MONTH = "token_budget:month"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


class Replica:
    def __init__(self, server: Valkey, out: Path, seed: int, **told: Any) -> None:
        self.out = out
        defaults = {"seconds": 40, "callers": 8, "largest": 100, "ratios": [0.5, 1, 2], "takes": 0.05, "pause": 0.005}
        told = {"url": server.url, "out": str(out), "seed": seed, **defaults, **told}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.quota_replica", json.dumps(told)], stdout=subprocess.PIPE
        )

    def ended(self) -> int:
        try:
            said, _ = self.process.communicate(timeout=90)
        finally:
            self.process.kill()
        assert self.process.returncode == 0
        refused: int = json.loads(said)["refused"]
        return refused

    def spent(self) -> list[tuple[float, int, float]]:
        """Whole lines only: one that is killed may leave half a line."""
        if not self.out.exists():
            return []
        lines = [line.split() for line in self.out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [(float(at), int(tokens), float(money)) for at, tokens, money in lines]


def run(server: Valkey, folder: Path, **told: Any) -> tuple[list[tuple[float, int, float]], int]:
    server.forget()
    replicas = [Replica(server, folder / f"{seed}", seed, **told) for seed in range(3)]
    refused = sum(replica.ended() for replica in replicas)
    return [entry for replica in replicas for entry in replica.spent()], refused


@pytest.mark.parametrize(
    ("ratios", "budget"),
    [([0.5, 1, 2], 60_000), ([2], 60_000), ([0.1], 10_000)],
    ids=["random", "twice", "a-tenth"],
)
def test_a_token_budget_is_not_overspent(server: Valkey, tmp_path: Path, ratios: list[float], budget: int) -> None:
    entries, refused = run(server, tmp_path, limits={"tokenBudget": budget}, ratios=ratios)
    spent = sum(tokens for _, tokens, _ in entries)
    print(f"spent {spent / budget:.2%} of the budget, {refused} refused")
    assert budget * 0.98 <= spent <= budget * 1.01
    assert refused > 0
    [key] = [key for key in _keys(server) if MONTH in key]
    assert float(server.counter(key)["s"]) == spent


def test_a_money_budget_is_not_overspent(server: Valkey, tmp_path: Path) -> None:
    entries, refused = run(server, tmp_path, limits={"moneyBudget": 40.0, "budgetPeriod": "total"})
    spent = sum(money for _, _, money in entries)
    assert 40 * 0.98 <= spent <= 40 * 1.01
    assert refused > 0


def test_no_window_holds_more_requests_than_the_limit(server: Valkey, tmp_path: Path) -> None:
    window, limit = 2.0, 300
    entries, refused = run(
        server, tmp_path, limits={"requestsPerMinute": limit}, window=window, seconds=6, takes=0.001, callers=4
    )
    most = _most_within(window, [(at, 1) for at, _, _ in entries])
    print(f"at most {most} of {limit} in a window, {len(entries)} in all")
    assert most <= limit * 1.01
    assert len(entries) >= limit * 2
    assert refused > 0


def test_tokens_of_a_window_stay_within_the_limit_when_estimates_hold(server: Valkey, tmp_path: Path) -> None:
    window, limit = 2.0, 10_000
    entries, _ = run(
        server,
        tmp_path,
        limits={"tokensPerMinute": limit},
        window=window,
        seconds=6,
        ratios=[0.3, 0.7, 1],
        takes=0.02,
        callers=4,
    )
    assert limit * 0.7 <= _most_within(window, [(at, tokens) for at, tokens, _ in entries]) <= limit * 1.01


def test_what_a_killed_gateway_held_is_not_spent_again(server: Valkey, tmp_path: Path) -> None:
    budget = 80_000
    server.forget()
    told: dict[str, Any] = {"limits": {"tokenBudget": budget}, "pause": 0.1}
    doomed = Replica(server, tmp_path / "doomed", 9, **told)
    others = [Replica(server, tmp_path / f"{seed}", seed, **told) for seed in range(2)]
    _until(lambda: sum(tokens for _, tokens, _ in doomed.spent()) > budget * 0.1)
    doomed.process.send_signal(signal.SIGKILL)
    doomed.process.wait()
    for replica in others:
        assert replica.ended() > 0
    spent = sum(tokens for replica in (doomed, *others) for _, tokens, _ in replica.spent())
    print(f"spent {spent / budget:.2%} of the budget")
    assert budget * 0.95 <= spent <= budget * 1.01


def _keys(server: Valkey) -> list[str]:
    with server.client() as client:
        return [key.removeprefix("imts:quota:") for key in client.keys("imts:quota:*")]


def _most_within(window: float, entries: list[tuple[float, int]]) -> int:
    """The largest sum of any window that ends with an entry."""
    entries = sorted(entries)
    sums = [0, *accumulate(amount for _, amount in entries)]
    most = first = 0
    for last, (at, _) in enumerate(entries):
        while entries[first][0] <= at - window:
            first += 1
        most = max(most, sums[last + 1] - sums[first])
    return most


def _until(true: Any, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)
