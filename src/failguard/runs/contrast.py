"""Which value of a configuration sets the runs that failed apart from those that went well. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from failguard.diagnosis.wording import number
from failguard.runs.similarity import Values, what

__all__ = ["Split", "splits", "value_text"]

LEAST_SHARE = 0.8  # of either group that has to be on its own side
NOT_SET = "not set"


@dataclass(frozen=True, slots=True)
class Split:
    """One value that sets two groups of runs apart.

    Attributes:
        name: Name of the value.
        direction: 1 where high numbers failed, -1 where low ones did, 0 for what is no number.
        failed_at, good_at: The bounds of the two sides, that is the value nearest to the other side; without a
            direction the text of the values there.
        failed, failed_of: How many of the runs on the failing side failed.
        good, good_of: How many of the runs on the good side went well.
        score: Mean share of the two groups on their own side, 0 to 1.
    """

    name: str
    direction: int
    failed_at: Any
    good_at: Any
    failed: int
    failed_of: int
    good: int
    good_of: int
    score: float

    @property
    def failing_side(self) -> str:
        """``"lr >= 0.3"``."""
        return self._side(self.failed_at, ">=" if self.direction > 0 else "<=")

    @property
    def good_side(self) -> str:
        """``"lr <= 0.03"``."""
        return self._side(self.good_at, "<=" if self.direction > 0 else ">=")

    def fails(self, values: Values) -> bool:
        """Whether a configuration is on the failing side, its bound included."""
        value = values.get(self.name)
        if self.direction == 0:
            return value_text(value) in self.failed_at
        return isinstance(value, float) and (value - self.failed_at) * self.direction >= 0

    def is_good(self, values: Values) -> bool:
        """Whether a configuration is on the good side, its bound included."""
        value = values.get(self.name)
        if self.direction == 0:
            return value_text(value) in self.good_at
        return isinstance(value, float) and (value - self.good_at) * self.direction <= 0

    def _side(self, bound: Any, sign: str) -> str:
        if self.direction:
            return f"{self.name} {sign} {number(bound)}"
        return f"{self.name} {' or '.join(sorted(bound))}"


def splits(failed: Sequence[Values], good: Sequence[Values], first: Collection[str] = ()) -> list[Split]:
    """The values that set runs that failed apart from runs that went well, the most telling first.

    For numbers every threshold is tried, in both directions; four fifths of each group have to be on their own side.
    Anything else has to be of different values in the two groups, throughout.

    Args:
        failed, good: Configurations of the two groups.
        first: Meanings of values (see :func:`failguard.runs.similarity.what`) that the failure is known to depend on.

    Returns:
        At most one for each value; none where one of the groups is empty.
    """
    if not failed or not good:
        return []
    names = list(dict.fromkeys(name for values in (*failed, *good) for name in values))
    found = [split for name in names if (split := _split(name, failed, good)) is not None]
    return sorted(found, key=lambda s: (what(s.name) not in first, -s.score, -_gap(s), s.name))


def value_text(value: Any) -> str:
    """A value in a sentence."""
    if value is None:
        return NOT_SET
    if isinstance(value, bool):
        return str(value)
    return number(value) if isinstance(value, float) else str(value)


def _split(name: str, failed: Sequence[Values], good: Sequence[Values]) -> Split | None:
    bad, well = [v.get(name) for v in failed], [v.get(name) for v in good]
    if all(isinstance(v, float) for v in (*bad, *well)):
        up, down = _threshold(name, bad, well, 1), _threshold(name, bad, well, -1)
        both = [s for s in (up, down) if s is not None]
        return max(both, key=lambda s: s.score) if both else None
    texts, others = {value_text(v) for v in bad}, {value_text(v) for v in well}
    if texts & others or len(texts) > 3 or len(others) > 3:
        return None
    return Split(name, 0, frozenset(texts), frozenset(others), len(bad), len(bad), len(well), len(well), 1.0)


def _threshold(name: str, failed: Sequence[Any], good: Sequence[Any], direction: int) -> Split | None:
    """The best threshold of a number: failing at and beyond it in the direction."""
    bad, well = sorted(v * direction for v in failed), sorted(v * direction for v in good)
    best: tuple[float, float] | None = None
    for bound in sorted(set(bad)):
        beyond = 1.0 - bisect_left(bad, bound) / len(bad)
        short = bisect_left(well, bound) / len(well)
        if min(beyond, short) >= LEAST_SHARE and (best is None or beyond + short > best[0]):
            best = (beyond + short, bound)
    if best is None:
        return None
    score, bound = best
    limit = well[bisect_left(well, bound) - 1]
    failed_beyond = len(bad) - bisect_left(bad, bound)
    good_short = bisect_right(well, limit)
    return Split(
        name,
        direction,
        failed_at=bound * direction,
        good_at=limit * direction,
        failed=failed_beyond,
        failed_of=failed_beyond + len(well) - bisect_left(well, bound),
        good=good_short,
        good_of=good_short + bisect_right(bad, limit),
        score=score / 2.0,
    )


def _gap(split: Split) -> float:
    """Distance of the two sides in powers of ten; without a direction, or across zero, one."""
    if split.direction == 0 or split.failed_at * split.good_at <= 0.0:
        return 1.0
    return abs(math.log10(abs(split.failed_at / split.good_at)))
