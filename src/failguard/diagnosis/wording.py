"""Numbers as people read them."""

from __future__ import annotations

import math

__all__ = ["count", "number", "times"]


def number(value: float) -> str:
    """A measured value with four significant digits: ``0.4123``, ``1.2e+04``, ``NaN``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return f"{value:.4g}"


def count(value: float) -> str:
    """A whole number with separators: ``1,437``."""
    return f"{value:,.0f}"


def times(ratio: float) -> str:
    """A ratio in words: ``"23 times"``, ``"1.4 times"``."""
    if ratio >= 1e6:
        return f"{ratio:.0e} times".replace("e+0", "e").replace("e+", "e")
    return f"{count(ratio)} times" if ratio >= 10 else f"{ratio:.2g} times"
