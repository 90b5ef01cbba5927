"""Numbers of classes are told from amounts."""

from __future__ import annotations

import numpy as np
import pytest

from failguard.core.class_order import ClassOrder


def verdict(x: np.ndarray, y: np.ndarray, batch: int = 32) -> bool | None:
    order = ClassOrder()
    for i in range(0, len(x), batch):
        order.add(x[i : i + batch], y[i : i + batch])
    return order.names_classes()


@pytest.mark.parametrize("seed", range(5))
def test_clouds_in_no_order_are_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 8, 400)
    x = rng.normal(size=(8, 20))[y] + 0.8 * rng.normal(size=(400, 20))
    assert verdict(x, y) is True
    assert verdict(x.reshape(400, 4, 5).astype("float32"), y.astype("float32")) is True


@pytest.mark.parametrize("seed", range(5))
def test_what_grows_with_the_inputs_is_an_amount(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 12))
    hidden = x @ rng.normal(size=12) / 3 + 0.3 * rng.normal(size=400)
    y = np.searchsorted(np.quantile(hidden, [0.1, 0.3, 0.5, 0.7, 0.9]), hidden)
    assert verdict(x, y) is False


def test_nothing_is_said_where_inputs_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 12)), rng.integers(0, 8, 400)
    assert verdict(x, y) is None
    assert verdict(x, y % 3) is None  # too few classes for an order
    assert verdict(x, rng.normal(size=400)) is None  # no whole numbers
    assert verdict(x, np.full(400, np.nan)) is None
    assert verdict(np.zeros((400, 12)), y) is None
    assert verdict(x, np.arange(400)) is None  # more numbers than classes
    assert ClassOrder().names_classes() is None
