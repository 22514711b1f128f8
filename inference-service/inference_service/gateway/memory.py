"""What lives long is kept out of the garbage collector's way: it stops every request while it looks through all of it,
in vain."""

import asyncio
import contextlib
import ctypes
import gc

from inference_service.gateway.directory import Directory

CALM_SECONDS = 2.0
LEAST_BETWEEN = 60.0
THRESHOLDS = 5_000, 20, 10
"""Requests leave next to no cycles, so looking for them seldom does."""


async def keep_calm(directory: Directory) -> None:
    """After a start, and after snapshots that bring new things, at most once in a while."""
    while True:
        changed = directory.changed
        await asyncio.sleep(CALM_SECONDS)
        set_aside()
        await changed.wait()
        await asyncio.sleep(LEAST_BETWEEN)


def set_aside() -> None:
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()
    _give_back()


def _give_back() -> None:
    """What was used to train the classifier and to read snapshots, where the C library knows how (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
