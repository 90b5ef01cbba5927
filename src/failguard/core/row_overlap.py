"""Whether validation rows are training rows, from hashes of a sample of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Overlap", "RowOverlap"]

MOST_TRAINING = 100_000  # rows; 8 bytes each
MOST_VALIDATION = 10_000
ROWS_A_BATCH = 1_024  # of a larger batch an even sample
ELEMENTS_A_ROW = 4_096  # the same
ELEMENTS = 40_000_000  # of all rows that are taken in before training: some tenths of a second
LEAST_ROWS = 3
LEAST_SHARE = 0.01  # of the validation rows
MORE = 1.25  # times the training rows of the last comparison, for another one
BY_CHANCE = 3.0  # times what rows that are equal by nature give


@dataclass(frozen=True, slots=True)
class Overlap:
    """What was found.

    Attributes:
        inside: Validation rows among the training rows that were looked at.
        rows: Validation rows looked at.
        training_rows: Different training rows looked at.
        share: Estimated share of all validation rows that are training rows, 0 to 1.
    """

    inside: int
    rows: int
    training_rows: int
    share: float


class RowOverlap:
    """Compares the inputs of validation batches with those of training batches. It keeps hashes, never a row.

    Rows that repeat each other by nature (few features of few values) are no leakage. How often two rows are equal by
    chance is taken from the repeats among the training rows of the first epoch, and among the validation rows.
    """

    def __init__(self) -> None:
        self._training: list[Any] = []
        self._validation: list[Any] = []
        self._training_rows = self._validation_rows = 0
        self._has_all = {"training": False, "validation": False}
        self._first_epoch: int | None = None
        self._first_rows: list[Any] = []  # of the first epoch
        self._compared_at = (0, 0)

    @property
    def wants_training(self) -> bool:
        """There is room for more training rows."""
        return not self._has_all["training"] and self._training_rows < MOST_TRAINING

    @property
    def wants_validation(self) -> bool:
        """There is room for more validation rows."""
        return not self._has_all["validation"] and self._validation_rows < MOST_VALIDATION

    def add_training(self, inputs: Sequence[Any], epoch: int = 0) -> None:
        """Take in a training batch.

        Args:
            inputs: Arrays, the samples first.
            epoch: Its epoch; rows come again in the next one.
        """
        hashes = _hashes(inputs) if self.wants_training else None
        if hashes is None:
            return
        self._first_epoch = epoch if self._first_epoch is None else self._first_epoch
        if epoch == self._first_epoch:
            self._first_rows.append(hashes)
        self._training.append(hashes)
        self._training_rows += len(hashes)

    def add_validation(self, inputs: Sequence[Any]) -> None:
        """Take in a validation batch. Offer each of them once."""
        hashes = _hashes(inputs) if self.wants_validation else None
        if hashes is not None:
            self._validation.append(hashes)
            self._validation_rows += len(hashes)

    def add_data(self, inputs: Sequence[Any], *, validation: bool = False) -> None:
        """Take in an even sample of all rows. Batches, which show them again, are left out after it.

        Args:
            inputs: Arrays, the samples first.
            validation: They are the validation's rows.
        """
        add, most = (self.add_validation, MOST_VALIDATION) if validation else (self.add_training, MOST_TRAINING)
        rows = min((len(a) for a in inputs if a.ndim), default=0)
        width = sum(min(a[:1].size, ELEMENTS_A_ROW) for a in inputs if a.ndim)
        most = max(1, min(most, ELEMENTS // max(width, 1)))
        apart = 1 + (rows - 1) // most if rows else 1
        for start in range(0, rows, apart * ROWS_A_BATCH):
            add([a[start : min(start + apart * ROWS_A_BATCH, rows) : apart] for a in inputs if a.ndim])
        self._has_all["validation" if validation else "training"] = True

    def compare(self, train_samples: int | None = None) -> Overlap | None:
        """Look for the validation rows among the training rows.

        Args:
            train_samples: How many there are in all, where that is known: of a sample of them only a share is found.

        Returns:
            What was found; ``None`` where it is nothing, less than 1 % of the validation rows, or chance; and where
            little is new since the last time.
        """
        import numpy as np

        new, before = (self._training_rows, self._validation_rows), self._compared_at
        has_little_new = new[0] < MORE * before[0] and new[1] == before[1]
        if not all(new) or has_little_new:
            return None
        self._compared_at = new
        training, validation = np.unique(np.concatenate(self._training)), np.concatenate(self._validation)
        inside = int(np.isin(validation, training).sum())
        rows = len(validation)
        if inside < LEAST_ROWS:
            return None
        seen = min(1.0, len(training) / train_samples) if train_samples else 1.0
        share = min(1.0, inside / rows / seen)
        if share < LEAST_SHARE or inside <= BY_CHANCE * self._by_chance(validation) + 2:
            return None
        return Overlap(inside, rows, len(training), share)

    def _by_chance(self, validation: Any) -> float:
        """Matches to be expected where rows are equal by chance.

        The share of training rows that equal another one is what a row from elsewhere would have too. A sampler that
        draws rows repeatedly makes repeats of its own, so the validation rows are asked as well, and the lower estimate
        counts: of n rows, r of which repeat another, r m / n would be found among m rows, and of three more if few.
        """
        import numpy as np

        first = np.concatenate(self._first_rows)
        from_training = _repeats(first) / len(first) * len(validation)
        from_validation = (_repeats(validation) + 3) / len(validation) * len(first)
        return min(from_training, from_validation)


def _repeats(hashes: Any) -> int:
    """How many rows equal another one."""
    import numpy as np

    counts = np.unique(hashes, return_counts=True)[1]
    return int(counts[counts > 1].sum())


def _hashes(inputs: Sequence[Any]) -> Any:
    """One 64-bit hash a row, shape (rows,); ``None`` where rows are single numbers, which are equal by chance."""
    import numpy as np

    arrays = [a for a in inputs if a.ndim and a.size]
    rows = min((len(a) for a in arrays), default=0)
    if not rows or not any(a.size > len(a) for a in arrays):
        return None
    at = range(0, rows, 1 + (rows - 1) // ROWS_A_BATCH)
    parts = []
    for array in arrays:
        flat = array[: rows : at.step].reshape(len(at), -1)
        parts.append(np.ascontiguousarray(flat[:, :: 1 + (flat.shape[1] - 1) // ELEMENTS_A_ROW]))
    if len(parts) == 1:
        hashes = [hash(row.tobytes()) for row in parts[0]]
    else:
        hashes = [hash(tuple(part[i].tobytes() for part in parts)) for i in range(len(at))]
    return np.asarray(hashes, dtype=np.int64)
