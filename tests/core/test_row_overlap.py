"""Validation rows among training rows: found from a sample, and not where rows are equal by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from failguard.core.row_overlap import MOST_TRAINING, RowOverlap

R = np.random.default_rng(0)


def compare(training: Any, validation: Any, *, epochs: int = 1, samples: int | None = None, size: int = 32) -> Any:
    overlap = RowOverlap()
    for epoch in range(epochs):
        for start in range(0, len(training), size):
            overlap.add_training([training[start : start + size]], epoch)
    for start in range(0, len(validation), size):
        overlap.add_validation([validation[start : start + size]])
    return overlap.compare(samples)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("size", [32, 5_000])
def test_shared_rows_are_found(epochs: int, size: int) -> None:
    x = R.normal(size=(1_000, 5))
    found = compare(x, np.r_[x[:20], R.normal(size=(80, 5))], epochs=epochs, size=size)
    assert (found.inside, found.rows, found.training_rows) == (20, 100, 1_000)
    assert found.share == pytest.approx(0.2)
    assert compare(x, R.normal(size=(100, 5)), epochs=epochs, size=size) is None


def test_of_a_sample_of_the_training_rows_the_share_is_scaled_up() -> None:
    x = R.normal(size=(10_000, 5))
    found = compare(x[:1_000], x[R.permutation(10_000)[:2_000]], samples=10_000)
    assert found.inside < 300
    assert found.share == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("values", [2, 4, 8])
@pytest.mark.parametrize("features", [2, 3, 4, 6])
def test_rows_of_few_features_of_few_values_are_equal_by_chance(values: int, features: int) -> None:
    for _ in range(10):
        assert compare(R.integers(0, values, (2_000, features)), R.integers(0, values, (300, features))) is None


def test_single_numbers_and_empty_arrays_say_nothing() -> None:
    assert compare(np.arange(1_000.0), np.arange(1_000.0)) is None
    assert compare(np.zeros((1_000, 0)), np.zeros((10, 0))) is None


def test_a_sampler_that_repeats_rows_hides_nothing() -> None:
    x = R.normal(size=(500, 5))
    assert compare(x[R.integers(0, 500, 500)], x[:100]) is not None


def test_several_inputs_make_one_row() -> None:
    a, b = R.normal(size=(900, 2)), R.normal(size=(900, 4))
    overlap = RowOverlap()
    overlap.add_training([a, b])
    overlap.add_validation([a[:50], b[50:100]])  # parts of different rows
    assert overlap.compare() is None
    overlap.add_validation([a[:50], b[:50]])
    found = overlap.compare()
    assert found is not None
    assert found.inside == 50
    assert overlap.compare() is None  # nothing new


def test_memory_is_bounded() -> None:
    overlap = RowOverlap()
    x = R.normal(size=(1_000, 2))
    for _ in range(300):
        overlap.add_training([x])
        overlap.add_validation([x])
    assert not overlap.wants_training
    assert not overlap.wants_validation
    assert sum(len(h) for h in overlap._training) < MOST_TRAINING + 1_024
