"""Faulty runs as logs of one value an epoch."""

from __future__ import annotations

import numpy as np
from benchmarks.detection.curves.curve import epochs_only
from benchmarks.detection.curves.shapes import Rng, ar1, exponential, noisy, power_law, v_shape

from failguard.core.facts import Facts
from failguard.detectors.base import Example

__all__ = ["EPOCHS_FAULTY"]

OVERFIT, DIVERGES = ("metric.overfitting",), ("loss.divergence",)
STUCK, SWINGS, SPIKES = ("loss.no_learning",), ("loss.oscillation",), ("loss.spike",)


def overfit_plain(rng: Rng, name: str) -> Example:
    n = int(rng.integers(20, 200))
    best = int(n * rng.uniform(0.1, 0.5))
    low = rng.uniform(0.3, 1.0)
    val = v_shape(n, low * rng.uniform(1.8, 4), low, best, low * rng.uniform(0.15, 1.0), bend=rng.uniform(0.7, 1.3))
    train = exponential(n, 2.0, 0.02, rng.uniform(3, 8))
    return epochs_only(name, noisy(rng, train, 0.02), noisy(rng, val, rng.uniform(0.003, 0.03)))


def overfit_noisy(rng: Rng, name: str) -> Example:
    """Few validation samples: the noise of an epoch is a third of the rise or more."""
    n = int(rng.integers(50, 300))
    best = int(n * rng.uniform(0.1, 0.4))
    rise = rng.uniform(0.25, 0.8)
    val = v_shape(n, 1.3, 0.6, best, 0.6 * rise, bend=rng.uniform(0.7, 1.2))
    train = exponential(n, 1.3, 0.05, rng.uniform(3, 8))
    return epochs_only(name, noisy(rng, train, 0.03), noisy(rng, val, rise * rng.uniform(0.15, 0.35)))


def overfit_transformer(rng: Rng, name: str) -> Example:
    """A fine-tuned transformer that memorises from the second epoch on."""
    n = int(rng.integers(4, 9))
    best = int(rng.integers(0, 2))
    low = rng.uniform(0.3, 0.6)
    val = np.concatenate([np.full(best, low * 1.08), low * (1 + rng.uniform(0.12, 0.3) * np.arange(n - best))])
    train = 0.55 * rng.uniform(0.4, 0.6) ** np.arange(n)
    return epochs_only(name, noisy(rng, train, 0.03), noisy(rng, val, 0.015))


def overfit_stopped_early(rng: Rng, name: str) -> Example:
    """Early stopping ended it three to five epochs after the best."""
    best, patience = int(rng.integers(3, 20)), int(rng.integers(3, 6))
    n = best + patience + 1
    low = rng.uniform(0.3, 0.8)
    val = np.concatenate(
        [np.geomspace(low * 2.5, low, best + 1), low * (1 + rng.uniform(0.05, 0.12) * np.arange(1, patience + 1))]
    )
    train = exponential(n, 2.0, 0.0, rng.uniform(2.5, 5))
    return epochs_only(name, noisy(rng, train, 0.02), noisy(rng, val, 0.01))


def overfit_segmentation(rng: Rng, name: str) -> Example:
    n = int(rng.integers(60, 200))
    best = int(n * rng.uniform(0.15, 0.4))
    val = v_shape(n, 0.8, rng.uniform(0.2, 0.35), best, rng.uniform(0.06, 0.2), bend=0.8)
    train = exponential(n, 0.8, 0.02, rng.uniform(4, 8))
    return epochs_only(name, noisy(rng, train, 0.03), val + rng.uniform(0.005, 0.02) * rng.standard_normal(n))


def overfit_after_drop(rng: Rng, name: str) -> Example:
    """The rate drops, training plunges and validation rises from there."""
    n = int(rng.integers(60, 200))
    drop = int(n * rng.uniform(0.3, 0.5))
    train = power_law(n, 3.5, 0.8, 0.9, 5.0)
    train[drop:] *= 0.1 + 0.4 * np.exp(-np.arange(n - drop) / 10.0)
    val = power_law(n, 3.6, 1.3, 0.9, 5.0) * np.exp(0.05 * rng.standard_normal(n))
    after = np.arange(n - drop)
    val[drop:] = val[drop - 5 : drop].mean() * 0.8 * (1 + rng.uniform(0.15, 0.5) * after / after.size)
    val[drop:] *= np.exp(0.012 * rng.standard_normal(n - drop))
    return epochs_only(name, noisy(rng, train, 0.01), val)


def overfit_spiky(rng: Rng, name: str) -> Example:
    n = int(rng.integers(60, 150))
    best = int(n * rng.uniform(0.15, 0.35))
    val = noisy(rng, v_shape(n, 1.6, 0.6, best, rng.uniform(0.3, 0.8)), 0.03)
    hit = rng.uniform(size=n) < 0.08
    val[hit] *= rng.uniform(1.3, 3.0, int(hit.sum()))
    return epochs_only(name, noisy(rng, exponential(n, 1.6, 0.03, 6.0), 0.02), val)


def overfit_levels_off(rng: Rng, name: str) -> Example:
    """Validation rises for a while, then stays at the higher level as training reaches zero."""
    n = int(rng.integers(60, 300))
    best = int(n * rng.uniform(0.05, 0.2))
    val = v_shape(n, 1.2, 0.5, best, 0.0)
    val[best:] += 0.5 * rng.uniform(0.12, 0.6) * (1 - np.exp(-np.arange(n - best) / (0.25 * n)))
    train = exponential(n, 1.2, 0.001, rng.uniform(6, 10))
    return epochs_only(name, noisy(rng, train, 0.03), noisy(rng, val, rng.uniform(0.005, 0.03)))


