"""Robust numbers over a series: levels, noise, and which series is the training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from failguard.core.history import History, Series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["TRAIN_LOSS_NAMES", "median", "noise", "train_loss_per_epoch"]

TRAIN_LOSS_NAMES = ("train_loss", "loss")  # in this order; Keras and many logs call it "loss"


def train_loss_per_epoch(history: History) -> Series | None:
    """The training loss of each epoch, under whichever name it was logged; ``None`` where there is none."""
    for name in TRAIN_LOSS_NAMES:
        series = history.epochs.get(name)
        if series is not None and len(series):
            return series
    return None


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
    return float(1.4826 * 4.0 / 6**0.5 * np.median(np.abs(second)))
