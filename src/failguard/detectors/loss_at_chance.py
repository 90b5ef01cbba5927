"""A part of ``loss.no_learning``: a loss that stays at chance or at its start, where nobody says what chance is."""

from __future__ import annotations

import math

from failguard.core.history import History
from failguard.core.statistics import median

__all__ = ["chance_of", "frozen_steps", "nothing_moves"]

CLASSES = (*range(2, 11), 100, 1000)
NEAR = 0.003  # of the loss of guessing
LEARNED = 0.99  # a lower share of it has been learned, by training or validation
FAR = 1.1  # a higher share of it at the start was more than the noise of a first epoch
STEADY = 0.005  # by which the accuracy of always naming one class may vary
STILL = 1e-3  # of the first training loss
STILL_EPOCHS = 20
MOVED = 0.02  # of another metric
FROZEN_STEPS, FROZEN_SHARE = 50, 1e-6


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
        if "acc" in name.lower() and len(shares) >= 2 and all(0.5 < share < 1.0 for share in shares):
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


def nothing_moves(history: History, train: list[float]) -> bool:
    """Whether, without validation, the training loss and all other metrics are where they were in the first epoch.

    For 20 epochs and more all training losses lie within 0.1 % of the first one, and no other metric but learning rates
    has changed by 2 % from the older half of the epochs to the newer.

    Args:
        history: For the other metrics.
        train: Finite training losses of the epochs, oldest first.
    """
    if len(train) < STILL_EPOCHS or any(name.startswith("val") for name in history.epochs):
        return False
    if max(train) - min(train) > STILL * abs(train[0]) or train[0] == 0.0:
        return False
    for name, series in history.epochs.items():
        values = [x for x in series.values.tolist() if math.isfinite(x)]
        older, newer = median(values[: len(values) // 2]), median(values[len(values) // 2 :])
        if "lr" not in name and "rate" not in name and abs(newer - older) > MOVED * max(abs(older), abs(newer)):
            return False
    return True


def frozen_steps(history: History) -> float | None:
    """The loss that all steps have to 6 digits, where there are at least 50 and it is not zero; else ``None``."""
    losses = history.steps.get("loss")
    if losses is None or len(losses) < FROZEN_STEPS:
        return None
    first = float(losses.first(1)[0])
    blocks = losses.blocks()
    if first == 0.0 or any(block.finite < block.count for block in blocks):
        return None
    apart = max(block.high for block in blocks) - min(block.low for block in blocks)
    return first if apart <= FROZEN_SHARE * abs(first) else None
