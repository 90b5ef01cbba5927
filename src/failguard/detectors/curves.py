"""Curves for the examples of detectors. Plain Python: the same numbers everywhere, and nothing heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["decay", "line", "noisy", "swing", "with_bumps"]


def decay(n: int, start: float, end: float, halvings: float = 5.0) -> list[float]:
    """From ``start`` towards ``end``, the distance halved ``halvings`` times over ``n`` values."""
    return [end + (start - end) * 0.5 ** (halvings * i / n) for i in range(n)]


def line(n: int, start: float, end: float) -> list[float]:
    """From ``start`` to ``end`` in equal steps, both included."""
    return [start + (end - start) * i / max(n - 1, 1) for i in range(n)]


def swing(n: int, middle: float, height: float, period: float) -> list[float]:
    """A sine around ``middle``."""
    return [middle + height * math.sin(2.0 * math.pi * i / period) for i in range(n)]


def with_bumps(values: Sequence[float], at: Sequence[int], height: float, width: int) -> list[float]:
    """Raise ``width`` values from each of the positions ``at``, all of them by ``height``."""
    result = list(values)
    for first in at:
        for i in range(first, min(first + width, len(result))):
            result[i] += height
    return result


def noisy(values: Sequence[float], share: float, seed: int = 0) -> list[float]:
    """Multiply by noise of mean 1 and standard deviation ``share`` (nearly normal, the sum of 12 uniforms)."""
    state = 12345 + seed
    result = []
    for value in values:
        total = -6.0
        for _ in range(12):
            state = (1103515245 * state + 12345) % 2**31
            total += state / 2**31
        result.append(value * (1.0 + share * total))
    return result
