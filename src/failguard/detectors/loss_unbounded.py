"""A part of ``loss.divergence``: a loss that falls below zero ever faster, as one with the wrong sign does."""

from __future__ import annotations

import math
from itertools import pairwise

from failguard.core.history import History
from failguard.core.statistics import train_loss_per_epoch

__all__ = ["falls_without_bound"]

EPOCHS = 8
GROWTH = 100.0  # times the first value, in magnitude


def falls_without_bound(history: History) -> tuple[float, float] | None:
    """Whether training and validation loss fall below zero, by more from each epoch to the next, without an end.

    A likelihood falls fast first and then ever slower. Both losses have to be ``GROWTH`` times their first values, and
    each of the last four drops larger than the one before. Without validation nothing is said: the loss of an actor in
    reinforcement learning falls like that as its rewards grow.

    Args:
        history: What was measured so far.

    Returns:
        The first and the newest training loss, or ``None``.
    """
    train, val = train_loss_per_epoch(history), history.epochs.get("val_loss")
    if train is None or val is None or min(len(train), len(val)) < EPOCHS:
        return None
    if not all(_accelerates(series.values.tolist()) for series in (train, val)):
        return None
    return float(train.values[0]), float(train.values[-1])


def _accelerates(values: list[float]) -> bool:
    recent = values[-5:]
    if not all(map(math.isfinite, [values[0], *recent])) or recent[-1] >= 0.0:
        return False
    drops = [a - b for a, b in pairwise(recent)]
    grows = all(0.0 < a < b for a, b in pairwise(drops))
    return grows and abs(recent[-1]) >= GROWTH * abs(values[0])
