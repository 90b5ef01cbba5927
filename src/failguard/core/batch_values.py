"""What is wrong with the values of one array: not finite, or far beyond those of the batches before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["EXAMPLES", "BadValues", "UsualRange", "bad_values", "first_rows"]

EXAMPLES = 5  # rows that are named
FAR_BEYOND = 1_000.0  # times the largest magnitude before
LEAST_BATCHES, LEAST_ROWS = 8, 64  # before, for a statement on that


@dataclass(frozen=True, slots=True)
class BadValues:
    """Values of one array.

    Attributes:
        count: How many; ``None`` where only their rows are known.
        rows: How many rows hold one.
        first: The first of these rows.
    """

    count: int | None
    rows: int
    first: tuple[int, ...]


def bad_values(array: Any) -> BadValues | None:
    """Where an array holds NaN or Inf; ``None`` where it does not, as one of integers never does.

    Args:
        array: Numbers, the samples first.
    """
    import numpy as np

    if array.dtype.kind != "f" or array.size == 0:
        return None
    with np.errstate(all="ignore"):
        # A sum needs no memory, and is finite only if all values are. It may overflow where they are.
        if np.isfinite(array.sum()):
            return None
    bad = ~np.isfinite(array)
    return _where(bad) if bad.any() else None


class UsualRange:
    """The largest magnitude in the batches before, to tell a batch of absurd values.

    Source: the rule is ours. A thousand times the largest of eight batches is beyond what heavy tails give.
    """

    def __init__(self) -> None:
        self.largest = 0.0
        self._batches = self._rows = 0

    def add(self, arrays: Sequence[Any]) -> tuple[float, BadValues] | None:
        """Take in the arrays of one batch, finite ones.

        Returns:
            The largest magnitude in it and the values near that, where it is far beyond those before. Such a batch is
            not taken in.
        """
        import numpy as np

        arrays = [a for a in arrays if a.dtype.kind == "f" and a.size]
        if not arrays:
            return None
        sizes = [max(float(a.max()), -float(a.min())) for a in arrays]
        top = max(sizes)
        limit = FAR_BEYOND * self.largest
        if self._batches >= LEAST_BATCHES and self._rows >= LEAST_ROWS and 0.0 < limit < top:
            return top, _where(np.abs(arrays[sizes.index(top)]) > limit)
        self.largest = max(self.largest, top)
        self._batches += 1
        self._rows += len(arrays[0]) if arrays[0].ndim else 1
        return None


def first_rows(bad: Any) -> tuple[int, ...]:
    """The first rows with a true value in an array of booleans."""
    return _where(bad).first


def _where(bad: Any) -> BadValues:
    import numpy as np

    rows = np.unique(np.nonzero(np.atleast_1d(bad))[0])
    return BadValues(int(bad.sum()), len(rows), tuple(rows[:EXAMPLES].tolist()))
