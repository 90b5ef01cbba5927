"""Healthy runs as logs of one value an epoch, as papers plot them."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.detection.curves.curve import epochs_only
from benchmarks.detection.curves.shapes import Rng, ar1, exponential, noisy, power_law

from failguard.detectors.base import Example

__all__ = ["EPOCHS_HEALTHY"]


def image_net_steps(rng: Rng, name: str) -> Example:
    """A residual net on small images: the rate drops two or three times, validation is wild before the first drop."""
    n = int(rng.integers(90, 301))
    drops = [int(n * s) for s in ((0.5, 0.75) if rng.uniform() < 0.5 else (0.3, 0.6, 0.8))]
    train = power_law(n, 1.9, rng.uniform(0.15, 0.45), 1.0, rng.uniform(2, 8))
    val = train * rng.uniform(1.1, 1.5) + 0.05
    wild = np.full(n, rng.uniform(0.06, 0.3))
    for drop in drops:
        fall = rng.uniform(0.25, 0.6)
        settle = 1.0 - (1.0 - fall) * (1.0 - np.exp(-np.arange(n - drop) / 2.0))
        train[drop:] *= settle
        val[drop:] *= 1.0 - (1.0 - fall) * rng.uniform(0.3, 0.8) * (1.0 - np.exp(-np.arange(n - drop) / 2.0))
        wild[drop:] *= 0.3
    return epochs_only(name, noisy(rng, train, 0.01), val * np.exp(wild * rng.standard_normal(n)))


def image_net_cosine(rng: Rng, name: str) -> Example:
    n = int(rng.integers(30, 201))
    phase = 0.5 * (1 + np.cos(np.pi * np.arange(n) / n))
    train = power_law(n, 2.0, 0.3, 0.9, 3.0) * (0.25 + 0.75 * phase)
    val = power_law(n, 1.9, 0.45, 0.8, 3.0) * (0.55 + 0.45 * phase)
    return epochs_only(
        name, noisy(rng, train, 0.015), val * np.exp(rng.uniform(0.02, 0.15) * phase * rng.standard_normal(n))
    )


def fine_tuned_transformer(rng: Rng, name: str) -> Example:
    n = int(rng.integers(2, 7))
    val = rng.uniform(0.25, 0.5) * np.array([1.0, 0.93, 0.91, 0.92, 0.93, 0.925])[:n]
    train = np.array([0.55, 0.33, 0.27, 0.24, 0.22, 0.21])[:n] * rng.uniform(0.8, 1.2)
    return epochs_only(name, noisy(rng, train, 0.02), noisy(rng, val, 0.015))


def tabular(rng: Rng, name: str) -> Example:
    """A small net on a table: most is learned at once, both are flat from then on."""
    n = int(rng.integers(15, 150))
    level = rng.uniform(0.2, 0.62)
    train = exponential(n, 0.69, level, rng.uniform(8, 40))
    val = exponential(n, 0.68, level * rng.uniform(1.0, 1.08), rng.uniform(8, 40))
    return epochs_only(name, noisy(rng, train, 0.006), noisy(rng, val, rng.uniform(0.002, 0.03)))


def segmentation(rng: Rng, name: str) -> Example:
    """A U-Net with a Dice loss on few images: noisy validation that follows training."""
    n = int(rng.integers(40, 200))
    train = exponential(n, rng.uniform(0.7, 0.95), rng.uniform(0.05, 0.25), rng.uniform(3, 9))
    val = train + rng.uniform(0.01, 0.06)
    return epochs_only(name, noisy(rng, train, 0.02), val + rng.uniform(0.01, 0.04) * rng.standard_normal(n))


def few_validation_samples(rng: Rng, name: str) -> Example:
    """Two hundred samples: each epoch's validation strays by more than the trend."""
    n = int(rng.integers(20, 300))
    train = exponential(n, 1.1, rng.uniform(0.3, 0.6), rng.uniform(2, 8))
    val = exponential(n, 1.1, rng.uniform(0.5, 0.7), rng.uniform(3, 12))
    return epochs_only(name, noisy(rng, train, 0.02), noisy(rng, val, rng.uniform(0.05, 0.25)))


def straying_validation(rng: Rng, name: str) -> Example:
    """Validation that wanders around its level with a memory of a few epochs."""
    n = int(rng.integers(30, 200))
    train = exponential(n, 1.5, rng.uniform(0.2, 0.6), rng.uniform(3, 8))
    val = exponential(n, 1.5, rng.uniform(0.6, 0.8), rng.uniform(5, 15))
    wander = ar1(rng, n, rng.uniform(0.3, 0.6))
    return epochs_only(name, noisy(rng, train, 0.01), val * np.exp(rng.uniform(0.01, 0.05) * wander))


def validation_below_training(rng: Rng, name: str) -> Example:
    """Dropout and augmentation: training stays above validation."""
    n = int(rng.integers(20, 150))
    train = exponential(n, 2.3, rng.uniform(0.6, 1.0), rng.uniform(3, 8))
    return epochs_only(
        name, noisy(rng, train, 0.01), noisy(rng, train * rng.uniform(0.6, 0.9), rng.uniform(0.01, 0.06))
    )


