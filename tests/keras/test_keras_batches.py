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
from failguard.keras.batches import BatchReader, non_finite_part, non_finite_rows
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


@pytest.mark.parametrize(("weight", "differ"), [(None, False), (np.full(4, 0.5), False), (np.arange(4.0), True)])
def test_weights_that_differ_are_known(weight: Any, differ: bool) -> None:
    facts = _read(np.array([0, 1, 1, 2]), "sparse_categorical_crossentropy", weight=weight)
    assert facts.target.weigh_differently is differ


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


def test_labels_beyond_the_output_and_bad_rows_are_told() -> None:
    facts = Facts(loss_name="sparse_categorical_crossentropy")
    facts.output.shape = (0, 3)
    loss = LossFacts("sparse_categorical_crossentropy", is_plain=True, takes_class_numbers=True)
    reader = BatchReader(facts, check_data=True, loss=loss)
    hurt = X.copy()
    hurt[3, 0] = np.inf
    found = reader.read((hurt, np.array([0, 3, 1, 2])), 7, 0)
    assert [(f.code, f.where.batch, f.where.rows) for f in found] == [
        ("data.non_finite", 7, (3,)),
        ("data.labels", 7, (1,)),
    ]
    assert non_finite_rows((hurt, None), "input") == (3,)
    assert BatchReader(facts, check_data=False, loss=loss).read((hurt, np.array([0, 3])), 0, 0) == []


def test_images_of_8_bits_are_described_and_token_ids_are_not() -> None:
    facts = Facts()
    reader = BatchReader(facts, check_data=True, loss=LossFacts())
    reader.read(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8), 0, 0)
    assert facts.inputs.dtype == "uint8"
    assert facts.inputs.maximum is not None
    assert facts.inputs.maximum > 200
    facts = Facts()
    BatchReader(facts, check_data=True, loss=LossFacts()).read(np.ones((4, 8), np.int64), 0, 0)
    assert (facts.inputs.dtype, facts.inputs.maximum) == ("int64", None)


def _odd() -> dict[str, Any]:
    import tensorflow as tf

    return {
        "text": (np.array([["a"], ["b"]]), np.array(["x", "y"])),
        "text beside numbers": ({"text": tf.constant(["a", "b"]), "x": tf.ones((2, 3))}, tf.constant([0, 1])),
        "ragged": (tf.ragged.constant([[1.0], [2.0, 3.0]]), tf.constant([0, 1])),
        "sparse": (tf.sparse.from_dense(np.eye(3)), tf.constant([0, 1, 2])),
        "masks": (tf.random.uniform((2, 8, 8, 1)), tf.ones((2, 8, 8), tf.bool)),
        "several outputs": (X, {"a": np.ones(4), "b": np.ones((4, 2))}),
        "no targets": (X,),
        "half": (tf.ones((4, 2), tf.bfloat16) * 0.5, tf.ones((4,), tf.float16)),
        "numbers": (np.float32(1), np.int64(2)),
        "empty": (X[:0], np.zeros(0, "int64")),
        "one class": (np.random.default_rng(0).normal(size=(4, 2)), np.zeros(4, "int64")),
    }


@pytest.mark.parametrize("name", list(_odd()))
def test_odd_batches_do_no_harm(name: str) -> None:
    loss = LossFacts("sparse_categorical_crossentropy", is_plain=True, takes_class_numbers=True)
    reader = BatchReader(Facts(), check_data=True, loss=loss)
    batch = _odd()[name]
    for step in range(20):
        assert reader.read(batch, step, 0) == []
    assert reader.read_validation([(batch[0], batch[1] if len(batch) > 1 else None)]) == []
