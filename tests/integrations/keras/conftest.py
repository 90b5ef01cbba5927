"""Tiny models and data for trainings with Keras on TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from failguard.keras import FailGuard  # noqa: E402

BATCH = 16


@pytest.fixture
def data() -> tuple[Any, Any]:
    """160 rows, 6 features, 3 classes that can be learned: 10 batches."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 6)).astype("float32")
    return x, x[:, :3].argmax(axis=1).astype("int32")


@pytest.fixture
def make_model() -> Callable[..., Any]:
    def make(
        layers: Callable[[], list[Any]] | None = None,
        optimizer: Any = None,
        loss: Any = None,
        cls: Any = keras.Sequential,
        **compiling: Any,
    ) -> Any:
        if not tf.distribute.has_strategy():  # a session must not be cleared within one
            keras.utils.clear_session()  # so that generated names are the same
        keras.utils.set_random_seed(3)  # before the layers, which draw their seeds when they are made
        hidden = [keras.layers.Dense(8, activation="tanh", name="hidden")] if layers is None else layers()
        model = cls([keras.Input((6,)), *hidden, keras.layers.Dense(3, name="out")], name="net")
        model.compile(
            optimizer=optimizer or keras.optimizers.Adam(1e-2),
            loss=loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **compiling,
        )
        return model

    return make


@pytest.fixture
def make_guard() -> Callable[..., FailGuard]:
    """A guard that writes nothing."""

    def make(**keywords: Any) -> FailGuard:
        return FailGuard(**{"sinks": [], "resources": False, **keywords})

    return make


@pytest.fixture
def fit() -> Callable[..., Any]:
    def run(model: Any, data: tuple[Any, Any], guard: Any = None, **keywords: Any) -> Any:
        callbacks = [*keywords.pop("callbacks", []), *([guard] if guard is not None else [])]
        options = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0, **keywords}
        return model.fit(*data, callbacks=callbacks, **options)

    return run


@pytest.fixture
def series() -> Callable[..., list[float]]:
    """The values of one step quantity in a report of a short run."""

    def values(report: Any, name: str) -> list[float]:
        return [
            float("nan") if row["mean"] is None else row["mean"]
            for row in report.history
            if row["name"] == name and row["per"] == "step"
        ]

    return values


@pytest.fixture
def state() -> Callable[[Any], list[Any]]:
    """Weights, statistics, seeds and the optimizer's variables."""

    def values(model: Any) -> list[Any]:
        return [np.array(keras.ops.convert_to_numpy(v)) for v in (*model.variables, *model.optimizer.variables)]

    return values


@pytest.fixture
def all_finite() -> Callable[[Any], bool]:
    def check(model: Any) -> bool:
        variables = (*model.weights, *model.optimizer.variables)
        return all(np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in variables)

    return check
