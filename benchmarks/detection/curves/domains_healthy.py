"""Healthy runs whose curves look odd: fields and habits of training that rules trip over. One value an epoch."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.detection.curves.curve import epochs_only
from benchmarks.detection.curves.shapes import Rng, ar1, exponential, noisy, power_law

from failguard.core.facts import Facts
from failguard.detectors.base import Example

__all__ = ["DOMAINS_HEALTHY"]


def diffusion(rng: Rng, name: str) -> Example:
    """A denoiser: most is learned in the first epochs; flat from then on while samples get better."""
    n = int(rng.integers(40, 400))
    level = 10 ** rng.uniform(-2, -0.5)
    train = power_law(n, 10 * level, level, 1.5, 0.5)
    val = noisy(rng, train * rng.uniform(0.98, 1.1), rng.uniform(0.01, 0.08))
    return epochs_only(name, noisy(rng, train, rng.uniform(0.005, 0.04)), val if rng.uniform() < 0.6 else None)


def contrastive(rng: Rng, name: str) -> Example:
    """InfoNCE: near the logarithm of the batch size for a part of the run, then slowly down."""
    n = int(rng.integers(30, 200))
    chance = math.log(int(rng.choice([128, 256, 1024, 4096])))
    flat = int(rng.uniform(0.02, 0.3) * n)
    fall = power_law(n - flat, chance, chance * rng.uniform(0.2, 0.7), 0.8, 8.0)
    train = np.concatenate([np.full(flat, chance), fall])
    return epochs_only(name, noisy(rng, train, 0.004), noisy(rng, train * 1.02, 0.008))


def speech(rng: Rng, name: str) -> Example:
    """CTC: from hundreds to the plateau of blanks, then a drop, and down."""
    n = int(rng.integers(20, 120))
    flat = int(rng.uniform(0.05, 0.35) * n) + 2
    plateau = rng.uniform(2.7, 3.0)
    train = np.concatenate(
        [plateau + 200.0 * np.exp(-2.0 * np.arange(flat)), exponential(n - flat, plateau, rng.uniform(0.1, 0.5), 6.0)]
    )
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, train * 1.05 + 0.02, 0.02))


def grokking(rng: Rng, name: str) -> Example:
    """Training is solved early; validation stays at chance, with a little drift, and drops late."""
    n = int(rng.integers(60, 300))
    chance = math.log(97)
    late = 1.0 / (1.0 + np.exp(-(np.arange(n) / n - rng.uniform(0.4, 0.8)) / 0.04))
    val = chance * (1 - 0.98 * late) * (1 + 0.02 * np.arange(n) / n)
    return epochs_only(name, noisy(rng, exponential(n, chance, 1e-3, 25.0), 0.05), noisy(rng, val, 0.01))


def inverse_time(rng: Rng, name: str) -> Example:
    """``1 / x``, of any scale."""
    n = int(rng.integers(10, 300))
    scale = 10 ** rng.uniform(-9, 7)
    train = scale / (1.0 + np.arange(n) / rng.uniform(0.5, 5))
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, train * 1.1, 0.02))


def annealed_divergence(rng: Rng, name: str) -> Example:
    """A variational autoencoder: the weight of the divergence term is raised, and with it both losses."""
    n = int(rng.integers(30, 150))
    ramp = np.clip(np.arange(n) / (rng.uniform(0.2, 0.6) * n), 0, 1)
    train = exponential(n, 180.0, 80.0, 8.0) + rng.uniform(5, 25) * ramp
    return epochs_only(name, noisy(rng, train, 0.003), noisy(rng, train * 1.03, 0.005))


def few_samples(rng: Rng, name: str) -> Example:
    """A few dozen samples of training and validation: the means of both are noisy, each for itself."""
    n = int(rng.integers(20, 200))
    train = exponential(n, 1.5, rng.uniform(0.3, 0.7), rng.uniform(4, 12))
    val = exponential(n, 1.5, rng.uniform(0.5, 0.9), rng.uniform(4, 12))
    return epochs_only(name, noisy(rng, train, rng.uniform(0.1, 0.4)), noisy(rng, val, rng.uniform(0.1, 0.4)))


def lively(rng: Rng, name: str) -> Example:
    """A fairly high rate: training and validation move together by a few percent."""
    n = int(rng.integers(20, 150))
    move = rng.uniform(0.02, 0.08) * ar1(rng, n, rng.uniform(-0.2, 0.4))
    train = exponential(n, 2.0, rng.uniform(0.3, 0.8), rng.uniform(4, 10))
    return epochs_only(name, train * np.exp(move), noisy(rng, 1.1 * train * np.exp(1.2 * move), 0.03))


def short_cycles(rng: Rng, name: str) -> Example:
    """A cyclic rate of two to five epochs a cycle."""
    period = int(rng.integers(2, 6))
    n = period * int(rng.integers(6, 25))
    rate = 1.0 - np.abs((np.arange(n) % period) * 2.0 / period - 1.0)
    train = exponential(n, 2.0, 0.4, 6.0) + rng.uniform(0.05, 0.3) * rate
    val = exponential(n, 2.0, 0.5, 6.0) + rng.uniform(0.05, 0.3) * rate
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, val, 0.02))


def short_restarts(rng: Rng, name: str) -> Example:
    """Restarts after 1, 2, 4, ... or 2, 4, 8, ... epochs."""
    n, length = int(rng.integers(31, 130)), int(rng.integers(1, 4))
    phase: list[float] = []
    while len(phase) < n:
        phase += [i / length for i in range(length)]
        length *= 2
    rate = 0.5 * (1 + np.cos(np.pi * np.array(phase[:n])))
    train = power_law(n, 2.0, 0.2, 0.8, 3.0) + rng.uniform(0.1, 0.6) * rate
    return epochs_only(name, noisy(rng, train, 0.015), noisy(rng, train * 1.1 + 0.1 * rate, 0.03))


def shrinking_restarts(rng: Rng, name: str) -> Example:
    """Restarts to a rate that is lower each time, at no even distances."""
    n = int(rng.integers(60, 200))
    bounds = np.sort(rng.choice(np.arange(8, n - 8), int(rng.integers(3, 7)), replace=False))
    train = power_law(n, 2.0, 0.25, 0.9, 3.0)
    for i, at in enumerate(bounds):
        train[at:] += rng.uniform(0.2, 0.5) * 0.8**i * np.exp(-np.arange(n - at) / 4.0)
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, train * 1.15, 0.03))


def new_tasks(rng: Rng, name: str) -> Example:
    """Continual learning, a curriculum or layers set free: both losses jump at each stage and come down."""
    n = int(rng.integers(40, 150))
    train = np.full(n, 0.2)
    bounds = [0, *np.sort(rng.choice(np.arange(5, n - 5), int(rng.integers(1, 6)), replace=False)).tolist(), n]
    for i in range(len(bounds) - 1):
        length = bounds[i + 1] - bounds[i]
        train[bounds[i] : bounds[i + 1]] += rng.uniform(0.4, 1.5) * np.exp(-np.arange(length) / rng.uniform(3, 8))
    return epochs_only(name, noisy(rng, train, 0.02), noisy(rng, train * 1.1, 0.04))


def discriminator_and_generator(rng: Rng, name: str) -> Example:
    """Adversarial training with a held-out discriminator loss: both wander."""
    n = int(rng.integers(30, 200))
    wander = ar1(rng, n, rng.uniform(0.5, 0.95))
    train = np.abs(rng.uniform(0.8, 3) + rng.uniform(0.05, 0.4) * wander + rng.uniform(-0.3, 1.5) * np.arange(n) / n)
    val = np.abs(train * rng.uniform(0.9, 1.1) + rng.uniform(0.05, 0.3) * rng.standard_normal(n))
    return epochs_only(name, train + 0.01, val + 0.01)


def negative_returns(rng: Rng, name: str) -> Example:
    """Reinforcement learning: the negative return, flat for a while, then better, with bad episodes."""
    n = int(rng.integers(50, 400))
    start = int(rng.uniform(0.0, 0.4) * n)
    rise = np.concatenate([np.zeros(start), 1 - np.exp(-np.arange(n - start) * 4.0 / (n - start))])
    loss = -(20 + rng.uniform(100, 1000) * rise * (1 + rng.uniform(0.05, 0.4) * rng.standard_normal(n)))
    return epochs_only(name, loss)


def temporal_difference(rng: Rng, name: str) -> Example:
    """Deep Q-learning: the error grows from near nothing as values do, then wanders."""
    n = int(rng.integers(50, 300))
    level = 0.01 + rng.uniform(0.05, 1.0) * (1 - np.exp(-np.arange(n) * rng.uniform(3, 10) / n))
    return epochs_only(name, level * np.exp(rng.uniform(0.1, 0.6) * ar1(rng, n, 0.6)))


def slow_regression(rng: Rng, name: str) -> Example:
    """Noise that stays: ten percent are learned over the whole run."""
    n = int(rng.integers(30, 200))
    train = np.linspace(1.0, rng.uniform(0.8, 0.93), n)
    return epochs_only(name, noisy(rng, train, rng.uniform(0.002, 0.01)), noisy(rng, train * 1.02, 0.01))


def refined(rng: Rng, name: str) -> Example:
    """Gained in the first epoch already: the log starts low and both are flat."""
    n = int(rng.integers(25, 120))
    level = 10 ** rng.uniform(-3, 1)
    train = exponential(n, level * rng.uniform(1.02, 1.3), level, 20.0)
    return epochs_only(name, noisy(rng, train, 0.005), noisy(rng, train * 1.05, 0.01))


def rate_logged(rng: Rng, name: str) -> Example:
    """Converged, then the rate is lowered further and further; or a cosine to zero at the end of the plan."""
    n = int(rng.integers(30, 150))
    at = np.arange(n)
    if rng.uniform() < 0.5:
        rate = 0.1 * 0.1 ** (at // max(n // int(rng.integers(4, 9)), 1))
        train = exponential(n, 2.3, rng.uniform(0.1, 0.8), rng.uniform(20, 50))
    else:
        rate = 0.05 * (1 + np.cos(np.pi * at / n))
        train = power_law(n, 2.3, 0.2, 0.9, 4.0) * (0.4 + 6 * rate)
    facts = Facts(max_epochs=n, steps_per_epoch=100)
    return epochs_only(name, noisy(rng, train, 0.01), noisy(rng, train * 1.1, 0.02), facts=facts, lr=rate)


DOMAINS_HEALTHY = (
    diffusion,
    contrastive,
    speech,
    grokking,
    inverse_time,
    annealed_divergence,
    few_samples,
    lively,
    short_cycles,
    short_restarts,
    shrinking_restarts,
    new_tasks,
    discriminator_and_generator,
    negative_returns,
    temporal_difference,
    slow_regression,
    refined,
    rate_logged,
)