def benign_gap(rng: Rng, name: str) -> Example:
    """Training goes on towards zero, validation stays where it is."""
    n = int(rng.integers(30, 200))
    train = exponential(n, 2.0, 0.003, rng.uniform(4, 9))
    val = exponential(n, 2.0, rng.uniform(0.3, 0.9), rng.uniform(8, 20))
    return epochs_only(name, noisy(rng, train, 0.03), noisy(rng, val, rng.uniform(0.003, 0.05)))


def solved(rng: Rng, name: str) -> Example:
    n = int(rng.integers(20, 150))
    train = exponential(n, 2.3, 1e-4, 25.0)
    val = exponential(n, 2.3, rng.uniform(0.01, 0.05), 22.0)
    return epochs_only(name, noisy(rng, train, 0.1), noisy(rng, val, rng.uniform(0.05, 0.2)))


def double_descent(rng: Rng, name: str) -> Example:
    """A low hill of validation, then lower than before."""
    n = int(rng.integers(80, 250))
    x = np.arange(n) / n
    train = exponential(n, 2.0, 0.05, 5.0)
    hill = rng.uniform(0.01, 0.035) * np.exp(-(((x - 0.4) / 0.12) ** 2))
    val = exponential(n, 2.0, 0.6, 20.0) + hill - 0.2 / (1.0 + np.exp(-(x - 0.65) / 0.05))
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, val, 0.005))


def spiky_validation(rng: Rng, name: str) -> Example:
    """Batch normalisation at a high rate: single epochs of validation shoot up."""
    n = int(rng.integers(40, 150))
    train = exponential(n, 2.0, 0.3, 5.0)
    val = noisy(rng, exponential(n, 2.0, 0.45, 5.0), 0.03)
    hit = rng.uniform(size=n) < rng.uniform(0.05, 0.25)
    val[hit] *= rng.uniform(1.5, 8.0, int(hit.sum()))
    return epochs_only(name, noisy(rng, train, 0.01), val)


def warm_restarts(rng: Rng, name: str) -> Example:
    """Cosine schedule with restarts: training and validation jump at each."""
    period, factor = (int(rng.integers(8, 25)), 1) if rng.uniform() < 0.5 else (int(rng.integers(4, 11)), 2)
    phase: list[float] = []
    length = period
    n = int(rng.integers(60, 200))
    while len(phase) < n:
        phase += [i / length for i in range(length)]
        length *= factor
    rate = 0.5 * (1 + np.cos(np.pi * np.array(phase[:n])))
    train = power_law(n, 2.0, 0.2, 0.8, 4.0) + rng.uniform(0.1, 0.5) * rate
    val = power_law(n, 2.0, 0.35, 0.8, 4.0) + rng.uniform(0.1, 0.6) * rate
    return epochs_only(name, noisy(rng, train, 0.015), noisy(rng, val, 0.03))


def cyclic_rate(rng: Rng, name: str) -> Example:
    """A triangular rate: the loss swings with it."""
    period = int(rng.integers(6, 21))
    n = period * int(rng.integers(4, 9))
    rate = 1.0 - np.abs((np.arange(n) % period) * 2.0 / period - 1.0)
    train = exponential(n, 2.0, 0.3, 5.0) + rng.uniform(0.1, 0.3) * rate
    val = exponential(n, 2.0, 0.4, 5.0) + rng.uniform(0.1, 0.4) * rate
    return epochs_only(name, noisy(rng, train, 0.015), noisy(rng, val, 0.03))


def heavy_tailed_noise(rng: Rng, name: str) -> Example:
    """A regression with Student-t labels: the mean of an epoch is at the mercy of a few samples."""
    n = int(rng.integers(30, 120))
    degrees = rng.uniform(1.8, 3.0)
    level = exponential(n, 3.0, 1.0, 6.0)
    outliers = np.array([np.mean(rng.standard_t(degrees, 500) ** 2) for _ in range(n)])
    held_out = np.mean(rng.standard_t(degrees, 300) ** 2)
    return epochs_only(name, level + outliers, noisy(rng, level + held_out, 0.02))


def adversarial(rng: Rng, name: str) -> Example:
    """A generator's loss, without validation."""
    n = int(rng.integers(30, 200))
    return epochs_only(
        name, np.abs(1.0 + rng.uniform(0.1, 0.6) * ar1(rng, n, 0.7) + rng.uniform(0, 2) * np.arange(n) / n)
    )


def reinforcement(rng: Rng, name: str) -> Example:
    n = int(rng.integers(30, 300))
    return epochs_only(name, noisy(rng, 0.05 * np.exp(np.linspace(0, rng.uniform(0, 3), n)), rng.uniform(0.2, 0.8)))


def critic(rng: Rng, name: str) -> Example:
    n = int(rng.integers(30, 200))
    return epochs_only(name, np.cumsum(rng.standard_normal(n)) * 0.1 + 0.3 * rng.standard_normal(n))


