"""The targets of the first validation."""

from __future__ import annotations

import numpy as np
import pytest

from failguard.core.validation_targets import ValidationTargets


def shown(*batches: object, is_whole: bool = True) -> ValidationTargets:
    targets = ValidationTargets()
    for batch in batches:
        targets.add([np.asarray(batch)])
    targets.is_whole = is_whole
    return targets


def test_classes_are_counted_however_they_are_written() -> None:
    numbers, one_hot = [0, 2, 2, 1], np.eye(3, dtype="float32")[[0, 2, 2, 1]]
    for batch in (numbers, np.asarray(numbers, "float32")[:, None], one_hot):
        targets = shown(batch, batch)
        assert targets.class_counts(like={0: 1}) == {0: 2, 1: 2, 2: 4}
        assert targets.samples == 8
    assert shown(numbers).class_counts(like={}) == {}, "those of training are no classes"


def test_ignored_labels_are_no_class() -> None:
    assert shown([-100, 0, 1, 1]).class_counts(like={0: 1}) == {0: 1, 1: 2}


@pytest.mark.parametrize("batch", [[0.5, 1.0], [np.nan, 1.0], [5_000.0, 1.0], [[0.2, 0.8]]])
def test_values_are_no_classes(batch: object) -> None:
    assert shown([0, 1], batch).class_counts(like={0: 1}) == {}


def test_several_targets_are_left_out() -> None:
    targets = ValidationTargets()
    targets.add([np.zeros(4), np.zeros(4)])
    targets.add([])
    targets.is_whole = True
    assert targets.class_counts(like={0: 1}) == {}
    assert targets.trivial_loss("squared") is None


def test_the_spread_of_all_in_whatever_order() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=400)).astype("float32")
    batches = np.split(values, 8)
    assert shown(*batches).trivial_loss("squared") == pytest.approx(values.var(), rel=1e-5)
    assert shown(*batches, is_whole=False).trivial_loss("squared") is None
    assert shown(*batches[:1]).trivial_loss("squared") is None, "too few"
