"""What the classifier has learned, as texts are read by it: each token's weights, and the domain that it is typical of.

The numbers of a token stand side by side in one whole number, so that adding them up is adding whole numbers. For a few
dozen tokens that is as quick as numpy, and much quicker after a pause: numpy's code would have to be fetched from
memory first, while Python's own is used all the time."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BYTES: Final = 4
ONE: Final = 2**16
MIDDLE: Final = 2**31
"""Where the zero of each of the numbers lies in a sum."""
MOST: Final = 100.0
"""What is beyond this is taken for it. A sum may reach 32,768: of the some 420 tokens of a text few weigh much."""

Rows = npt.NDArray[np.floating[Any]]


class Table:
    def __init__(
        self,
        vocabulary: Mapping[str, int],
        lexicon: Mapping[str, str],
        domains: Sequence[str],
        weights: Rows,
        beyond: Mapping[str, Sequence[float]],
    ) -> None:
        """`beyond`: the last columns but one of tokens that are not in the vocabulary; all else of them is nothing."""
        self.columns: Final = weights.shape[1]
        self.names: Final = list(vocabulary)
        self._lexicon: Final = lexicon
        self._domains: Final = domains
        count = self.columns + len(domains)
        self._bytes: Final = BYTES * count
        self._unpack: Final = struct.Struct(f"<{count}I").unpack
        self.nothing: Final = int.from_bytes(MIDDLE.to_bytes(BYTES, "little") * count, "little")
        """What tokens are added to."""
        told = [*beyond, *(token for token in lexicon if token not in vocabulary and token not in beyond)]
        more = np.zeros((len(told), self.columns))
        if beyond:
            votes = np.array(list(beyond.values()))
            more[: len(beyond), -1 - votes.shape[1] : -1] = votes
        rows = np.vstack([weights, more])
        names = self.names + told
        self.tokens: Final = dict(zip(names, self.packed(names, rows), strict=True))

    def packed(self, names: Sequence[str | None], weights: Rows) -> list[int]:
        """Of tokens with these weights; None: of one without a name."""
        typical = [None if name is None else self._lexicon.get(name) for name in names]
        rows = np.hstack([weights, [[float(domain == each) for each in self._domains] for domain in typical]])
        whole = np.rint(np.clip(rows, -MOST, MOST) * ONE).astype(np.int64) + MIDDLE
        return [int.from_bytes(row.tobytes(), "little") - self.nothing for row in whole.astype("<u4")]

    def unpacked(self, total: int) -> tuple[int, ...]:
        """The sums of the weights, and of how many tokens are typical of each domain: MIDDLE and so many ONEs."""
        return self._unpack(total.to_bytes(self._bytes, "little"))

    def typical(self, total: int) -> list[tuple[str, int]]:
        """The domains that tokens are typical of, and how many of them."""
        counts = self.unpacked(total)[self.columns :]
        return [
            (domain, (at - MIDDLE) // ONE) for domain, at in zip(self._domains, counts, strict=True) if at != MIDDLE
        ]
