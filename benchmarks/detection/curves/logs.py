"""Finished logs with a column of steps: sparse, resumed, validated now and then. Judged by ``failguard.analyze``."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.detection.curves.shapes import Floats, Rng, exponential, noisy, power_law, v_shape

__all__ = ["LOGS_FAULTY", "LOGS_HEALTHY", "Columns"]

Columns = dict[str, list[float | None]]


def _log(loss: Floats, *, every: int = 1, first: int = 0, val: Floats | None = None) -> Columns:
    """A loss each ``every`` steps from step ``first`` on; validations at even distances, the last at the end."""
    steps = first + every * np.arange(loss.size)
    columns: Columns = {"step": steps.astype(float).tolist(), "loss": loss.tolist()}
    if val is not None:
        rows = np.linspace(loss.size / val.size, loss.size, val.size).astype(int) - 1
        column: list[float | None] = [None] * loss.size
        for row, value in zip(rows.tolist(), val.tolist(), strict=True):
            column[row] = value
        columns["eval_loss"] = column
    return columns


def pretraining(rng: Rng) -> Columns:
    """A language model, one value each 10 or 100 steps."""
    n = int(rng.integers(100, 2000))
    loss = power_law(n, 10.8, rng.uniform(2.0, 3.2), 0.7, n / 100) + 0.03 * rng.standard_normal(n)
    return _log(loss, every=int(rng.choice([10, 100])))


def pretraining_with_a_blip(rng: Rng) -> Columns:
    """One low bump that is gone after a few values: worth a note at most."""
    n = int(rng.integers(400, 2000))
    loss = power_law(n, 10.8, 2.4, 0.7, n / 100) + 0.03 * rng.standard_normal(n)
    at = int(rng.uniform(0.3, 0.9) * n)
    loss[at : at + 8] += rng.uniform(0.2, 0.6) * np.exp(-np.arange(min(8, n - at)) / 3.0)
    return _log(loss, every=10)


def resumed(rng: Rng) -> Columns:
    """Goes on at step 5,000 from a trained state: hardly anything moves."""
    n = int(rng.integers(100, 1500))
    level = rng.uniform(0.2, 3.0)
    loss = noisy(rng, np.linspace(level * 1.03, level, n), rng.uniform(0.02, 0.3))
    val = noisy(rng, np.linspace(level * 1.08, level * 1.05, int(rng.integers(4, 30))), 0.005)
    return _log(loss, every=int(rng.choice([1, 10, 50])), first=5000, val=val)


def resumed_with_a_bump(rng: Rng) -> Columns:
    """Goes on without its optimizer's state: up for some steps, then as before."""
    n = int(rng.integers(200, 1500))
    loss = power_law(n, 2.5, 2.2, 0.5, 50.0) + rng.uniform(0.2, 3.0) * np.exp(-np.arange(n) / rng.uniform(3, 15))
    return _log(noisy(rng, loss, 0.03), first=20_000)


