"""Whether memory grows steadily with steps: no jump, no cache that fills up, no noise of an allocator."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from failguard.core.history import Series
from failguard.core.statistics import median, noise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Growth", "settled_step", "steady_growth"]

SEGMENTS = 8
LEAST_POINTS = 24
LEAST_STEPS = 200
WARM_UP_STEPS = 64
WARM_UP_SHARE = 0.25  # of the steps so far
NOISE_SPANS = 8.0  # robust standard deviations
MOST_POINTS = 64  # for the slope: all pairs are looked at


@dataclass(frozen=True, slots=True)
class Growth:
    """A steady growth.

    Attributes:
        bytes_per_step: Its slope: the median over all pairs of points (Theil 1950, Sen 1968).
        grown_bytes: Over the steps that were looked at.
        steps: How many these were.
        level_bytes: Where it is now.
    """

    bytes_per_step: float
    grown_bytes: float
    steps: int
    level_bytes: float


def settled_step(last_step: int, first_epoch_end: int | None) -> int:
    """The step from which memory may be judged: after warm-up, and after the first epoch, in which caches fill up."""
    return max(WARM_UP_STEPS, int(WARM_UP_SHARE * last_step), first_epoch_end or 0)


def steady_growth(series: Series, from_step: int, least_bytes: float) -> Growth | None:
    """The growth of a series of memory readings, if it is a steady one.

    The steps from ``from_step`` on, 200 or more and at least as many as before, are cut into eight equal parts. The
    medians of at least six of the seven later ones are above the one before, none falls by more than a tenth of the
    growth (garbage that is collected now and then), and the last is the highest; no rise is more than half of the
    growth (a jump); the newer half grew at least three quarters as much as the older one (a cache that fills up grows
    less and less); and the growth is at least ``least_bytes`` and eight times the noise.

    Args:
        series: Bytes at the ends of steps.
        from_step: Where to begin.
        least_bytes: A smaller growth is none.

    Returns:
        ``None`` where the series is too short or does not grow so.
    """
    if len(series) < LEAST_POINTS or series.last is None:
        return None
    import numpy as np

    steps, values = series.steps, series.values
    keep = (steps >= from_step) & np.isfinite(values)
    steps, values = steps[keep], values[keep]
    if (
        values.size < LEAST_POINTS
        or steps[-1] - steps[0] < max(LEAST_STEPS, 0.9 * from_step)
        or values[-1] - values[0] < 0.5 * least_bytes
    ):
        return None
    edges = np.linspace(steps[0], steps[-1] + 1, SEGMENTS + 1)
    parts = [values[(steps >= a) & (steps < b)] for a, b in pairwise(edges)]
    if any(part.size < 2 for part in parts):
        return None
    levels = [median(part.tolist()) for part in parts]
    rises = [b - a for a, b in pairwise(levels)]
    total = levels[-1] - levels[0]
    if sum(rise > 0 for rise in rises) < SEGMENTS - 2 or levels[-1] < max(levels):
        return None
    if max(rises) > 0.5 * total or min(rises) < -0.1 * total:
        return None
    half = SEGMENTS // 2
    if levels[-1] - levels[half] < 0.75 * (levels[half - 1] - levels[0]):
        return None
    slope = _slope(steps, values)
    span = int(steps[-1] - steps[0])
    grown = slope * span
    if grown < max(least_bytes, NOISE_SPANS * noise(values)):
        return None
    return Growth(slope, grown, span, float(values[-1]))


def _slope(steps: NDArray[np.int64], values: Floats) -> float:
    import numpy as np

    at = np.unique(np.linspace(0, values.size - 1, min(values.size, MOST_POINTS)).astype(int))
    x, y = steps[at].astype(np.float64), values[at]
    i, j = np.triu_indices(at.size, k=1)
    apart = x[j] - x[i]
    return float(np.median((y[j] - y[i])[apart > 0] / apart[apart > 0]))
