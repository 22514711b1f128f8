"""The choice that partial feedback is measured against: nearest neighbours that have seen every model's outcome."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference_service.routing.features import Features

Matrix = npt.NDArray[np.floating]
SIZES = (10, 20, 40, 80, 160)


def neighbours_quality(seen: Sequence[Features], outcomes: Matrix, truth: Matrix, start: int) -> float:
    """Mean quality from `start` on. Likeness by features or by words, and the number of neighbours, are those that do
    best on what came before; neighbours are all requests before the one in question."""
    best = max(
        ((_chosen(likeness, outcomes, start // 2, start, size), likeness, size)
         for likeness in (_by_features(seen), _by_words(seen))
         for size in SIZES),
        key=lambda tried: float(outcomes[np.arange(start // 2, start), tried[0]].mean()),
    )  # fmt: skip
    chosen = _chosen(best[1], outcomes, start, len(seen), best[2])
    return float(truth[np.arange(start, len(seen)), chosen].mean())


def _chosen(likeness: Matrix, outcomes: Matrix, start: int, end: int, size: int) -> npt.NDArray[np.intp]:
    picks = []
    for at in range(start, end):
        near = np.argpartition(-likeness[at, :at], size)[:size] if at > size else np.arange(at)
        picks.append(outcomes[near].mean(axis=0).argmax())
    return np.array(picks)


def _by_features(seen: Sequence[Features]) -> Matrix:
    table = np.array([features.context for features in seen])[:, 1:]
    squares = (table**2).sum(axis=1)
    distance: Matrix = squares[:, None] + squares[None, :] - 2 * table @ table.T
    return -distance


def _by_words(seen: Sequence[Features]) -> Matrix:
    rows = sorted({row for features in seen for row in features.rows})
    place = {row: at for at, row in enumerate(rows)}
    table = np.zeros((len(seen), len(rows)), dtype=np.float32)
    for at, features in enumerate(seen):
        table[at, [place[row] for row in features.rows]] = 1.0
    table *= np.log(len(seen) / np.maximum(table.sum(axis=0), 1.0))
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-6)
    likeness: Matrix = table @ table.T
    return likeness
