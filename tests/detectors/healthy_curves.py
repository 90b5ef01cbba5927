"""Simulated healthy runs of many kinds, as examples for replay. Not a test file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from failguard.core.facts import Facts, OptimizerFacts
from failguard.detectors.base import Example

Floats = NDArray[np.float64]
Rng = np.random.Generator
STEPS, EPOCHS = 600, 20


def healthy_examples(seeds: int) -> Iterator[Example]:
    """One example a family and seed."""
    for family in FAMILIES:
        for seed in range(seeds):
            rng = np.random.default_rng([seed, *family.__name__.encode()])
            yield family(rng, f"{family.__name__} {seed}")


def _example(
    name: str,
    loss: Floats,
    val: Floats | None = None,
    *,
    trivial: float | None = None,
    schedule: str | None = None,
    epochs: int = EPOCHS,
) -> Example:
    facts = Facts(
        trivial_loss=trivial,
        max_epochs=epochs,
        steps_per_epoch=max(len(loss) // epochs, 1),
        optimizer=OptimizerFacts(schedule=schedule),
    )
    metrics = {"epoch_s": [1.0] * epochs} if val is None else {"val_loss": val.tolist()}
    return Example(name, steps={"loss": loss.tolist()}, epochs=metrics, facts=facts)


def _decay(n: int, high: float, low: float, rate: float) -> Floats:
    return low + (high - low) * np.exp(-np.arange(n) * rate / n)


def _noisy(rng: Rng, curve: Floats, share: float) -> Floats:
    return curve * np.exp(share * rng.standard_normal(curve.size) - share**2 / 2)


def _epochs_of(curve: Floats, rng: Rng, *, gap: float = 1.1, noise: float = 0.02) -> Floats:
    """Validation that follows the training curve."""
    ends = np.linspace(curve.size / EPOCHS, curve.size, EPOCHS).astype(int) - 1
    return _noisy(rng, curve[ends] * gap, noise)


def classifier(rng: Rng, name: str) -> Example:
    classes = int(rng.integers(2, 100))
    t = math.log(classes)
    curve = _decay(STEPS, t * rng.uniform(1.0, 1.4), t * rng.uniform(0.01, 0.5), rng.uniform(3, 30))
    return _example(name, _noisy(rng, curve, rng.uniform(0.02, 0.3)), _epochs_of(curve, rng), trivial=t)


def small_batches(rng: Rng, name: str) -> Example:
    """Batches of one or two: losses over three orders of magnitude."""
    curve = _decay(STEPS, 2.3, rng.uniform(0.1, 1.0), rng.uniform(2, 10))
    return _example(name, _noisy(rng, curve, rng.uniform(1.0, 2.0)), _epochs_of(curve, rng))


def any_scale(rng: Rng, name: str) -> Example:
    scale = 10 ** rng.uniform(-9, 7)
    curve = scale * _decay(STEPS, 1.0, rng.uniform(0.001, 0.7), rng.uniform(1, 20))
    return _example(name, _noisy(rng, curve, 0.2), _epochs_of(curve, rng))


def negative_likelihood(rng: Rng, name: str) -> Example:
    curve = _decay(STEPS, rng.uniform(-50, 100), rng.uniform(-2000, -100), rng.uniform(2, 10))
    loss = curve + rng.uniform(1, 40) * rng.standard_normal(STEPS)
    return _example(name, loss, curve[STEPS // EPOCHS - 1 :: STEPS // EPOCHS] + rng.standard_normal(EPOCHS))


def warm_restarts(rng: Rng, name: str) -> Example:
    period = STEPS // int(rng.integers(2, 6))
    phase = np.arange(STEPS) % period / period
    curve = _decay(STEPS, 2.3, 0.05, 8.0) + (np.arange(STEPS) >= period) * rng.uniform(0.2, 1.0) * np.exp(-8 * phase)
    return _example(
        name,
        _noisy(rng, curve, 0.15),
        _epochs_of(curve, rng),
        trivial=2.3,
        schedule="CosineAnnealingWarmRestarts",
    )


def warm_up(rng: Rng, name: str) -> Example:
    """Nothing moves while the rate is small, then a bump, then learning."""
    flat = int(rng.uniform(0.05, 0.25) * STEPS)
    curve = np.concatenate([np.full(flat, 2.35), _decay(STEPS - flat, 2.35, 0.2, rng.uniform(4, 12))])
    curve[flat : flat + 20] += rng.uniform(0.0, 1.5)
    return _example(
        name, _noisy(rng, curve, 0.1), _epochs_of(curve, rng), trivial=2.303, schedule="LinearWarmupCosineAnnealingLR"
    )


def catapult(rng: Rng, name: str) -> Example:
    """A large rate: the loss shoots up for some ten steps and comes down into learning."""
    curve = _decay(STEPS, 2.3, 0.3, 6.0)
    peak, width = rng.uniform(5, 40), rng.uniform(2, 6)
    curve = curve + peak * np.exp(-(((np.arange(STEPS) - rng.uniform(5, 15)) / width) ** 2))
    return _example(name, _noisy(rng, curve, 0.2), _epochs_of(curve, rng), trivial=2.303)


def early_plateau(rng: Rng, name: str) -> Example:
    flat = int(rng.uniform(0.1, 0.28) * STEPS)
    curve = np.concatenate([np.full(flat, 2.303), _decay(STEPS - flat, 2.303, 0.1, rng.uniform(4, 12))])
    return _example(name, _noisy(rng, curve, 0.05), _epochs_of(curve, rng, gap=1.0), trivial=2.303)


def slow_learner(rng: Rng, name: str) -> Example:
    curve = np.linspace(2.31, rng.uniform(1.0, 1.9), STEPS)
    val = np.linspace(2.305, curve[-1] * 1.02, EPOCHS)
    return _example(name, _noisy(rng, curve, 0.05), val, trivial=2.303)


def fine_tuning(rng: Rng, name: str) -> Example:
    """Starts from good weights: low at once, hardly lower later."""
    level = rng.uniform(0.01, 0.4)
    curve = _decay(STEPS, level * rng.uniform(1.0, 1.2), level, 5.0)
    trivial = None if rng.uniform() < 0.5 else 2.303
    return _example(name, _noisy(rng, curve, rng.uniform(0.1, 0.5)), _epochs_of(curve, rng), trivial=trivial)


def heavy_tails(rng: Rng, name: str) -> Example:
    """Mislabelled samples: now and then a batch ten to a hundred times the usual."""
    curve = _decay(STEPS, 2.3, rng.uniform(0.1, 1.0), rng.uniform(2, 10))
    spikes = (rng.uniform(size=STEPS) < 0.03) * rng.pareto(1.5, STEPS) * 5
    return _example(name, _noisy(rng, curve, 0.4) + spikes, _epochs_of(curve, rng))


def adversarial(rng: Rng, name: str) -> Example:
    """A generator's loss: it swings and drifts up to a few times its start."""
    t = np.arange(STEPS)
    swing = rng.uniform(0.2, 1.0) * np.sin(t / rng.uniform(5, 60))
    drift = rng.uniform(0, 4) * t / STEPS
    return _example(name, np.abs(0.7 + drift + swing + 0.3 * rng.standard_normal(STEPS)))


