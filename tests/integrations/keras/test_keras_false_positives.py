"""False positives of a model that Keras fitted are analyzed with their metadata."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from failguard.keras import FalsePositives

pytestmark = pytest.mark.framework


def test_the_validation_set_is_predicted_when_the_fit_ends() -> None:
    r = np.random.default_rng(0)
    x = r.normal(size=(800, 2)).astype("float32")
    y = (x[:, 0] + r.normal(size=800) > 0).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.SGD(0.5), "binary_crossentropy")
    users = {"active": x[:, 0] > 0.3, "noise": r.normal(size=800)}
    callback = FalsePositives(x, y, users)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[callback])
    assert callback.analysis is not None
    assert callback.analysis.rows[0].column == "active"
    assert callback.analysis.rows[0].significant
