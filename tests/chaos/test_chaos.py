"""Every kind of fault once, in a seeded order; the long run is `python -m tests.chaos.run --rounds 100`."""

from pathlib import Path

import pytest

from tests.chaos.run import chaos


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_doubled_or_run_twice(tmp_path: Path) -> None:
    summary, violations = chaos(tmp_path, rounds=13, seed=20)
    assert violations == [], f"logs are in {tmp_path}"
    assert summary["jobs"] >= 13  # type: ignore[operator]