def likelihood(rng: Rng, name: str) -> Example:
    """A flow: the loss is negative and falls without end."""
    n = int(rng.integers(20, 150))
    train = exponential(n, rng.uniform(-1, 5), rng.uniform(-1500, -3), rng.uniform(2, 8))
    spread = 0.01 * float(train[0] - train[-1])
    return epochs_only(name, train + spread * rng.standard_normal(n), train + 3 * spread * (1 + rng.standard_normal(n)))


def autoencoder(rng: Rng, name: str) -> Example:
    n = int(rng.integers(20, 200))
    scale = 10 ** rng.uniform(-9, 7)
    train = scale * power_law(n, 1.0, rng.uniform(0.02, 0.3), 1.2, 2.0)
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, train * rng.uniform(1.0, 1.1), 0.02))


def forecasting(rng: Rng, name: str) -> Example:
    """A recurrent net on a series: validation is of another time, above and noisy from the start."""
    n = int(rng.integers(20, 120))
    train = exponential(n, 0.1, rng.uniform(0.004, 0.02), rng.uniform(5, 20))
    val = exponential(n, 0.15, rng.uniform(0.01, 0.05), rng.uniform(5, 20))
    return epochs_only(name, noisy(rng, train, 0.05), noisy(rng, val, rng.uniform(0.05, 0.2)))


def flat_fine_tuning(rng: Rng, name: str) -> Example:
    """Good weights from the start: hardly anything moves."""
    n = int(rng.integers(5, 40))
    level = rng.uniform(0.02, 0.4)
    train = exponential(n, level * 1.1, level, 5.0)
    return epochs_only(name, noisy(rng, train, 0.02), noisy(rng, train * 1.1, 0.02))


def late_learner(rng: Rng, name: str) -> Example:
    """A plateau of a fifth to a half of the run, then learning."""
    n = int(rng.integers(20, 120))
    flat = int(rng.uniform(0.2, 0.5) * n)
    train = np.concatenate([np.full(flat, 2.303), exponential(n - flat, 2.3, 0.2, 5.0)])
    return epochs_only(name, noisy(rng, train, 0.004), noisy(rng, train * 1.03, 0.01))


def accuracy_columns(rng: Rng, name: str) -> Example:
    n = int(rng.integers(15, 100))
    train = exponential(n, 2.3, 0.25, 6.0)
    val = exponential(n, 2.2, 0.5, 7.0)
    return epochs_only(
        name,
        noisy(rng, train, 0.01),
        noisy(rng, val, 0.02),
        train_acc=1 - np.asarray(train) / 3,
        val_acc=np.clip(1 - np.asarray(val) / 3 + 0.01 * rng.standard_normal(n), 0, 1),
    )


def slight_rise(rng: Rng, name: str) -> Example:
    """Validation ends one to three percent above its best: nobody calls that overfitting."""
    n = int(rng.integers(30, 200))
    train = exponential(n, 1.5, 0.3, 6.0)
    best = int(n * rng.uniform(0.3, 0.7))
    val = exponential(n, 1.4, 0.6, 10.0)
    val[best:] += 0.6 * rng.uniform(0.0, 0.02) * np.arange(n - best) / (n - best)
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, val, rng.uniform(0.003, 0.02)))


def short_and_shaky(rng: Rng, name: str) -> Example:
    """Three to twelve epochs in which validation falls, with noise."""
    n = int(rng.integers(3, 13))
    train = exponential(n, 1.0, 0.3, rng.uniform(2, 5))
    val = exponential(n, 0.9, 0.45, rng.uniform(2, 5))
    return epochs_only(name, noisy(rng, train, 0.02), noisy(rng, val, rng.uniform(0.01, 0.08)))


def wild_start(rng: Rng, name: str) -> Example:
    """Moving averages of batch normalisation lag: validation is far off in the first epochs."""
    n = int(rng.integers(12, 100))
    train = exponential(n, 1.6, 0.2, 6.0)
    val = exponential(n, 1.5, 0.4, 6.0)
    k = int(rng.integers(3, 8))
    val[:k] *= np.exp(np.abs(rng.standard_normal(k)) * rng.uniform(0.5, 1.5))
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, val, 0.03))


def penalty(rng: Rng, name: str) -> Example:
    """A weight penalty in both losses shrinks slowly."""
    n = int(rng.integers(20, 100))
    shared = exponential(n, rng.uniform(2, 8), rng.uniform(0.5, 1.0), 4.0)
    fit = exponential(n, math.log(10), 0.3, 8.0)
    return epochs_only(name, noisy(rng, fit, 0.01) + shared, noisy(rng, fit * 1.1, 0.03) + shared)


EPOCHS_HEALTHY = (
    image_net_steps,
    image_net_cosine,
    fine_tuned_transformer,
    tabular,
    segmentation,
    few_validation_samples,
    straying_validation,
    validation_below_training,
    benign_gap,
    solved,
    double_descent,
    spiky_validation,
    warm_restarts,
    cyclic_rate,
    heavy_tailed_noise,
    adversarial,
    reinforcement,
    critic,
    likelihood,
    autoencoder,
    forecasting,
    flat_fine_tuning,
    late_learner,
    accuracy_columns,
    slight_rise,
    short_and_shaky,
    wild_start,
    penalty,
)
