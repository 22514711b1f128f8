"""Numbers in a state, small enough to be sent about every second."""

import base64
from typing import Final

import numpy as np

from inference_service.routing.features import Vector

_KIND: Final = np.dtype("<f4")


def packed(numbers: Vector) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=_KIND).tobytes()).decode("ascii")


def unpacked(text: str, size: int) -> Vector:
    numbers = np.frombuffer(base64.b64decode(text), dtype=_KIND).astype(np.float64)
    if len(numbers) != size or not np.isfinite(numbers).all():
        raise ValueError(f"{size} numbers expected in the state of a route, {len(numbers)} found")
    return numbers
