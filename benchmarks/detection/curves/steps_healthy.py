"""Healthy runs with a loss per step and a validation per epoch."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.detection.curves.curve import with_steps
from benchmarks.detection.curves.shapes import Floats, Rng, ar1, exponential, noisy, power_law

from failguard.detectors.base import Example

__all__ = ["STEPS_HEALTHY"]


def at_ends(curve: Floats, epochs: int) -> Floats:
    """The curve at the end of each epoch."""
    return curve[np.linspace(curve.size / epochs, curve.size, epochs).astype(int) - 1]


def _size(rng: Rng) -> tuple[int, int]:
    epochs = int(rng.choice([5, 10, 20, 40]))
    return epochs, epochs * int(rng.choice([20, 50, 100]))


def classifier(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    t = math.log(int(rng.integers(2, 100)))
    curve = exponential(n, t * rng.uniform(1.0, 1.4), t * rng.uniform(0.01, 0.5), rng.uniform(3, 30))
    val = noisy(rng, at_ends(curve, epochs) * 1.1, 0.02)
    return with_steps(name, noisy(rng, curve, rng.uniform(0.02, 0.4)), val, epochs=epochs, trivial=t)


def regression(rng: Rng, name: str) -> Example:
    """Mean squared error against the variance of the targets, some of them hardly predictable."""
    epochs, n = _size(rng)
    variance = 10 ** rng.uniform(-6, 8)
    left = rng.uniform(0.02, 0.85)
    curve = variance * exponential(n, rng.uniform(1.0, 3.0), left, rng.uniform(10, 40))
    val = noisy(rng, at_ends(curve, epochs) * 1.05, 0.03)
    loss = noisy(rng, curve, rng.uniform(0.1, 0.6))
    return with_steps(name, loss, val, epochs=epochs, trivial=variance, source="target_spread")


def regression_from_far(rng: Rng, name: str) -> Example:
    """Targets far from zero: the loss starts a hundred times above their variance and comes down."""
    epochs, n = _size(rng)
    curve = exponential(n, rng.uniform(30, 300), rng.uniform(0.05, 0.5), rng.uniform(12, 25))
    val = noisy(rng, at_ends(curve, epochs) * 1.05, 0.03)
    return with_steps(name, noisy(rng, curve, 0.3), val, epochs=epochs, trivial=1.0, source="target_spread")


def tagging(rng: Rng, name: str) -> Example:
    """Multi-label: the trivial loss is the mean entropy of the labels."""
    epochs, n = _size(rng)
    t = rng.uniform(0.05, 0.3)
    curve = exponential(n, 0.69, t * rng.uniform(0.3, 0.85), rng.uniform(10, 30))
    val = noisy(rng, at_ends(curve, epochs) * 1.03, 0.01)
    return with_steps(name, noisy(rng, curve, 0.1), val, epochs=epochs, trivial=t, source="target_spread")


def language_model(rng: Rng, name: str) -> Example:
    """One long epoch, smooth, without validation."""
    n = int(rng.choice([2000, 4000]))
    curve = power_law(n, 10.8, rng.uniform(1.8, 2.6), 0.6, 30.0)
    return with_steps(name, curve + 0.05 * rng.standard_normal(n), epochs=1, trivial=10.8, source="output_width")


def small_batches(rng: Rng, name: str) -> Example:
    """Batches of one or two: losses over three orders of magnitude."""
    epochs, n = _size(rng)
    curve = exponential(n, 2.3, rng.uniform(0.1, 1.0), rng.uniform(2, 10))
    val = noisy(rng, at_ends(curve, epochs), 0.03)
    return with_steps(name, noisy(rng, curve, rng.uniform(0.8, 2.0)), val, epochs=epochs)


def any_scale(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    curve = 10 ** rng.uniform(-9, 7) * exponential(n, 1.0, rng.uniform(0.001, 0.7), rng.uniform(3, 20))
    return with_steps(name, noisy(rng, curve, 0.2), noisy(rng, at_ends(curve, epochs) * 1.1, 0.02), epochs=epochs)


def likelihood(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    curve = exponential(n, rng.uniform(-50, 100), rng.uniform(-2000, -100), rng.uniform(2, 10))
    loss = curve + rng.uniform(1, 40) * rng.standard_normal(n)
    return with_steps(name, loss, at_ends(curve, epochs) + rng.standard_normal(epochs), epochs=epochs)


def _restarts(rng: Rng, n: int) -> Floats:
    """The cosine rate of a schedule with restarts, 1 at each restart."""
    length, factor = (n // int(rng.integers(3, 9)), 1) if rng.uniform() < 0.5 else (n // 15, 2)
    phase: list[float] = []
    while len(phase) < n:
        phase += [i / length for i in range(length)]
        length *= factor
    return np.asarray(0.5 * (1 + np.cos(np.pi * np.array(phase[:n]))))


def warm_restarts(rng: Rng, name: str) -> Example:
    """The loss jumps at each restart of the rate. The schedule's name is not always known."""
    epochs, n = _size(rng)
    rate = _restarts(rng, n)
    curve = exponential(n, 2.3, 0.1, 8.0) + rng.uniform(0.2, 1.0) * rate ** rng.uniform(1, 4) * (np.arange(n) > n // 20)
    schedule = "CosineAnnealingWarmRestarts" if rng.uniform() < 0.5 else None
    val = noisy(rng, at_ends(curve, epochs) * 1.1, 0.03)
    return with_steps(name, noisy(rng, curve, 0.15), val, epochs=epochs, trivial=2.303, schedule=schedule)


def restarts_with_jumps(rng: Rng, name: str) -> Example:
    """A restart that throws the loss up at once; it is back after a tenth of the period."""
    epochs, n = _size(rng)
    period = n // int(rng.integers(3, 7))
    phase = np.arange(n) % period / period
    curve = exponential(n, 2.3, 0.1, 6.0) + (np.arange(n) >= period) * rng.uniform(0.3, 1.0) * np.exp(-10 * phase)
    return with_steps(name, noisy(rng, curve, 0.1), noisy(rng, at_ends(curve, epochs), 0.03), epochs=epochs)


def cyclic_rate(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    period = n // int(rng.integers(4, 10))
    rate = 1.0 - np.abs((np.arange(n) % period) * 2.0 / period - 1.0)
    curve = exponential(n, 2.3, 0.3, 6.0) + rng.uniform(0.1, 0.5) * rate
    return with_steps(name, noisy(rng, curve, 0.1), noisy(rng, at_ends(curve, epochs), 0.03), epochs=epochs)


def warm_up(rng: Rng, name: str) -> Example:
    """Nothing moves while the rate is small, then a bump, then learning."""
    epochs, n = _size(rng)
    flat = int(rng.uniform(0.05, 0.25) * n)
    curve = np.concatenate([np.full(flat, 2.35), exponential(n - flat, 2.35, 0.2, rng.uniform(4, 12))])
    curve[flat : flat + 20] += rng.uniform(0.0, 1.5)
    val = noisy(rng, at_ends(curve, epochs), 0.02)
    return with_steps(
        name, noisy(rng, curve, 0.1), val, epochs=epochs, trivial=2.303, schedule="LinearWarmupCosineAnnealingLR"
    )


def catapult(rng: Rng, name: str) -> Example:
    """A large rate: up for some ten steps at the start, then down into learning."""
    epochs, n = _size(rng)
    curve = exponential(n, 2.3, 0.3, 6.0)
    curve = curve + rng.uniform(5, 40) * np.exp(-(((np.arange(n) - rng.uniform(5, 15)) / rng.uniform(2, 6)) ** 2))
    return with_steps(
        name, noisy(rng, curve, 0.2), noisy(rng, at_ends(curve, epochs), 0.02), epochs=epochs, trivial=2.303
    )


def early_plateau(rng: Rng, name: str) -> Example:
    """A plateau at chance of up to two thirds of the plan that ends in learning."""
    epochs, n = _size(rng)
    flat = int(rng.uniform(0.1, 0.65) * n)
    curve = np.concatenate([np.full(flat, 2.303), exponential(n - flat, 2.303, 0.1, rng.uniform(4, 12))])
    val = noisy(rng, at_ends(curve, epochs), 0.01)
    return with_steps(name, noisy(rng, curve, 0.05), val, epochs=epochs, trivial=2.303)


def slow_learner(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    curve = np.linspace(2.31, rng.uniform(1.0, 1.9), n)
    return with_steps(name, noisy(rng, curve, 0.05), at_ends(curve, epochs) * 1.01, epochs=epochs, trivial=2.303)


def fine_tuning(rng: Rng, name: str) -> Example:
    """Starts from good weights: low at once, hardly lower later."""
    epochs, n = _size(rng)
    level = rng.uniform(0.01, 0.4)
    curve = exponential(n, level * rng.uniform(1.0, 1.2), level, 5.0)
    trivial = None if rng.uniform() < 0.5 else 2.303
    val = noisy(rng, at_ends(curve, epochs) * 1.1, 0.03)
    return with_steps(name, noisy(rng, curve, rng.uniform(0.1, 0.5)), val, epochs=epochs, trivial=trivial)


def mislabelled(rng: Rng, name: str) -> Example:
    """Now and then a batch ten to a hundred times the usual."""
    epochs, n = _size(rng)
    curve = exponential(n, 2.3, rng.uniform(0.1, 1.0), rng.uniform(2, 10))
    outliers = (rng.uniform(size=n) < 0.03) * rng.pareto(1.5, n) * 5
    return with_steps(name, noisy(rng, curve, 0.4) + outliers, noisy(rng, at_ends(curve, epochs), 0.03), epochs=epochs)


def student_t_labels(rng: Rng, name: str) -> Example:
    """Squared errors of Student-t labels: the loss of a batch has no variance."""
    epochs, n = _size(rng)
    degrees, batch = rng.uniform(1.2, 3.0), int(rng.choice([8, 32]))
    level = exponential(n, 4.0, 0.5, 8.0)
    loss = level + (rng.standard_t(degrees, (n, batch)) ** 2).mean(axis=1)
    held_out = float((rng.standard_t(degrees, 300) ** 2).mean())
    return with_steps(name, loss, noisy(rng, at_ends(level, epochs) + held_out, 0.01), epochs=epochs)


def cauchy_labels(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    level = exponential(n, 4.0, 0.5, 8.0)
    loss = level + np.abs(rng.standard_cauchy((n, 16))).mean(axis=1)
    return with_steps(name, loss, noisy(rng, at_ends(level, epochs) + 3.0, 0.02), epochs=epochs)


def adversarial(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    t = np.arange(n)
    swing = rng.uniform(0.2, 1.0) * np.sin(t / rng.uniform(5, 60))
    return with_steps(
        name, np.abs(0.7 + rng.uniform(0, 4) * t / n + swing + 0.3 * rng.standard_normal(n)), epochs=epochs
    )


def two_losses_in_turn(rng: Rng, name: str) -> Example:
    """Generator and discriminator, one after the other in one series."""
    epochs, n = _size(rng)
    a, b = 0.6 + 0.1 * ar1(rng, n, 0.9), 1.8 + 0.4 * ar1(rng, n, 0.9)
    return with_steps(name, np.abs(np.where(np.arange(n) % 2, a, b)) + 0.01, epochs=epochs)


def critic(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    walk = np.cumsum(rng.standard_normal(n)) * rng.uniform(0.01, 0.3)
    return with_steps(name, walk + rng.uniform(0.1, 1.0) * rng.standard_normal(n), epochs=epochs)


def value_loss(rng: Rng, name: str) -> Example:
    """Reinforcement learning: grows with the returns, in bursts."""
    epochs, n = _size(rng)
    curve = 0.05 * np.exp(np.linspace(0, math.log(rng.uniform(2, 50)), n) + rng.uniform(0, 0.7) * ar1(rng, n, 0.95))
    return with_steps(name, noisy(rng, curve, rng.uniform(0.3, 1.0)), epochs=epochs)


def policy_loss(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    return with_steps(name, rng.uniform(0.001, 0.1) * rng.standard_normal(n), epochs=epochs)


def self_supervised(rng: Rng, name: str) -> Example:
    """Contrastive or denoising: falls at once, then hardly; noisy; nothing to compare with."""
    epochs, n = _size(rng)
    curve = power_law(n, rng.uniform(1, 8), rng.uniform(0.1, 4), 1.0, 3.0)
    return with_steps(name, noisy(rng, curve, rng.uniform(0.02, 0.3)), epochs=epochs)


def bootstrapped_targets(rng: Rng, name: str) -> Example:
    """Self-distillation: falls at first, then rises slowly while the representation gets better."""
    epochs, n = _size(rng)
    curve = exponential(n, 1.0, 0.2, 30.0) + 0.25 * np.arange(n) / n
    return with_steps(name, noisy(rng, curve, 0.05), epochs=epochs)


def curriculum(rng: Rng, name: str) -> Example:
    """Harder data every few epochs."""
    epochs, n = _size(rng)
    stage = np.arange(n) * 4 // n
    within = np.arange(n) % (n // 4) / (n // 4)
    curve = (0.3 + 0.2 * stage) + (1.2 - 0.1 * stage) * np.exp(-rng.uniform(4, 25) * within)
    return with_steps(name, noisy(rng, curve, 0.2), noisy(rng, at_ends(curve, epochs), 0.01), epochs=epochs)


def grokking(rng: Rng, name: str) -> Example:
    n, epochs = 1000, 20
    curve = exponential(n, 4.6, 0.4, 6.0)
    late = 1.0 / (1.0 + np.exp(-(np.arange(epochs) - rng.uniform(8, 14))))
    return with_steps(name, noisy(rng, curve, 0.1), noisy(rng, 4.6 - 4.0 * late, 0.003), epochs=epochs, trivial=4.605)


def rate_drops(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    curve = power_law(n, 2.3, 0.6, 1.0, n / 20)
    for drop in (n // 2, 3 * n // 4):
        curve[drop:] *= 0.5 + 0.5 * np.exp(-np.arange(n - drop) / 15.0)
    val = noisy(rng, at_ends(curve, epochs) * 1.2, 0.04)
    return with_steps(name, noisy(rng, curve, 0.15), val, epochs=epochs, trivial=2.303, schedule="MultiStepLR")


def new_epoch_lower(rng: Rng, name: str) -> Example:
    """Steps at the borders of epochs, where seen samples come again."""
    epochs, n = _size(rng)
    epoch = np.arange(n) * epochs // n
    curve = 2.3 * rng.uniform(0.7, 0.9) ** epoch + 0.1
    return with_steps(
        name, noisy(rng, curve, 0.05), noisy(rng, at_ends(curve, epochs) + 0.3, 0.01), epochs=epochs, trivial=2.303
    )


def bumps_at_borders(rng: Rng, name: str) -> Example:
    """Optimizer state or data order starts anew at each epoch: a bump at its first steps."""
    epochs, n = _size(rng)
    within = np.arange(n) % (n // epochs)
    curve = exponential(n, 2.3, 0.4, 6.0) + rng.uniform(0.1, 0.5) * np.exp(-within / 3.0)
    return with_steps(name, noisy(rng, curve, 0.05), noisy(rng, at_ends(curve, epochs), 0.02), epochs=epochs)


def penalised(rng: Rng, name: str) -> Example:
    epochs, n = _size(rng)
    penalty = exponential(n, rng.uniform(2, 6), rng.uniform(1, 2), 3.0)
    fit = exponential(n, 2.3, 0.2, 10.0)
    val = noisy(rng, at_ends(fit + penalty, epochs), 0.02)
    return with_steps(name, noisy(rng, fit, 0.1) + penalty, val, epochs=epochs, trivial=2.303)


def hardly_predictable(rng: Rng, name: str) -> Example:
    """Click-through rates: a few percent better than trivial is all there is."""
    epochs, n = _size(rng)
    curve = exponential(n, 0.69, 0.5 * rng.uniform(0.88, 0.94), rng.uniform(15, 40))
    val = noisy(rng, at_ends(curve, epochs) * 1.005, 0.002)
    return with_steps(name, noisy(rng, curve, 0.1), val, epochs=epochs, trivial=0.5)


def variational(rng: Rng, name: str) -> Example:
    """The weight of the divergence term is raised over the first third: the loss rises gently, then falls."""
    epochs, n = _size(rng)
    ramp = np.clip(np.arange(n) / (n / 3), 0, 1)
    curve = exponential(n, 180.0, 95.0, 8.0) + 12.0 * ramp
    return with_steps(name, noisy(rng, curve, 0.03), noisy(rng, at_ends(curve, epochs), 0.01), epochs=epochs)


STEPS_HEALTHY = (
    classifier,
    regression,
    regression_from_far,
    tagging,
    language_model,
    small_batches,
    any_scale,
    likelihood,
    warm_restarts,
    restarts_with_jumps,
    cyclic_rate,
    warm_up,
    catapult,
    early_plateau,
    slow_learner,
    fine_tuning,
    mislabelled,
    student_t_labels,
    cauchy_labels,
    adversarial,
    two_losses_in_turn,
    critic,
    value_loss,
    policy_loss,
    self_supervised,
    bootstrapped_targets,
    curriculum,
    grokking,
    rate_drops,
    new_epoch_lower,
    bumps_at_borders,
    penalised,
    hardly_predictable,
    variational,
)
