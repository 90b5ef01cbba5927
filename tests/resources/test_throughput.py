from __future__ import annotations

from collections.abc import Sequence

import pytest

from failguard.core.history import Series
from failguard.resources.throughput import throughput


def series(values: Sequence[float]) -> Series:
    found = Series()
    for step, value in enumerate(values):
        found.append(step, value)
    return found


def test_rates_of_all_ranks() -> None:
    found = throughput(series([5.0] + [0.1] * 400), 32, tokens_per_step=1000, ranks=2)
    assert found["steps_per_s"] == pytest.approx(10.0)
    assert found["samples_per_s"] == pytest.approx(640.0)
    assert found["tokens_per_s"] == pytest.approx(20_000.0)
    assert found["trend_percent"] == pytest.approx(0.0)


def test_a_run_that_slows_down() -> None:
    assert throughput(series([0.1 + 0.001 * i for i in range(400)]), None)["trend_percent"] < -30


def test_too_little_to_say() -> None:
    assert throughput(None, 32) == {}
    assert throughput(series([0.1] * 16), 32) == {}
    assert "trend_percent" not in throughput(series([0.1] * 100), 32)
