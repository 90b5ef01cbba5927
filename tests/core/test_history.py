"""History keeps the newest values in full and the whole run in bounded memory."""

from __future__ import annotations

import json
import math
from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from failguard.core.history import BLOCKS, FIRST, RECENT, Block, History, Series


def filled(n: int) -> Series:
    series = Series()
    for i in range(n):
        series.append(i, float(i))
    return series


@pytest.mark.parametrize("n", [0, 1, FIRST, RECENT - 1, RECENT, RECENT + 1, 3 * RECENT + 7])
def test_newest_values_come_back_in_order(n: int) -> None:
    series = filled(n)
    expected = np.arange(max(n - RECENT, 0), n)
    assert len(series) == n
    np.testing.assert_array_equal(series.values, expected)
    np.testing.assert_array_equal(series.steps, expected)
    np.testing.assert_array_equal(series.recent(5), expected[-5:])
    np.testing.assert_array_equal(series.first(5), np.arange(min(n, 5)))
    assert series.last == (n - 1 if n else None)
    assert series.last_step == (n - 1 if n else None)


def test_blocks_cover_the_whole_run_in_bounded_number() -> None:
    n = 100_000
    blocks = filled(n).blocks()
    assert len(blocks) <= BLOCKS
    assert sum(b.count for b in blocks) == n
    assert [b.start for b in blocks] == list(np.cumsum([0, *(b.count for b in blocks)])[:-1])
    assert blocks[0].low == 0.0
    assert blocks[-1].high == n - 1
    whole_mean = sum(b.mean * b.count for b in blocks) / n
    assert whole_mean == pytest.approx((n - 1) / 2)


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_a_block_reduces_like_numpy_over_the_finite_values(values: list[float]) -> None:
    block = Block.point(0, values[0])
    for i, value in enumerate(values[1:], start=1):
        block.absorb(Block.point(i, value))
    finite = [v for v in values if math.isfinite(v)]
    assert (block.count, block.finite) == (len(values), len(finite))
    if finite:
        assert block.low == min(finite)
        assert block.high == max(finite)
        assert block.mean == pytest.approx(np.mean(finite), rel=1e-9, abs=1e-6 * max(map(abs, finite)))
    else:
        assert math.isnan(block.mean)


def test_values_that_are_not_finite_stay_visible() -> None:
    series = Series()
    for i, value in enumerate([1.0, math.nan, math.inf, 3.0]):
        series.append(i, value)
    assert np.isnan(series.values[1])
    assert np.isinf(series.values[2])
    assert sum(b.count - b.finite for b in series.blocks()) == 2


def test_state_goes_through_json_and_back() -> None:
    history = History()
    for i in range(10_000):
        history.step_series("loss").append(i, 1.0 / (i + 1))
    history.epoch_series("val_loss").append(0, 0.5)
    history.improvement.update(0.5, epoch=0, step=9_999)
    copy = History()
    copy.load_state_dict(json.loads(json.dumps(history.state_dict())))
    assert list(copy.rows()) == list(history.rows())
    assert copy.improvement == history.improvement
    np.testing.assert_array_equal(copy.steps["loss"].values, history.steps["loss"].values)
    for h in (history, copy):
        h.step_series("loss").append(10_000, 7.0)
    assert list(copy.rows()) == list(history.rows())


def test_rows_have_none_where_nothing_is_finite() -> None:
    history = History()
    history.step_series("loss").append(0, math.nan)
    (row,) = history.rows()
    assert (row["count"], row["finite"], row["mean"]) == (1, 0, None)


def test_many_values_at_once_are_as_one_by_one():
    one, many = filled(3 * RECENT + 7), Series()
    many.extend(0, [float(i) for i in range(5)])
    many.append(5, 5.0)
    many.extend(6, [float(i) for i in range(6, 3 * RECENT + 7)])
    assert len(one) == len(many)
    np.testing.assert_array_equal(one.values, many.values)
    np.testing.assert_array_equal(one.steps, many.steps)
    np.testing.assert_array_equal(one.first(FIRST), many.first(FIRST))
    assert sum(b.count for b in many.blocks()) == len(many)


def test_first_values_go_on_after_a_short_saved_state():
    series = Series()
    series.load_state_dict(filled(10).state_dict())
    for i in range(10, 2 * FIRST):
        series.append(i, float(i))
    np.testing.assert_array_equal(series.first(FIRST), np.arange(FIRST))


def test_a_block_of_values_is_that_of_the_points():
    for values in ([1.0, 2.0, 4.0], [1.0, math.nan, 4.0], [math.nan], [1e308, 1e308], [math.inf, -math.inf]):
        block = Block.point(3, values[0])
        for i, value in enumerate(values[1:], start=1):
            block.absorb(Block.point(3 + i, value))
        made = Block.of(3, array("d", values))
        assert (made.start, made.count, made.finite) == (block.start, block.count, block.finite)
        np.testing.assert_allclose([made.mean, made.low, made.high], [block.mean, block.low, block.high])
