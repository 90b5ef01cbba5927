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


def fit(x: Any, check_data: Any = None) -> tuple[list[Any], Any]:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    guards = [] if check_data is None else [FailGuard(check_data=check_data, sinks=[])]
    model.fit(x, Y, batch_size=32, epochs=1, verbose=0, callbacks=guards)
    return model.get_weights(), guards[0].report if guards else None


def test_with_checks_training_is_the_same_to_the_bit() -> None:
    bare, _ = fit(X)
    watched, report = fit(X, DataChecks())
    assert all(np.array_equal(a, b) for a, b in zip(bare, watched, strict=True))
    assert report.part_errors == []
    assert not [f for f in report.findings if f.code.startswith("data.")]


def test_constant_inputs_are_named_and_raise_where_asked() -> None:
    _, report = fit(np.zeros_like(X), DataChecks())
    assert "data.constant_feature" in {f.code for f in report.findings}
    with pytest.raises(TrainingFailure):
        fit(np.zeros_like(X), DataChecks(raises=["data.constant_feature"]))
