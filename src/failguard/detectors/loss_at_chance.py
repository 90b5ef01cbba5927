"""A part of ``loss.no_learning``: a loss that stays at what guessing costs, where nobody says how many classes."""

from __future__ import annotations

import math

from failguard.core.history import History
from failguard.core.statistics import median

__all__ = ["chance_of"]

CLASSES = (*range(2, 11), 100, 1000)
NEAR = 0.003  # of the loss of guessing
LEARNED = 0.99  # a lower share of it has been learned, by training or validation
FAR = 1.1  # a higher share of it at the start was more than the noise of a first epoch
STEADY = 0.005  # by which the accuracy of always naming one class may vary


def chance_of(history: History, train: list[float], val: list[float]) -> tuple[float, str] | None:
    """The loss of guessing at which training has stayed from the first epoch on, and what guessing it is.

    Either ln k of a usual number of classes k, or, with a metric of accuracy that stays at a share p, the entropy of p:
    what always naming the more frequent of two classes costs. In the newer half of the epochs the median of the
    training losses lies within 0.3 % of it, and three quarters of them within 1 %; neither training nor validation was
    ever below 99 % of it, and the first epoch was not above 110 %. A loss that came down and settled is not meant.

    Args:
        history: For the metrics of accuracy.
        train: Finite training losses of the epochs, oldest first, at least four.
        val: Finite validation losses, oldest first; may be empty.
    """
    newer = train[len(train) // 2 :]
    level = median(newer)
    guesses = {math.log(k): f"guessing between {k} classes" for k in CLASSES}
    for name, series in history.epochs.items():
        shares = series.values[len(series) // 2 :].tolist()
        if "acc" in name.lower() and len(shares) >= 2 and 0.5 < min(shares) and max(shares) < 1.0:
            share = median(shares)
            if max(shares) - min(shares) <= STEADY:
                entropy = -share * math.log(share) - (1.0 - share) * math.log1p(-share)
                guesses.setdefault(entropy, f"always naming the class of {100.0 * share:.3g} % of the samples")
    for loss, what in guesses.items():
        if (
            abs(level - loss) <= NEAR * loss
            and min(train + val) >= LEARNED * loss
            and train[0] <= FAR * loss
            and 4 * sum(abs(x - loss) <= 0.01 * loss for x in newer) >= 3 * len(newer)
        ):
            return loss, what
    return None
