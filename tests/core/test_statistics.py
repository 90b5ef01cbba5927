from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from failguard.core.history import History
from failguard.core.label_counts import prior_error
from failguard.core.statistics import median, median_of_means, noise, projected, train_loss_per_epoch


@pytest.mark.parametrize("values", [[3.0], [2.0, 1.0], [5.0, 1.0, 3.0], [1.0, 9.0, 2.0, 4.0], [1e308, 1.5e308]])
def test_median(values: list[float]) -> None:
    assert median(values) == pytest.approx(0.5 * np.median(np.array(values) / 2) * 4)
    assert len(values) % 2 == 0 or median(values) == statistics.median(values)


def test_median_of_means_follows_the_mean_but_not_an_outlier() -> None:
    rng = np.random.default_rng(0)
    skewed = rng.exponential(1.0, 256)
    level = median_of_means(skewed)
    assert level == pytest.approx(1.0, abs=0.2)
    skewed[17] = 1e12
    assert median_of_means(skewed) == pytest.approx(level, abs=0.1)


def test_median_of_means_of_few_and_of_bad_values() -> None:
    assert median_of_means(np.array([1.0, 3.0])) == 2.0
    assert median_of_means(np.array([1.0, math.nan, 3.0, math.inf])) == 2.0
    assert median_of_means(np.array([math.nan])) is None
    assert median_of_means(np.array([])) is None


@pytest.mark.parametrize("slope", [0.0, 0.5, -3.0])
def test_noise_sees_through_a_trend(slope: float) -> None:
    rng = np.random.default_rng(1)
    assert noise(slope * np.arange(4000) + 0.7 * rng.standard_normal(4000)) == pytest.approx(0.7, rel=0.1)


def test_noise_of_few_and_of_huge_values() -> None:
    assert noise(np.array([1.0, 2.0])) == 0.0
    assert noise(np.array([1.0, 2.0, 3.0])) == 0.0
    assert noise(np.array([1e300, -1e300, 1e300, -1e300])) > 1e299


def test_projected() -> None:
    assert projected([9.0, 5.0, 4.0, 3.0], remaining=2) == pytest.approx(1.0)
    assert projected([5.0, 4.0, 4.0], remaining=2) == math.inf
    assert projected([5.0, 4.0], remaining=2) == math.inf
    assert projected([5.0, 4.0, 3.0], remaining=-1) == 3.0


def test_the_training_loss_is_found_under_either_name() -> None:
    history = History()
    assert train_loss_per_epoch(history) is None
    history.epoch_series("loss").append(0, 2.0)
    assert train_loss_per_epoch(history) is history.epochs["loss"]
    history.epoch_series("train_loss").append(0, 1.0)
    assert train_loss_per_epoch(history) is history.epochs["train_loss"]


def test_the_error_of_class_shares_on_few_samples() -> None:

    assert prior_error({0: 50, 1: 50}, 100) == 0.0  # every class surprises alike
    rng = np.random.default_rng(0)
    drawn = rng.choice(2, size=(2000, 60), p=[0.27, 0.73])
    losses = np.where(drawn == 0, -np.log(0.27), -np.log(0.73)).mean(axis=1)
    assert prior_error({0: 27, 1: 73}, 60) == pytest.approx(losses.std(), rel=0.1)