def critic(rng: Rng, name: str) -> Example:
    """A Wasserstein loss: a random walk around zero, of any sign."""
    walk = np.cumsum(rng.standard_normal(STEPS)) * rng.uniform(0.01, 0.3)
    return _example(name, walk + rng.uniform(0.1, 1.0) * rng.standard_normal(STEPS))


def value_loss(rng: Rng, name: str) -> Example:
    """Reinforcement learning: the loss grows with the returns."""
    growth = np.linspace(0, math.log(rng.uniform(2, 50)), STEPS)
    return _example(name, _noisy(rng, 0.05 * np.exp(growth), rng.uniform(0.3, 1.0)))


def policy_loss(rng: Rng, name: str) -> Example:
    return _example(name, rng.uniform(0.001, 0.1) * rng.standard_normal(STEPS))


def grokking(rng: Rng, name: str) -> Example:
    """Training loss falls, validation waits just above its start, then falls as well."""
    curve = _decay(STEPS, 4.6, 0.4, 6.0)
    late = 1.0 / (1.0 + np.exp(-(np.arange(EPOCHS) - rng.uniform(8, 14))))
    return _example(name, _noisy(rng, curve, 0.1), _noisy(rng, 4.6 - 4.0 * late, 0.003), trivial=4.605)


def spiky_validation(rng: Rng, name: str) -> Example:
    curve = _decay(STEPS, 2.3, 0.3, 5.0)
    val = _epochs_of(curve, rng, noise=0.05)
    val[rng.integers(0, EPOCHS, 3)] *= rng.uniform(2, 20)
    return _example(name, _noisy(rng, curve, 0.2), val, trivial=2.303)


def converged(rng: Rng, name: str) -> Example:
    """Long at the end of learning: validation flat within noise, training hardly falls."""
    curve = _decay(STEPS, 2.3, 0.3, 60.0)
    return _example(name, _noisy(rng, curve, 0.2), _epochs_of(curve, rng, noise=rng.uniform(0.005, 0.1)), trivial=2.303)


def penalised(rng: Rng, name: str) -> Example:
    """A weight penalty keeps the loss above the trivial one while the fit is good."""
    penalty = _decay(STEPS, rng.uniform(2, 6), rng.uniform(1, 2), 3.0)
    fit = _decay(STEPS, 2.3, 0.2, 10.0)
    return _example(name, _noisy(rng, fit, 0.1) + penalty, _epochs_of(fit + penalty, rng), trivial=2.303)


def dropout(rng: Rng, name: str) -> Example:
    """Training stays above validation."""
    curve = _decay(STEPS, 2.4, rng.uniform(1.0, 1.6), 5.0)
    return _example(name, _noisy(rng, curve, 0.2), _epochs_of(curve, rng, gap=0.7), trivial=2.303)


def curriculum(rng: Rng, name: str) -> Example:
    """Harder data every few epochs."""
    stage = np.arange(STEPS) * 4 // STEPS
    within = np.arange(STEPS) % (STEPS // 4) / (STEPS // 4)
    curve = (0.3 + 0.2 * stage) + (1.2 - 0.1 * stage) * np.exp(-5 * within)
    return _example(name, _noisy(rng, curve, 0.2), _epochs_of(curve, rng, noise=0.01))


def hardly_predictable(rng: Rng, name: str) -> Example:
    """Click-through rates: a few percent better than trivial is all there is."""
    t = 0.5
    curve = _decay(STEPS, 0.69, t * rng.uniform(0.88, 0.94), rng.uniform(15, 40))
    return _example(name, _noisy(rng, curve, 0.1), _epochs_of(curve, rng, gap=1.005, noise=0.002), trivial=t)


FAMILIES: tuple[Callable[[Rng, str], Example], ...] = (
    classifier,
    small_batches,
    any_scale,
    negative_likelihood,
    warm_restarts,
    warm_up,
    catapult,
    early_plateau,
    slow_learner,
    fine_tuning,
    heavy_tails,
    adversarial,
    critic,
    value_loss,
    policy_loss,
    grokking,
    spiky_validation,
    converged,
    penalised,
    dropout,
    curriculum,
    hardly_predictable,
)
