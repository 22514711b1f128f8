"""When there is nothing more to wait for."""

import pytest

from imts_client.calls.deployments import rests


@pytest.mark.parametrize(
    ("state", "revision", "serving", "has_error", "adapters", "expected"),
    [
        ("pending", 1, None, False, [], False),
        ("starting", 1, None, False, [], False),
        ("ready", 1, 1, False, [], True),
        ("ready", 1, 1, False, ["pending"], False),
        ("ready", 1, 1, False, ["failed", "loaded"], True),
        ("ready", 2, 1, False, [], False),
        ("ready", 2, 1, True, [], True),
        ("degraded", 1, 1, False, [], False),
        ("degraded", 1, 1, True, [], True),
        ("degraded", 2, 1, True, [], False),
        ("failed", 1, None, True, [], True),
        ("stopped", 1, 1, False, [], True),
    ],
)
def test_resting(
    state: str, revision: int, serving: int | None, has_error: bool, adapters: list[str], expected: bool
) -> None:
    assert rests(state, revision, serving, has_error=has_error, adapters=adapters) is expected
