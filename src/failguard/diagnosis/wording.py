"""Numbers as people read them."""

from __future__ import annotations

import math

__all__ = ["count", "number", "times"]


def number(value: float) -> str:
    """A measured value with four significant digits: ``0.4123``, ``1.2e7``, ``12,000``, ``NaN``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if 1e3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1e4 or value == int(value) else f"{value:,.1f}"
    mantissa, e, exponent = f"{value:.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def count(value: float) -> str:
    """A whole number with separators: ``1,437``."""
    return f"{value:,.0f}"


def times(ratio: float) -> str:
    """A ratio in words: ``"23 times"``, ``"1.4 times"``."""
    if ratio >= 1e6:
        return f"{number(float(f'{ratio:.0e}'))} times"
    return f"{count(ratio)} times" if ratio >= 10 else f"{ratio:.2g} times"
