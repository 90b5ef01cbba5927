"""The targets of the first validation: their classes, and the loss of a constant prediction on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from failguard.core.batch_facts import TargetStatistics

__all__ = ["ValidationTargets"]

MAX_CLASSES = 1000  # more are a vocabulary


class ValidationTargets:
    """Validation targets, batch by batch. It keeps counts and statistics, as of training.

    Attributes:
        counts: Targets by class, where they are whole numbers from 0 on, or rows that hold a single 1.
        samples: How many were shown.
        is_whole: These are all.
    """

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.samples = 0
        self.is_whole = False
        self._statistics = TargetStatistics()
        self._has_classes = True

    def add(self, targets: Sequence[Any]) -> None:
        """Take in the targets of a batch, or all of them.

        Args:
            targets: Arrays, the samples first. Of several nothing is made.
        """
        self.samples += len(targets[0]) if targets and targets[0].ndim else 0
        if len(targets) != 1 or not targets[0].size:
            self._has_classes, self.counts = False, {}
            return
        self._statistics.add(targets[0])
        if self._has_classes:
            self._count(targets[0])

    def trivial_loss(self, kind: str, delta: float = 1.0) -> float | None:
        """See :meth:`failguard.core.batch_facts.TargetStatistics.trivial_loss`; ``None`` where not all were shown."""
        return self._statistics.trivial_loss(kind, delta, is_all=True) if self.is_whole else None

    def class_counts(self, like: Mapping[int, int]) -> dict[int, int]:
        """Targets by class.

        Args:
            like: Those of training; nothing is a class where there are none.
        """
        return dict(sorted(self.counts.items())) if like else {}

    def _count(self, values: Any) -> None:
        import numpy as np

        if values.ndim > 1 and values.shape[-1] > 1 and values.dtype.kind == "f":
            rows = values.reshape(-1, values.shape[-1])
            is_one_hot = bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(axis=1) == 1).all())
            found = rows.sum(axis=0) if is_one_hot else None
        else:
            flat = values.reshape(-1)
            is_whole = flat.dtype.kind in "iub" or bool((flat == np.round(flat)).all())
            found = np.bincount(flat[flat >= 0].astype(np.int64)) if is_whole and flat.max() < MAX_CLASSES else None
        if found is None or len(found) > MAX_CLASSES:
            self._has_classes, self.counts = False, {}
            return
        for c, n in enumerate(found.tolist()):
            if n:
                self.counts[c] = self.counts.get(c, 0) + int(n)
