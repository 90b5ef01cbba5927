"""A number that says what it was computed from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Figure", "mean_of", "median_of", "share", "total_of"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        name: Such as ``"repeat_failure_rate"``.
        value: ``None`` where it cannot be computed; ``basis`` says why.
        basis: What it is computed from, in one sentence with the counts.
        counted: How many runs, failures or lessons the number is about: the numerator of a share.
        of: How many there were to count from: the denominator of a share.
        left_out: How many could not be judged and are in neither.
        runs: Ids of the runs behind ``counted``, oldest first.
    """

    name: str
    value: float | None
    basis: str
    counted: int = 0
    of: int = 0
    left_out: int = 0
    runs: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The figure as plain values, for JSON."""
        return {
            "value": self.value,
            "basis": self.basis,
            "counted": self.counted,
            "of": self.of,
            "left_out": self.left_out,
            "runs": list(self.runs),
        }


def share(counted: int, of: int) -> float | None:
    """``counted / of``; ``None`` where there is nothing to count from."""
    return counted / of if of else None


def mean_of(values: Sequence[float]) -> float | None:
    """The mean, the same in every order of the values; ``None`` without values."""
    return math.fsum(values) / len(values) if values else None


def total_of(values: Sequence[float]) -> float | None:
    """The sum, the same in every order of the values; ``None`` without values."""
    return math.fsum(values) if values else None


def median_of(values: Sequence[float]) -> float | None:
    """The middle value, or the mean of the two in the middle; ``None`` without values."""
    ordered, n = sorted(values), len(values)
    if not n:
        return None
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
