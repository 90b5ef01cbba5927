"""Many samples in constant memory: running statistics, and a thinned-out course over time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["POINTS", "Course", "Running"]

POINTS = 512


class Running:
    """Start, least, mean, peak and last of one quantity.

    Attributes:
        count: Readings taken in.
    """

    __slots__ = ("_last", "_least", "_mean", "_peak", "_start", "count")

    def __init__(self) -> None:
        self.count = 0
        self._start = self._least = self._mean = self._peak = self._last = 0.0

    def add(self, value: float) -> None:
        """Take in one reading."""
        self.count += 1
        if self.count == 1:
            self._start = self._least = self._mean = self._peak = self._last = value
            return
        self._mean += (value - self._mean) / self.count
        self._least = min(self._least, value)
        self._peak = max(self._peak, value)
        self._last = value

    def to_dict(self) -> dict[str, float]:
        """The statistics, in the unit of the quantity. Only for at least one reading."""
        return {
            "start": self._start,
            "min": self._least,
            "mean": self._mean,
            "peak": self._peak,
            "last": self._last,
        }


class Course:
    """Every reading at first; when there are more than 512 points every other one is dropped, and so on."""

    def __init__(self) -> None:
        self._every = 1
        self._seen = 0
        self._elapsed_s: list[float] = []
        self._rows: list[Mapping[str, float]] = []

    def add(self, elapsed_s: float, values: Mapping[str, float]) -> None:
        """Take in the readings of one moment."""
        if self._seen % self._every == 0:
            if len(self._rows) >= POINTS:
                self._elapsed_s = self._elapsed_s[::2]
                self._rows = self._rows[::2]
                self._every *= 2
            if self._seen % self._every == 0:
                self._elapsed_s.append(elapsed_s)
                self._rows.append(values)
        self._seen += 1

    def to_dict(self) -> dict[str, list[Any]]:
        """``elapsed_s`` and one list a quantity, all of the same length (at most 512); ``None`` is no reading."""
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        columns: dict[str, list[Any]] = {name: [row.get(name) for row in self._rows] for name in names}
        return {"elapsed_s": list(self._elapsed_s), **columns}
