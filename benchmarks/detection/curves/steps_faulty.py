"""Faulty runs with a loss per step and a validation per epoch."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.detection.curves.curve import with_steps
from benchmarks.detection.curves.shapes import Rng, ar1, exponential, noisy, power_law, v_shape
from benchmarks.detection.curves.steps_healthy import at_ends

from failguard.detectors.base import Example

__all__ = ["STEPS_FAULTY"]

OVERFIT, DIVERGES = ("metric.overfitting",), ("loss.divergence",)
STUCK, SWINGS, SPIKES = ("loss.no_learning",), ("loss.oscillation",), ("loss.spike",)
EPOCHS, STEPS = 20, 1000


def blows_up(rng: Rng, name: str) -> Example:
    level = 10 ** rng.uniform(1.5, 6)
    loss = np.concatenate(
        [[2.3, level * 3, level * 10 ** rng.uniform(0, 3)], level * np.exp(0.5 * rng.standard_normal(497))]
    )
    return with_steps(name, loss, noisy(rng, np.full(10, level), 0.3), epochs=10, trivial=2.303)


def blows_up_later(rng: Rng, name: str) -> Example:
    start = int(rng.uniform(0.2, 0.7) * STEPS)
    loss = noisy(rng, exponential(STEPS, 2.3, 0.3, 6.0), 0.15)
    rise = loss[start] * rng.uniform(1.1, 1.5) ** np.arange(STEPS - start)
    loss[start:] = np.minimum(rise, 1e6 * rng.uniform(0.5, 2.0, STEPS - start))
    return with_steps(name, loss, at_ends(loss, EPOCHS), epochs=EPOCHS, trivial=2.303 if rng.uniform() < 0.5 else None)


def shuffled_labels(rng: Rng, name: str) -> Example:
    loss = np.linspace(2.33, 2.303 - rng.uniform(0.02, 0.25), STEPS) + 0.06 * rng.standard_normal(STEPS)
    val = 2.305 + rng.uniform(0.0, 0.03) * np.arange(EPOCHS) + 0.012 * rng.standard_normal(EPOCHS)
    return with_steps(name, loss, val, epochs=EPOCHS, trivial=2.3026)


def short_and_stuck(rng: Rng, name: str) -> Example:
    """A few epochs on little data, at chance from the first to the last of 160 to 300 updates."""
    epochs = int(rng.integers(4, 8))
    n = epochs * int(rng.integers(40, 46))
    loss = noisy(rng, np.full(n, 2.31), 0.03)
    return with_steps(name, loss, noisy(rng, np.full(epochs, 2.31), 0.004), epochs=epochs, trivial=2.3026)


def shuffled_labels_chance_unknown(rng: Rng, name: str) -> Example:
    level = rng.uniform(0.5, 5)
    loss = noisy(rng, np.full(STEPS, level), 0.05)
    return with_steps(name, loss, noisy(rng, np.full(EPOCHS, level * 1.01), 0.004), epochs=EPOCHS)


def bounces_above_chance(rng: Rng, name: str) -> Example:
    loss = noisy(rng, np.full(STEPS, rng.uniform(2.6, 4.5)), 0.2)
    loss[0] = 2.35
    return with_steps(name, loss, noisy(rng, np.full(EPOCHS, 2.8), 0.06), epochs=EPOCHS, trivial=2.3026)


def regression_at_variance(rng: Rng, name: str) -> Example:
    """Predicts the mean of the targets and no more."""
    variance = 10 ** rng.uniform(-6, 8)
    loss = variance * noisy(rng, exponential(STEPS, rng.uniform(1.0, 2.0), 1.0, 60.0), rng.uniform(0.1, 0.4))
    val = variance * noisy(rng, np.full(EPOCHS, rng.uniform(0.97, 1.05)), 0.01)
    return with_steps(name, loss, val, epochs=EPOCHS, trivial=variance, source="target_spread")


def regression_far_above(rng: Rng, name: str) -> Example:
    """Unscaled: the loss bounces far above the variance of the targets."""
    level = 10 ** rng.uniform(0.5, 3)
    loss = noisy(rng, np.full(STEPS, level), rng.uniform(0.2, 0.8))
    val = noisy(rng, np.full(EPOCHS, level), 0.2)
    return with_steps(name, loss, val, epochs=EPOCHS, trivial=1.0, source="target_spread")


def tiny_rate_regression(rng: Rng, name: str) -> Example:
    """Too small a rate: the loss falls steadily and is nowhere near at the end."""
    loss = noisy(rng, np.linspace(1.5, rng.uniform(1.2, 1.4), 300), 0.1)
    return with_steps(name, loss, np.linspace(1.5, 1.3, 5), epochs=5, trivial=1.0, source="target_spread")


def tiny_rate_classes(rng: Rng, name: str) -> Example:
    loss = noisy(rng, np.linspace(2.36, rng.uniform(2.28, 2.33), 400), 0.03)
    return with_steps(name, loss, at_ends(np.linspace(2.35, 2.3, 400), 5), epochs=5, trivial=2.303)


def labels_of_tags_ignored(rng: Rng, name: str) -> Example:
    t = rng.uniform(0.1, 0.3)
    loss = noisy(rng, exponential(STEPS, 0.7, t, 30.0), 0.06)
    val = noisy(rng, np.full(EPOCHS, t), 0.004)
    return with_steps(name, loss, val, epochs=EPOCHS, trivial=t, source="target_spread")


def language_model_spikes(rng: Rng, name: str) -> Example:
    """2.1 to 3.5 for twenty steps, more than once."""
    n = 3000
    loss = power_law(n, 10.8, 1.9, 0.8, 20.0) + 0.05 * rng.standard_normal(n)
    for at in np.sort(rng.integers(600, n - 200, int(rng.integers(2, 5)))):
        loss[at : at + 60] += rng.uniform(1.0, 3.0) * np.exp(-np.arange(60) / 8.0)
    return with_steps(name, loss, epochs=1, trivial=10.8, source="output_width")


def spikes(rng: Rng, name: str) -> Example:
    """Without clipping: up to ten times the loss for some dozen steps, several times."""
    loss = noisy(rng, exponential(STEPS, 2.3, 0.3, 6.0), rng.uniform(0.05, 0.2))
    val = noisy(rng, at_ends(exponential(STEPS, 2.3, 0.4, 6.0), EPOCHS), 0.02)
    for at in np.sort(rng.choice(np.arange(150, STEPS - 80, 60), int(rng.integers(2, 6)), replace=False)):
        at = int(at + rng.integers(0, 20))
        width = int(rng.integers(6, 25))
        loss[at : at + 3 * width] *= 1.0 + rng.uniform(2.0, 10.0) * np.exp(-np.arange(3 * width) / (0.5 * width))
    return with_steps(name, loss, val, epochs=EPOCHS)


def one_large_spike(rng: Rng, name: str) -> Example:
    """One that threw the run back to where it started."""
    loss = noisy(rng, exponential(STEPS, 2.3, 0.2, 6.0), 0.1)
    at = int(rng.integers(400, 900))
    loss[at : at + 90] += rng.uniform(2.0, 5.0) * np.exp(-np.arange(90) / 12.0)
    return with_steps(name, loss, epochs=EPOCHS)


def swings(rng: Rng, name: str) -> Example:
    """A rate too high: what an epoch gains the next one loses, in training and validation."""
    per = STEPS // EPOCHS
    slow = rng.uniform(0.35, 0.6) * ar1(rng, EPOCHS * 2, rng.uniform(-0.3, 0.3))
    slow[0] = 0.0
    base = exponential(STEPS, 2.3, rng.uniform(0.5, 1.0), 20.0)
    loss = base * np.exp(np.interp(np.arange(STEPS), np.arange(EPOCHS * 2) * per / 2, slow))
    val = at_ends(loss, EPOCHS) * np.exp(0.25 * rng.standard_normal(EPOCHS))
    return with_steps(name, noisy(rng, loss, 0.3), val, epochs=EPOCHS, trivial=2.303)


def memorises(rng: Rng, name: str) -> Example:
    best = int(rng.integers(4, 10))
    loss = noisy(rng, exponential(STEPS, 2.3, 0.02, rng.uniform(4, 8)), 0.2)
    val = noisy(rng, v_shape(EPOCHS, 2.0, 0.8, best, rng.uniform(0.15, 0.6)), 0.012)
    return with_steps(name, loss, val, epochs=EPOCHS, trivial=2.303)


def memorises_tags(rng: Rng, name: str) -> Example:
    best = int(rng.integers(4, 10))
    loss = noisy(rng, exponential(STEPS, math.log(2), 0.01, rng.uniform(5, 9)), 0.2)
    val = noisy(rng, v_shape(EPOCHS, 0.6, 0.2, best, rng.uniform(0.05, 0.2)), 0.012)
    return with_steps(name, loss, val, epochs=EPOCHS, trivial=0.3, source="target_spread")


STEPS_FAULTY = (
    (blows_up, DIVERGES),
    (blows_up_later, DIVERGES),
    (shuffled_labels, STUCK),
    (short_and_stuck, STUCK),
    (shuffled_labels_chance_unknown, STUCK),
    (bounces_above_chance, (*STUCK, *DIVERGES)),
    (regression_at_variance, STUCK),
    (regression_far_above, (*STUCK, *DIVERGES)),
    (tiny_rate_regression, STUCK),
    (tiny_rate_classes, STUCK),
    (labels_of_tags_ignored, STUCK),
    (language_model_spikes, SPIKES),
    (spikes, SPIKES),
    (one_large_spike, SPIKES),
    (swings, SWINGS),
    (memorises, OVERFIT),
    (memorises_tags, OVERFIT),
)
