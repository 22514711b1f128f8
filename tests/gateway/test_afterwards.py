"""What is noted of a request a moment after its answer: all of it, in order, and at once for one who asks."""

import asyncio
import itertools
from functools import partial

from inference_service.gateway.afterwards import Afterwards


async def test_it_is_done_a_moment_later_in_order() -> None:
    afterwards, done = Afterwards(), list[int]()
    for number in range(1_000):
        afterwards.add(partial(done.append, number))
    assert not done
    assert len(afterwards) == 1_000
    async with asyncio.timeout(5):
        while afterwards:
            await asyncio.sleep(0.001)
    assert done == list(range(1_000))


async def test_many_are_not_done_all_at_once() -> None:
    """A request that comes meanwhile does not wait for all of them."""
    afterwards, done = Afterwards(), list[int]()
    for number in range(1_000):
        afterwards.add(partial(done.append, number))
    turns = []
    async with asyncio.timeout(5):
        while afterwards:
            turns.append(len(done))
            await asyncio.sleep(0)
    steps = [after - before for before, after in itertools.pairwise(turns)]
    assert max(steps) <= 500


async def test_one_who_asks_has_them_at_once_and_what_fails_fails_alone() -> None:
    afterwards, done = Afterwards(), list[int]()

    def fails() -> None:
        raise ValueError("this one")

    afterwards.add(lambda: done.append(1))
    afterwards.add(fails)
    afterwards.add(lambda: done.append(2))
    afterwards.all()
    assert done == [1, 2]
    await asyncio.sleep(0.02)
    afterwards.add(lambda: done.append(3))
    await asyncio.sleep(0.05)
    assert done == [1, 2, 3]