def fine_tuned(rng: Rng) -> Columns:
    """Three epochs of a language model: down a step at each epoch's start, validation up by a little in the last."""
    n = int(rng.integers(60, 900))
    epoch = np.minimum(np.arange(n) * 3 // n, 2)
    loss = rng.uniform(1.0, 2.0) * np.array([1.0, 0.85, 0.75])[epoch] + 0.8 * np.exp(-np.arange(n) * 20 / n)
    val = rng.uniform(1.0, 2.0) * np.array([1.0, 0.96, 0.95, 0.955, 0.965, 0.97])
    return _log(noisy(rng, loss, rng.uniform(0.03, 0.15)), every=10, val=noisy(rng, val, 0.003))


def diffusion(rng: Rng) -> Columns:
    """Flat and noisy for most of the run."""
    n = int(rng.integers(300, 4000))
    loss = power_law(n, 1.0, rng.uniform(0.01, 0.15), 1.5, n / 300)
    return _log(loss * rng.gamma(8.0, 1 / 8.0, n))


def contrastive(rng: Rng) -> Columns:
    """At the logarithm of the batch size for up to half of the run."""
    n, chance = int(rng.integers(300, 2000)), math.log(int(rng.choice([256, 4096])))
    flat = int(rng.uniform(0.05, 0.5) * n)
    loss = np.concatenate([np.full(flat, chance), power_law(n - flat, chance, 0.4 * chance, 0.8, n / 30)])
    return _log(noisy(rng, loss, 0.01))


def speech(rng: Rng) -> Columns:
    n = int(rng.integers(300, 2000))
    flat = int(rng.uniform(0.1, 0.4) * n)
    loss = np.concatenate([2.9 + 300 * np.exp(-np.arange(flat) / 8.0), exponential(n - flat, 2.9, 0.3, 6.0)])
    val = np.concatenate([np.full(4, 2.92), exponential(8, 2.5, 0.35, 4.0)])
    return _log(noisy(rng, loss, 0.06), every=10, val=noisy(rng, val, 0.01))


def detection(rng: Rng) -> Columns:
    """A sum of losses with a warm-up of the rate; each value is of one batch."""
    n = int(rng.integers(300, 3000))
    return _log(noisy(rng, power_law(n, rng.uniform(3, 12), 0.7, 0.9, n / 50), rng.uniform(0.15, 0.35)), every=50)


def policy_gradient(rng: Rng) -> Columns:
    """Around zero, of either sign, with bursts."""
    n = int(rng.integers(200, 2000))
    return _log(rng.uniform(0.001, 1.0) * rng.standard_t(3, n) - 0.01)


def value_function(rng: Rng) -> Columns:
    n = int(rng.integers(200, 2000))
    level = np.exp(np.linspace(0, rng.uniform(0, 4), n)) * 10 ** rng.uniform(-3, 2)
    return _log(noisy(rng, level, rng.uniform(0.3, 1.0)), every=int(rng.choice([1, 1000])))


def inverse_time(rng: Rng) -> Columns:
    n = int(rng.integers(50, 2000))
    return _log(noisy(rng, 10 ** rng.uniform(-9, 7) / (1 + np.arange(n) / rng.uniform(1, 30)), rng.uniform(0, 0.2)))


def sparse_restarts(rng: Rng) -> Columns:
    n, period = int(rng.integers(100, 1000)), int(rng.integers(20, 60))
    phase = np.arange(n) % period / period
    loss = exponential(n, 2.3, 0.5, 5.0) + rng.uniform(0.1, 0.6) * 0.5 * (1 + np.cos(np.pi * phase))
    return _log(noisy(rng, loss, 0.03), every=100, val=noisy(rng, loss[period - 1 :: period] * 1.1, 0.02))


def short(rng: Rng) -> Columns:
    """A handful of values."""
    n = int(rng.integers(2, 15))
    return _log(noisy(rng, exponential(n, 2.0, 1.0, 3.0), 0.05), every=500)


def sparse_divergence(rng: Rng) -> Columns:
    """A value each 100 steps that grows from some time on."""
    n = int(rng.integers(60, 500))
    turn = int(rng.uniform(0.2, 0.5) * n)
    loss = noisy(rng, power_law(n, 8.0, 2.5, 0.7, n / 100), 0.02)
    loss[turn:] = np.minimum(loss[turn] * rng.uniform(1.2, 2.0) ** np.arange(n - turn), 1e8 * rng.uniform(0.5, 2))
    return _log(loss, every=100)


def memorised(rng: Rng) -> Columns:
    """Fine-tuned for too long, validated twenty times."""
    n, best = int(rng.integers(100, 1000)), int(rng.integers(3, 9))
    loss = noisy(rng, exponential(n, 2.0, 0.05, rng.uniform(3, 6)), 0.1)
    val = noisy(rng, v_shape(20, 2.0, 1.2, best, rng.uniform(0.3, 1.2)), 0.006)
    return _log(loss, every=10, val=val)


def stuck(rng: Rng) -> Columns:
    """Flat from the start to the end, validated thirty times."""
    n, level = int(rng.integers(300, 2000)), rng.uniform(0.5, 5)
    return _log(noisy(rng, np.full(n, level), 0.05), every=10, val=noisy(rng, np.full(30, level * 1.01), 0.004))


def sparse_spikes(rng: Rng) -> Columns:
    """A value each 10 steps; up by a good part of what was learned for a dozen values, several times."""
    n = int(rng.integers(800, 2000))
    loss = power_law(n, 10.8, 2.4, 0.7, n / 100) + 0.03 * rng.standard_normal(n)
    for at in np.sort(rng.choice(np.arange(250, n - 120, 97), int(rng.integers(2, 5)), replace=False)).tolist():
        at += int(rng.integers(0, 40))
        loss[at : at + 60] += rng.uniform(1.2, 4.0) * np.exp(-np.arange(60) / 10.0)
    return _log(loss, every=10)


LOGS_HEALTHY = (
    pretraining,
    pretraining_with_a_blip,
    resumed,
    resumed_with_a_bump,
    fine_tuned,
    diffusion,
    contrastive,
    speech,
    detection,
    policy_gradient,
    value_function,
    inverse_time,
    sparse_restarts,
    short,
)
LOGS_FAULTY = (
    (sparse_divergence, ("loss.divergence",)),
    (memorised, ("metric.overfitting",)),
    (stuck, ("loss.no_learning",)),
    (sparse_spikes, ("loss.spike",)),
)
