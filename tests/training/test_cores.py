"""A training leaves the cores to others that others want, and takes them back."""

import os

import pytest

from tests.training.using import apart
from training_service.cores import threads


@pytest.mark.parametrize(
    ("most", "cores", "others", "taken"),
    [(2, 2, 0.0, 2), (2, 2, 0.3, 2), (2, 2, 0.7, 1), (2, 2, 1.0, 1), (2, 2, 5.0, 1), (1, 8, 0.0, 1), (8, 64, 50, 8),
     (8, 8, 2.5, 5)],
)  # fmt: skip
def test_as_many_threads_as_cores_are_free(most: int, cores: int, others: float, taken: int) -> None:
    assert threads(most, cores, others) == taken


@pytest.mark.skipif(os.cpu_count() == 1, reason="one core is never shared")
def test_a_busy_neighbour_takes_cores_and_gives_them_back() -> None:
    beside, after = apart("threads_beside_others")
    assert beside == 1
    assert after > 1
