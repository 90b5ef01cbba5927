"""Batches are checked as they pass through a Keras fit, which stays the same to the bit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from failguard import DataChecks, TrainingFailure
from failguard.keras import FailGuard

pytestmark = pytest.mark.framework

R = np.random.default_rng(0)
X = R.normal(size=(640, 6)).astype("float32")
Y = X[:, :3].argmax(1)


NEW = R.normal(size=(100, 6)).astype("float32")


def fit(
    x: Any, check_data: Any = None, *, y: Any = Y, validation: Any = None, epochs: int = 1
) -> tuple[list[Any], Any]:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    guards = [] if check_data is None else [FailGuard(check_data=check_data, sinks=[])]
    model.fit(
        x,
        y,
        batch_size=32,
        epochs=epochs,
        verbose=0,
        callbacks=guards,
        validation_data=validation,
        shuffle=x is not BAD,
    )
    return model.get_weights(), guards[0].report if guards else None


BAD = X.copy()
BAD[[70, 90], 2] = np.nan


def found(report: Any) -> list[Any]:
    assert report.part_errors == []
    return [f for f in report.findings if f.code.startswith("data.")]


@pytest.mark.parametrize("leaked", [0, 40])
def test_with_checks_training_is_the_same_to_the_bit(leaked: int) -> None:
    validation = (np.r_[X[:leaked], NEW], R.integers(0, 3, 100 + leaked))
    bare, _ = fit(X, validation=validation, epochs=2)
    watched, report = fit(X, DataChecks(), validation=validation, epochs=2)
    assert all(np.array_equal(a, b) for a, b in zip(bare, watched, strict=True))
    assert [f.code for f in found(report)] == (["data.leakage"] if leaked else [])
    if leaked:
        assert found(report)[0].evidence["share"] == pytest.approx(40 / 140, abs=0.12)  # from a sample


def test_validation_on_a_dataset_is_left_alone() -> None:
    import tensorflow as tf

    drawn = []
    data = tf.data.Dataset.from_tensor_slices((X[:64], Y[:64])).batch(32)
    data = data.map(lambda x, y: (tf.py_function(lambda v: drawn.append(1) or v, [x], tf.float32), y))
    data = data.map(lambda x, y: (tf.ensure_shape(x, (None, 6)), y))
    _, report = fit(X, DataChecks(), validation=data)
    assert found(report) == []
    assert len(drawn) == 2


def test_constant_inputs_are_named_and_raise_where_asked() -> None:
    _, report = fit(np.zeros_like(X), DataChecks())
    assert "data.constant_feature" in {f.code for f in report.findings}
    with pytest.raises(TrainingFailure):
        fit(np.zeros_like(X), DataChecks(raises=["data.constant_feature"]))


def test_a_batch_of_bad_values_is_named_with_its_rows() -> None:
    _, report = fit(BAD, DataChecks())
    first = next(f for f in report.findings if f.code in ("loss.non_finite", "gradient.non_finite"))
    assert (first.where.tensor, first.where.batch, first.where.rows) == ("input", 2, (6, 26))
    assert report.root.code == "data.non_finite"
    assert "batch 2: 2 values of NaN or Inf in the input (rows 6, 26)" in report.diagnosis.causes[0].evidence[0]


def test_labels_that_the_loss_would_cut_are_named() -> None:
    (finding,) = found(fit(X, DataChecks(), y=Y + 0.5)[1])
    assert (finding.code, finding.where.tensor, finding.where.batch) == ("data.labels", "target", 0)
    assert "sparse_categorical_crossentropy cuts off" in finding.message
    assert found(fit(X, DataChecks(), y=Y.astype("float32"))[1]) == []


def _compiled(**how: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(3, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", **how)
    return model


def test_under_xla_labels_beyond_the_outputs_are_the_root() -> None:
    guard = FailGuard(sinks=[])
    _compiled(jit_compile=True).fit(X, Y + 1, epochs=2, batch_size=32, verbose=0, callbacks=[guard])
    assert guard.report.part_errors == []
    assert guard.report.root is not None
    assert guard.report.root.code == "data.labels"
    assert guard.report.diagnosis.causes[0].code == "bad_labels"


def test_a_bad_value_among_the_first_batches_is_the_root() -> None:
    guard = FailGuard(sinks=[])
    x = X.copy()
    x[40, 2] = np.nan
    _compiled().fit(x, Y, epochs=2, batch_size=32, verbose=0, shuffle=False, callbacks=[guard])
    assert guard.report.status == "stopped"
    assert guard.report.root is not None
    assert (guard.report.root.code, guard.report.root.step) == ("data.non_finite", 1)


def test_classes_that_training_lacks() -> None:
    keep = (Y == 0) | (np.arange(len(Y)) % 40 == 0)
    x, y = np.tile(X[keep], (2, 1)), np.tile(Y[keep], 2)
    validation = (NEW, NEW[:, :3].argmax(1))
    _, report = fit(x, DataChecks(), y=y, validation=validation, epochs=2)
    assert report.root is not None
    assert (report.root.code, report.root.severity) == ("data.imbalance", "warning")
    assert report.diagnosis.likely_cause == "class_imbalance"
    _, report = fit(x, DataChecks(), y=y, validation=(x[:200], y[:200]), epochs=2)
    assert [f.code for f in report.findings if f.severity != "info" and f.code == "data.imbalance"] == []


@pytest.mark.parametrize("rows", [640, 600])  # without and with a short last batch
def test_batches_read_under_xla_leave_training_the_same_and_compile_nothing_anew(rows: int) -> None:
    weights, traced = [], []
    for guards in ([], [FailGuard(sinks=[])]):
        model = _compiled(jit_compile=True)
        counts = [0]
        original = model.train_step

        def train_step(data: Any, counts: list[int] = counts, original: Any = original) -> Any:
            counts[0] += 1
            return original(data)

        model.__dict__["train_step"] = train_step
        model.fit(X[:rows], Y[:rows], batch_size=32, epochs=3, verbose=0, callbacks=guards)
        weights.append(model.get_weights())
        traced.append(counts[0])
    assert guards[0].report.part_errors == []
    assert guards[0].report.findings == []
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    assert traced[0] == traced[1]
