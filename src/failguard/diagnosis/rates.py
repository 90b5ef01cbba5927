"""Usual learning rates of optimizers: what counts as high or low for which."""

from __future__ import annotations

import math
from dataclasses import dataclass

from failguard.core.facts import OptimizerFacts

__all__ = ["RateBand", "band_of", "effective_rate", "lower_rate", "raised_rate"]


@dataclass(frozen=True, slots=True)
class RateBand:
    """Learning rates of one optimizer.

    Attributes:
        usual: A value to begin with.
        low, high: Below and above these, training seldom works.
    """

    low: float
    usual: float
    high: float


# By part of the class name, the first that matches. `usual` is the default of torch.optim or keras.optimizers. The
# limits are a factor of about ten to a hundred around it; for SGD they hold for the rate divided by (1 - momentum):
# Goyal et al. 2017 train with 0.1 and momentum 0.9, which makes 1; Bengio 2012 gives 1e-6 to 1 and 0.01 as default.
_BANDS = (
    ("adadelta", RateBand(1e-3, 1.0, 5.0)),
    ("adagrad", RateBand(1e-4, 1e-2, 0.5)),
    ("adafactor", RateBand(1e-6, 1e-3, 5e-2)),
    ("lion", RateBand(1e-7, 1e-4, 1e-3)),
    ("lbfgs", RateBand(1e-3, 1.0, 2.0)),
    ("lars", RateBand(1e-3, 0.1, 30.0)),
    ("muon", RateBand(1e-4, 2e-2, 0.2)),
    ("ada", RateBand(1e-6, 1e-3, 1e-2)),  # Adam, AdamW, Nadam, RAdam, Adamax, AMSGrad
    ("amsgrad", RateBand(1e-6, 1e-3, 1e-2)),
    ("lamb", RateBand(1e-5, 1e-3, 5e-2)),
    ("rmsprop", RateBand(1e-6, 1e-3, 1e-2)),
    ("ftrl", RateBand(1e-4, 1e-3, 0.5)),
    ("sgd", RateBand(1e-5, 1e-2, 2.0)),
)


def band_of(optimizer: OptimizerFacts) -> RateBand | None:
    """The usual rates of an optimizer, ``None`` for one that is not known."""
    name = optimizer.name.lower()
    return next((band for part, band in _BANDS if part in name), None)


def effective_rate(optimizer: OptimizerFacts) -> float | None:
    """The rate that the band is for: with momentum m, steps add up to 1 / (1 - m) of the rate under SGD.

    Returns:
        ``None`` where the rate is not known or no positive number.
    """
    rate = optimizer.learning_rate
    if rate is None or not math.isfinite(rate) or rate <= 0:
        return None
    momentum = optimizer.momentum
    if "sgd" in optimizer.name.lower() and momentum is not None and 0 < momentum < 1:
        return rate / (1.0 - momentum)
    return rate


def lower_rate(optimizer: OptimizerFacts) -> float | None:
    """A rate to try when the present one is too high: a tenth of it, or the usual one if that is lower."""
    rate, band = optimizer.learning_rate, band_of(optimizer)
    if rate is None or not math.isfinite(rate) or rate <= 0:
        return None
    return _round(min(rate / 10.0, band.usual if band else math.inf))


def raised_rate(optimizer: OptimizerFacts) -> float | None:
    """A rate to try when the present one is too low: ten times it, or the usual one if that is higher."""
    rate, band = optimizer.learning_rate, band_of(optimizer)
    if rate is None or not math.isfinite(rate) or rate <= 0:
        return None
    return _round(max(rate * 10.0, band.usual if band else 0.0))


def _round(rate: float) -> float:
    return float(f"{rate:.1g}")
