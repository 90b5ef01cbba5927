"""What single batches tell: size, classes, the loss of a constant predictor, values that are not finite."""

from __future__ import annotations

import math
import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest

pytest.importorskip("keras")

from failguard.core.facts import Facts
from failguard.core.label_counts import class_prior_entropy
from failguard.keras.batches import BatchReader, non_finite_part
from failguard.keras.loss import LossFacts

pytestmark = pytest.mark.framework

X = np.ones((4, 2), "float32")


def _read(y: Any, loss: str, *, weight: Any = None, x: Any = X) -> Facts:
    facts = Facts(loss_name=loss)
    reader = BatchReader(facts, check_data=True, loss=LossFacts(loss, is_plain=True))
    reader.read((x, y) if weight is None else (x, y, weight), 0, 0)
    return facts


@pytest.mark.parametrize(
    ("y", "loss", "counts"),
    [
        (np.array([0, 1, 1, 2]), "sparse_categorical_crossentropy", {0: 1, 1: 2, 2: 1}),
        (np.array([[0.0], [1.0], [1.0], [2.0]]), "sparse_categorical_crossentropy", {0: 1, 1: 2, 2: 1}),
        (np.eye(3)[[0, 1, 1, 2]], "categorical_crossentropy", {0: 1, 1: 2, 2: 1}),
        (np.array([0.0, 1.0, 1.0, 1.0]), "binary_crossentropy", {0: 1, 1: 3}),
        (np.array([-1, 5, 5, 0]), "sparse_categorical_crossentropy", {0: 1, 5: 2}),
    ],
)
def test_classes_are_counted(y: Any, loss: str, counts: dict[int, int]) -> None:
    facts = _read(y, loss)
    assert facts.target_kind == "classes"
    assert facts.class_counts == counts
    assert facts.batch_size == 4
    assert facts.trivial_loss == pytest.approx(class_prior_entropy(counts))


@pytest.mark.parametrize("y", [np.array([0.5, 1.0, 2.0, 0.0]), np.ones((4, 3), "float32")])
def test_other_targets_are_continuous(y: Any) -> None:
    facts = _read(y, "mean_squared_error")
    assert (facts.target_kind, facts.class_counts, facts.trivial_loss) == ("continuous", {}, None)


def test_a_weighted_loss_has_no_trivial_loss() -> None:
    assert _read(np.array([0, 1, 1, 0]), "binary_crossentropy", weight=np.ones(4)).trivial_loss is None


def test_a_vocabulary_is_not_counted() -> None:
    assert _read(np.array([0, 5000, 1, 2]), "sparse_categorical_crossentropy").class_counts == {}


def test_class_prior_entropy_of_equal_classes() -> None:
    assert class_prior_entropy({0: 7, 1: 7, 4: 7}) == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("batch", "part"),
    [
        ((X, X), None),
        ((X * np.nan, X * np.inf), "input"),
        (({"a": X, "b": X * np.inf}, X), "input"),
        ((X, {"p": X * np.nan}), "target"),
        ((X, None), None),
        (X * np.nan, "input"),
        ((np.full((4, 2), 3e38, "float32"), X), None),  # the sum overflows, no value does
        ((np.array([["text"]]), X), None),
    ],
)
def test_the_bad_part_of_a_batch(batch: Any, part: str | None) -> None:
    assert non_finite_part(batch) == part
