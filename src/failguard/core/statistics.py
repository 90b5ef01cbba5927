"""Robust numbers over a series: levels, noise, and which series is the training loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from failguard.core.history import History, Series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "TRAIN_LOSS_NAMES",
    "bounded",
    "evenly_spaced",
    "losses_of_new_samples",
    "median",
    "median_of_means",
    "noise",
    "projected",
    "to_unit",
    "train_loss_per_epoch",
]

TRAIN_LOSS_NAMES = ("train_loss", "loss")  # in this order; Keras and many logs call it "loss"


def train_loss_per_epoch(history: History) -> Series | None:
    """The training loss of each epoch, under whichever name it was logged; ``None`` where there is none."""
    for name in TRAIN_LOSS_NAMES:
        series = history.epochs.get(name)
        if series is not None and len(series):
            return series
    return None


def losses_of_new_samples(history: History) -> list[float]:
    """Training losses of the second half of the first epoch, in blocks: of samples that the model had not seen yet."""
    losses, epochs = history.steps.get("loss"), train_loss_per_epoch(history)
    if losses is None:
        return []
    steps = history.facts.steps_per_epoch or len(losses) // max(len(epochs or ()), 1)
    blocks = [b for b in losses.blocks() if steps / 2 <= b.start and b.start + b.count <= steps and b.finite]
    return [b.mean for b in blocks]


def bounded(value: float) -> float:
    """The value, cut off at 1e300 on either side, so that a ratio of extreme numbers stays a number in JSON."""
    return min(max(value, -1e300), 1e300)


def to_unit(values: Floats) -> tuple[Floats, int]:
    """Scale values into [-1, 1] by a power of two, so that what follows neither overflows nor rounds.

    Args:
        values: Finite values, float64, shape (n,), at least one.

    Returns:
        ``values * 2 ** -exponent`` and the exponent.
    """
    import numpy as np

    exponent = int(np.frexp(np.abs(values).max())[1])
    return np.ldexp(values, -exponent), exponent


def evenly_spaced(points: Sequence[float], tolerance: float = 0.15) -> bool:
    """Whether points come in a rhythm: at one distance, at a distance that doubles, or at multiples of the shortest.

    So come the jumps of a cyclic learning rate, of warm restarts (Loshchilov and Hutter, "SGDR", 2017) and of epochs;
    instabilities do not.

    Args:
        points: Increasing, above 0, where 0 is the start of the run. One alone has no rhythm.
        tolerance: How far a distance may be from the expected one, as a share of it.
    """
    if len(points) < 2:
        return False
    since_start = [b - a for a, b in pairwise([0.0, *points])]
    between = since_start[1:]
    shortest = min(between)
    if shortest <= 0:
        return False
    if all(abs(p / shortest - round(p / shortest)) <= 0.2 * tolerance for p in points):
        return True
    for gaps in (since_start, between):
        for factor in (1.0, 2.0):
            unit = median([gap / factor**i for i, gap in enumerate(gaps)])
            if len(gaps) > 1 and all(abs(gap / factor**i - unit) <= tolerance * unit for i, gap in enumerate(gaps)):
                return True
    return False


def median(values: Sequence[float]) -> float:
    """The median of a few numbers; ten times as fast as NumPy's on a list of 32.

    Args:
        values: Finite values, at least one.
    """
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return 0.5 * ordered[half - 1] + 0.5 * ordered[half]


def median_of_means(values: Floats, size: int = 8) -> float | None:
    """Median of the means of ``size`` values each: close to the mean of skewed values, but blind to single outliers.

    Args:
        values: float64, shape (n,). Values that are not finite are left out.
        size: Values a mean.

    Returns:
        The level, ``None`` without a finite value; the plain mean of fewer than ``size`` values.
    """
    import numpy as np

    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    size = min(size, values.size)
    whole = values[values.size % size :].reshape(-1, size)
    # Divided first, so that values near the float limit do not overflow.
    return median((whole / size).sum(axis=1).tolist())


def projected(values: Sequence[float], remaining: int) -> float:
    """Where a series that falls from epoch to epoch ends if it goes on at the same pace.

    Args:
        values: One an epoch, finite, oldest first. The newer half, at least three, is looked at.
        remaining: Epochs to come.

    Returns:
        The value at the end; infinity for a series that does not fall at every epoch of the newer half.
    """
    newest = values[-max(3, len(values) // 2) :]
    if len(newest) < 3 or any(b >= a for a, b in pairwise(newest)):
        return math.inf
    pace = newest[-1] / (len(newest) - 1) - newest[0] / (len(newest) - 1)
    return newest[-1] + pace * max(remaining, 0)


def noise(values: Floats) -> float:
    """Standard deviation of what is left of a series without its trend.

    1.4826 x the median absolute second difference, over sqrt(6): a robust form of the mean square successive difference
    (von Neumann, Annals of Mathematical Statistics 12, 1941), in which a straight trend cancels out.

    Args:
        values: Finite values, float64, shape (n,).

    Returns:
        The estimate in the unit of the values, 0 for fewer than 3 values.
    """
    import numpy as np

    if values.size < 3:
        return 0.0
    scaled = values * 0.25  # so that values near the float limit do not overflow
    second = scaled[2:] - 2.0 * scaled[1:-1] + scaled[:-2]
    spread = 1.4826 * 4.0 / 6**0.5 * median(np.abs(second).tolist())
    return bounded(spread)
