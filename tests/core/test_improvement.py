"""The one rule of improvement."""

from __future__ import annotations

import math

import pytest

from failguard.core.improvement import Improvement


def follow(values: list[float], **settings: object) -> Improvement:
    improvement = Improvement(**settings)  # type: ignore[arg-type]
    for epoch, value in enumerate(values):
        improvement.update(value, epoch=epoch, step=10 * epoch + 9)
    return improvement


@pytest.mark.parametrize(
    ("values", "settings", "best_epoch", "waited"),
    [
        ([3.0, 2.0, 1.0], {}, 2, 0),
        ([3.0, 1.0, 2.0, 1.0], {}, 1, 2),  # equal is no improvement
        ([1.0, 2.0, 3.0, 2.5], {"mode": "max"}, 2, 1),
        ([1.0, 0.95, 0.91, 0.85], {"min_delta": 0.1}, 3, 0),  # small steps count once they add up
        ([1.0, 0.9], {"min_delta": 0.1}, 0, 1),  # exactly min_delta is not enough
        ([math.nan, 2.0, math.nan, math.inf], {}, 1, 2),
        ([math.nan, math.nan], {}, None, 2),
        ([-1.0, -2.0], {}, 1, 0),
        ([-math.inf, 1.0], {}, 1, 0),
    ],
)
def test_best_and_waited(values: list[float], settings: dict[str, object], best_epoch: int | None, waited: int) -> None:
    improvement = follow(values, **settings)
    assert (improvement.best_epoch, improvement.waited_epochs) == (best_epoch, waited)
    if best_epoch is not None:
        assert improvement.best_value == values[best_epoch]
        assert improvement.best_step == 10 * best_epoch + 9


def test_state_comes_back() -> None:
    improvement = follow([3.0, 1.0, 2.0])
    copy = Improvement()
    copy.load_state_dict(improvement.state_dict())
    assert copy == improvement
