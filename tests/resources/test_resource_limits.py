from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest

from failguard.errors import ConfigurationError
from failguard.resources import ResourceLimits


def test_defaults_are_usable() -> None:
    limits = ResourceLimits()
    assert (limits.interval_s, limits.max_memory_increase_mb, limits.min_disk_free_mb) == (1.0, None, 1024.0)
    with pytest.raises(FrozenInstanceError):
        limits.interval_s = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("name", ["interval_s", "max_memory_increase_mb", "min_disk_free_mb"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", True, [1]])
def test_unusable_values_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ResourceLimits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 0.001, 1e9, None])
def test_interval_has_bounds(value: object) -> None:
    with pytest.raises(ConfigurationError, match="interval_s"):
        ResourceLimits(interval_s=value)  # type: ignore[arg-type]
