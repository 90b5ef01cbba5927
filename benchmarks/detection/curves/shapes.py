"""Parts that curves are made of. All random numbers come from the generator that is handed in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Rng", "ar1", "exponential", "noisy", "power_law", "v_shape"]

Floats = NDArray[np.float64]
Rng = np.random.Generator


def exponential(n: int, high: float, low: float, rate: float) -> Floats:
    """From ``high`` towards ``low``, the distance shrinking by ``exp(-rate)`` over the run."""
    return np.asarray(low + (high - low) * np.exp(-np.arange(n) * rate / n))


def power_law(n: int, high: float, low: float, exponent: float, knee: float) -> Floats:
    """``low + (high - low) * (1 + i / knee) ** -exponent``: the usual form of a loss over steps."""
    return np.asarray(low + (high - low) * (1.0 + np.arange(n) / knee) ** -exponent)


def noisy(rng: Rng, curve: Floats, share: float) -> Floats:
    """Multiply by log-normal noise of mean 1."""
    return np.asarray(curve * np.exp(share * rng.standard_normal(curve.size) - share**2 / 2))


def ar1(rng: Rng, n: int, memory: float) -> Floats:
    """Noise of unit variance in which each value remembers the one before."""
    out = np.empty(n)
    x = rng.standard_normal()
    for i in range(n):
        x = memory * x + (1.0 - memory**2) ** 0.5 * rng.standard_normal()
        out[i] = x
    return out


def v_shape(
    n: int, high: float, low: float, best: int, rise: float, fall_rate: float = 5.0, bend: float = 1.0
) -> Floats:
    """Falls exponentially to ``low`` at ``best``, then rises by ``rise`` (in the unit of the loss) until the end."""
    down = low + (high - low) * (np.exp(-np.arange(best + 1) * fall_rate / max(best, 1)) - np.exp(-fall_rate)) / (
        1.0 - np.exp(-fall_rate)
    )
    up = low + rise * (np.arange(1, n - best) / max(n - 1 - best, 1)) ** bend
    return np.concatenate([down, up])[:n]
