"""The same metric of two runs over the steps: where they part, and a line of characters that shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from failguard.report.plain import plain

__all__ = ["CurvePair", "curve_pairs"]

Points = Sequence[tuple[int, float]]

APART = 0.25  # of the second run's range: nearer is taken for noise
LARGEST = 1.797e308  # MLflow stores infinity as the largest float
UNITS = ("_s", "_bytes", "_percent", "_h")
WIDTH = 32
BARS = "▁▂▃▄▅▆▇█"
NOT_FINITE = "!"


@dataclass(frozen=True, slots=True)
class CurvePair:
    """A metric of two runs.

    Attributes:
        name: The metric.
        first, second: ``(step, value)``, by step.
        apart_from: First step from which on the first run stays away from the second by more than a quarter of the
            second's range, as long as both went on; ``None`` where it does not.
    """

    name: str
    first: tuple[tuple[int, float], ...]
    second: tuple[tuple[int, float], ...]
    apart_from: int | None

    @property
    def lines(self) -> tuple[str, str]:
        """Both as bars, on the second run's steps and range. What leaves the range is a whole bar, NaN a mark."""
        finite = [v for _, v in self.second if math.isfinite(v)] or [v for _, v in self.first if math.isfinite(v)]
        low, high = min(finite, default=0.0), max(finite, default=1.0)
        last = max((p[-1][0] for p in (self.first, self.second) if p), default=0)
        begin = min((p[0][0] for p in (self.first, self.second) if p), default=0)

        def line(points: Points) -> str:
            places = [begin + (last - begin) * i / (WIDTH - 1) for i in range(WIDTH)]
            end = points[-1][0] + (last - begin) / WIDTH
            return "".join(_bar(_at(points, place), low, high) if place <= end else " " for place in places).rstrip()

        return line(self.first), line(self.second)

    def to_dict(self) -> dict[str, Any]:
        """As values of strict JSON."""
        return {
            "name": self.name,
            "apart_from_step": self.apart_from,
            "runs": [
                {"first": plain(p[0][1]), "last": plain(p[-1][1]), "points": len(p), "last_step": p[-1][0]}
                for p in (self.first, self.second)
            ],
        }


def curve_pairs(
    first: Mapping[str, Points], second: Mapping[str, Points], limit: int | None = None
) -> Iterator[CurvePair]:
    """The metrics that both runs have over more than one step; losses first, those of the validation before others.

    Times and sizes are left out: they say nothing of learning.

    Args:
        first, second: Metric to its points, by step.
        limit: At most so many.
    """
    names = [name for name in first if name in second and not name.endswith(UNITS)]
    shared = [name for name in names if len(first[name]) > 1 and len(second[name]) > 1]
    shared.sort(key=lambda name: ("loss" not in name, "val" not in name, "/" in name, name))
    for name in shared[:limit]:
        one, other = (tuple((s, _infinite(v)) for s, v in points) for points in (first[name], second[name]))
        yield CurvePair(name, one, other, _apart_from(one, other))


def _apart_from(first: Points, second: Points) -> int | None:
    finite = [v for _, v in second if math.isfinite(v)]
    reach = APART * (max(finite) - min(finite)) if finite else 0.0
    if reach == 0.0:
        return None
    end = second[-1][0]
    apart: int | None = None
    for step, value in first:
        if step > end:
            break
        if math.isfinite(value) and abs(value - _at(second, step)) <= reach:
            apart = None
        elif apart is None:
            apart = step
    return apart


def _at(points: Points, place: float) -> float:
    """The value at a step: the last one at or before it, else the first."""
    low, high = 0, len(points)
    while low < high:
        middle = (low + high) // 2
        if points[middle][0] <= place:
            low = middle + 1
        else:
            high = middle
    return points[max(low - 1, 0)][1]


def _bar(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return NOT_FINITE
    if high <= low:
        return BARS[0] if value <= low else BARS[-1]
    share = (min(max(value, low), high) - low) / (high - low)
    return BARS[min(int(share * len(BARS)), len(BARS) - 1)]


def _infinite(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else value