def diverges(rng: Rng, name: str) -> Example:
    n = int(rng.integers(8, 60))
    turn = int(n * rng.uniform(0.2, 0.6))
    train = exponential(n, 2.0, 0.5, 4.0)
    train[turn:] = train[turn] * rng.uniform(1.5, 3.0) ** np.arange(n - turn)
    return epochs_only(name, noisy(rng, train, 0.1), noisy(rng, train * 1.1, 0.1))


def diverges_at_once(rng: Rng, name: str) -> Example:
    n = int(rng.integers(5, 30))
    train = np.concatenate([[2.5], 2.5 * 10 ** rng.uniform(2.0, 5.0) * np.exp(0.5 * rng.standard_normal(n - 1))])
    return epochs_only(name, train, train * rng.uniform(0.8, 1.2, n))


def no_learning_flat(rng: Rng, name: str) -> Example:
    """Nothing moves; what chance is, the log does not say."""
    n = int(rng.integers(20, 100))
    level = rng.uniform(0.5, 5.0)
    return epochs_only(name, noisy(rng, np.full(n, level), 0.004), noisy(rng, np.full(n, level * 1.01), 0.006))


def no_learning_frozen(rng: Rng, name: str) -> Example:
    n = int(rng.integers(8, 60))
    level = rng.uniform(0.5, 5.0)
    return epochs_only(name, noisy(rng, np.full(n, level), 0.0005), np.full(n, level * 1.01))


def no_learning_chance(rng: Rng, name: str) -> Example:
    """At the level of guessing, which is known."""
    n = int(rng.integers(8, 60))
    train = np.linspace(2.33, rng.uniform(2.25, 2.31), n)
    val = 2.305 + rng.uniform(0, 0.01) * np.arange(n)
    facts = Facts(trivial_loss=2.3026, trivial_loss_source="class_prior", max_epochs=n, steps_per_epoch=100)
    return epochs_only(name, noisy(rng, train, 0.003), noisy(rng, val, 0.004), facts=facts)


def oscillates(rng: Rng, name: str) -> Example:
    """A rate too high: training and validation swing by a good part of what was learned."""
    n = int(rng.integers(24, 120))
    level = rng.uniform(0.6, 1.2)
    swing = rng.uniform(0.3, 0.6) * ar1(rng, n, rng.uniform(-0.4, 0.2)) * (1.0 - np.exp(-np.arange(n) / 3.0))
    base = exponential(n, 2.3, level, 12.0)
    return epochs_only(name, base * np.exp(swing), base * np.exp(0.8 * swing + 0.3 * rng.standard_normal(n)))


def oscillates_in_turn(rng: Rng, name: str) -> Example:
    """Up and down nearly in turn, never by as much."""
    n = int(rng.integers(20, 80))
    sign = np.cumprod(np.where(rng.uniform(size=n) < 0.85, -1.0, 1.0))
    base = exponential(n, 2.3, rng.uniform(0.6, 1.0), 12.0)
    swing = rng.uniform(0.25, 0.5) * sign * (1.0 + 0.4 * rng.standard_normal(n)) * (1.0 - np.exp(-np.arange(n) / 3.0))
    return epochs_only(name, base * np.exp(swing), base * 1.05 * np.exp(0.9 * swing))


def spikes(rng: Rng, name: str) -> Example:
    """Training itself shoots up several times and comes back."""
    n = int(rng.integers(40, 150))
    train = exponential(n, 2.3, 0.3, 6.0)
    count = int(rng.integers(3, 6))
    at = np.sort(rng.choice(np.arange(int(0.2 * n), n - 5), count, replace=False))
    for i in at:
        height = rng.uniform(0.6, 1.8)
        train[i : i + 3] += height * np.array([1.0, 0.4, 0.1])
    return epochs_only(name, noisy(rng, train, 0.015), noisy(rng, train * 1.1, 0.04))


def rate_gone(rng: Rng, name: str) -> Example:
    """The rate decays to nothing within a third of the plan, in the middle of a descent."""
    n = int(rng.integers(70, 150))
    rate = 0.1 * rng.uniform(0.6, 0.75) ** np.arange(n)
    reached = np.cumsum(rate) / rate.sum()
    train = 2.3 - rng.uniform(0.5, 1.2) * reached
    facts = Facts(max_epochs=n, steps_per_epoch=100)
    noise = rng.uniform(0.001, 0.008)
    return epochs_only(name, noisy(rng, train, noise), noisy(rng, train * 1.02, 2 * noise), facts=facts, lr=rate)


EPOCHS_FAULTY = (
    (overfit_plain, OVERFIT),
    (overfit_noisy, OVERFIT),
    (overfit_transformer, OVERFIT),
    (overfit_stopped_early, OVERFIT),
    (overfit_segmentation, OVERFIT),
    (overfit_after_drop, OVERFIT),
    (overfit_spiky, OVERFIT),
    (overfit_levels_off, OVERFIT),
    (diverges, DIVERGES),
    (diverges_at_once, DIVERGES),
    (no_learning_flat, STUCK),
    (no_learning_frozen, STUCK),
    (no_learning_chance, STUCK),
    (oscillates, SWINGS),
    (oscillates_in_turn, SWINGS),
    (spikes, SPIKES),
    (rate_gone, ("loss.plateau",)),
)
