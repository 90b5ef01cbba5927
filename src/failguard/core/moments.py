"""Mean, spread and range of values that come batch by batch, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Moments"]


class Moments:
    """Running moments of columns, by the pairwise update of Chan, Golub and LeVeque (1979).

    Attributes:
        count: Rows taken in.
        mean: float64, shape (columns,).
        low, high: The same for the smallest and the largest value.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.low: Any = float("inf")
        self.high: Any = float("-inf")
        self._squares: Any = 0.0  # sums of squared distances from the mean
        self._within: Any = 0.0  # the part of them that is within batches

    def add(self, rows: Any) -> None:
        """Take in one batch.

        Args:
            rows: Finite numbers, shape (n, columns).
        """
        import numpy as np

        n = len(rows)
        if n == 0:
            return
        rows = np.asarray(rows, dtype=np.float64)
        mean = rows.mean(axis=0)
        squares = np.square(rows - mean).sum(axis=0)
        total = self.count + n
        apart = mean - self.mean
        self._within = self._within + squares
        self._squares = self._squares + squares + np.square(apart) * (self.count * n / total)
        self.mean = self.mean + apart * (n / total)
        self.low, self.high = np.minimum(self.low, rows.min(axis=0)), np.maximum(self.high, rows.max(axis=0))
        self.count = total

    @property
    def variance(self) -> Floats:
        """Mean squared distance from the mean, float64, shape (columns,)."""
        import numpy as np

        return np.asarray(self._squares / max(self.count, 1), dtype=np.float64)

    @property
    def within(self) -> float:
        """Share of the variance, summed over columns, that is within batches: near 1 where batches are mixed well."""
        import numpy as np

        total = float(np.sum(self._squares))
        return float(np.sum(self._within)) / total if total > 0 else 1.0
