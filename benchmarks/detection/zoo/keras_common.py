"""What many Keras programs share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from benchmarks.detection.data import Split
from benchmarks.detection.skill import accuracy_skill, entropy_skill, r2_skill

__all__ = ["accuracy", "classifier", "entropy", "fit", "one_hot", "r2", "regressor", "sequential"]

Dense = keras.layers.Dense


def sequential(inputs: int | tuple[int, ...], *layers: Any) -> keras.Model:
    """A sequential model with its input shape."""
    shape = (inputs,) if isinstance(inputs, int) else inputs
    return keras.Sequential([keras.Input(shape), *layers])


def classifier(
    inputs: int,
    classes: int,
    *hidden: int,
    activation: str = "relu",
    optimizer: Any = "adam",
    **dense: Any,
) -> keras.Model:
    """Dense layers and a softmax, compiled for integer labels."""
    model = sequential(
        inputs, *[Dense(n, activation=activation, **dense) for n in hidden], Dense(classes, activation="softmax")
    )
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def regressor(
    inputs: int, *hidden: int, activation: str = "relu", optimizer: Any = "adam", loss: Any = "mse"
) -> keras.Model:
    """Dense layers and one linear output, compiled."""
    model = sequential(inputs, *[Dense(n, activation=activation) for n in hidden], Dense(1))
    model.compile(optimizer=optimizer, loss=loss)
    return model


def fit(model: keras.Model, data: Split, watch: Any, epochs: int, *, batch: int = 32, **keywords: Any) -> keras.Model:
    """Train with validation."""
    callbacks = [*watch.callbacks, *keywords.pop("callbacks", ())]
    model.fit(
        data.x,
        data.y,
        validation_data=(data.xv, data.yv),
        epochs=epochs,
        batch_size=batch,
        verbose=0,
        callbacks=callbacks,
        **keywords,
    )
    return model


def one_hot(data: Split, classes: int) -> Split:
    """Integer labels as rows with a one."""
    eye = np.eye(classes, dtype="float32")
    return data.with_(y=eye[data.y], yv=eye[data.yv])


def accuracy(model: keras.Model, data: Split) -> float:
    """Skill of a classifier on the validation rows; one output is a probability."""
    out = model.predict(data.xv, verbose=0)
    truth = data.yv.argmax(1) if data.yv.ndim == 2 else data.yv
    if out.shape[1] == 1:
        out = np.where(np.isfinite(out), out > 0.5, np.nan)
    return accuracy_skill(out, truth)


def entropy(model: keras.Model, data: Split) -> float:
    """Skill of a classifier's probabilities on the validation rows."""
    out = model.predict(data.xv, verbose=0)
    return entropy_skill(out, data.yv) if np.isfinite(out).all() else -1.0


def r2(model: keras.Model, data: Split) -> float:
    """Skill of a regression on the validation rows."""
    return r2_skill(model.predict(data.xv, verbose=0).reshape(data.yv.shape), data.yv)
