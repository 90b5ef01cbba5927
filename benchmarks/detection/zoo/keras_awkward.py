"""Keras programs that are healthy and look like a fault, written while rules were worked on.

See :mod:`benchmarks.detection.zoo.lightning_awkward`. All belong to the calibration half.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from benchmarks.detection import data as sets
from benchmarks.detection.program import healthy as register
from benchmarks.detection.skill import entropy_skill, fraction_skill
from benchmarks.detection.zoo.keras_common import Dense, accuracy, classifier, fit, r2, regressor, sequential

healthy = partial(register, worked_on=True)
SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
CROSS_ENTROPY = "sparse_categorical_crossentropy"


@healthy("keras/weak-regression")
def weak_regression(watch: Any, seed: int) -> float:
    """A linear signal that explains 3 % of the variance."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4000, 10)).astype("float32")
    w = rng.normal(size=10)
    y = (np.sqrt(0.03) * (x @ (w / np.linalg.norm(w))) + np.sqrt(0.97) * rng.normal(size=4000)).astype("float32")
    d = sets.Split(x[:2000], y[:2000], x[2000:], y[2000:])
    return fraction_skill(1 - r2(fit(regressor(10, optimizer=Adam(3e-3)), d, watch, 10), d), 1.0, 0.97)


@healthy("keras/denoising")
def denoising(watch: Any, seed: int) -> float:
    """An autoencoder with a sigmoid and a binary cross-entropy of grey values: the loss ends far above zero."""
    d = sets.digits(seed)
    d = d.with_(y=d.x, yv=d.xv)
    noisy = [np.clip(x + 0.2 * np.random.default_rng(seed).normal(size=x.shape), 0, 1) for x in (d.x, d.xv)]
    d = d.with_(x=noisy[0].astype("float32"), xv=noisy[1].astype("float32"))
    model = sequential(64, Dense(48, activation="relu"), Dense(64, activation="sigmoid"))
    model.compile(Adam(3e-3), "binary_crossentropy")
    return r2(fit(model, d, watch, 12), d)


@healthy("keras/three-hundred-classes")
def three_hundred_classes(watch: Any, seed: int) -> float:
    """A wide softmax with a few samples of each class: the loss starts at ln 300 and falls slowly."""
    d = sets.blobs(seed, 6000, features=32, classes=300, spread=0.5)
    return accuracy(fit(classifier(32, 300, 64, optimizer=Adam(5e-3)), d, watch, 8, batch=64), d)


@healthy("keras/grades-by-squares")
def grades(watch: Any, seed: int) -> float:
    """Grades of 1 to 5, mostly middling, as numbers with a squared error."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2000, 16)).astype("float32")
    hidden = x @ rng.normal(size=16) / 4 + 0.4 * rng.normal(size=2000)
    y = 1 + np.searchsorted(np.quantile(hidden, [0.1, 0.3, 0.7, 0.9]), hidden)
    d = sets.Split(x[:1400], y[:1400], x[1400:], y[1400:])
    return r2(fit(regressor(16, 32, optimizer=Adam(5e-3)), d, watch, 15), d)


@healthy("keras/gates")
def gates(watch: Any, seed: int) -> float:
    """A sigmoid gates the features within a functional model whose output is a sigmoid too."""
    d = sets.breast_cancer(seed)
    x = keras.Input((30,))
    gate = Dense(30, activation="sigmoid")(x)
    out = Dense(1, activation="sigmoid")(keras.layers.Multiply()([x, gate]))
    model = keras.Model(x, out)
    model.compile(Adam(5e-3), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


@healthy("keras/hidden-sigmoids")
def hidden_sigmoids(watch: Any, seed: int) -> float:
    """Sigmoids in the hidden layer and at the output, with weights between them."""
    d = sets.breast_cancer(seed)
    model = sequential(30, Dense(16, activation="sigmoid"), Dense(1, activation="sigmoid"))
    model.compile(Adam(1e-2), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


@healthy("keras/half-of-the-weights-zero")
def half_weights(watch: Any, seed: int) -> float:
    """sample_weight is zero for every second row, on purpose."""
    d = sets.digits(seed)
    kept = (np.arange(len(d.x)) % 2).astype("float32")
    model = classifier(64, 10, 64, optimizer=Adam(3e-3))
    model.fit(
        d.x, d.y, sample_weight=kept, validation_data=(d.xv, d.yv), epochs=8, verbose=0, callbacks=watch.callbacks
    )
    return accuracy(model, d)


@healthy("keras/rare-labels")
def rare_labels(watch: Any, seed: int) -> float:
    """Ten labels a row of which each is on in one row of fifteen: the loss is small from the start."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2400, 20)).astype("float32")
    score = x @ rng.normal(size=(20, 10)) / np.sqrt(20)
    y = (score > np.quantile(score, 14 / 15)).astype("float32")
    d = sets.Split(x[:1800], y[:1800], x[1800:], y[1800:])
    model = sequential(20, Dense(48, activation="relu"), Dense(10, activation="sigmoid"))
    model.compile(Adam(3e-3), "binary_crossentropy")
    p = fit(model, d, watch, 8).predict(d.xv, verbose=0)
    return entropy_skill(p.reshape(-1), d.yv.reshape(-1))


@healthy("keras/small-batches-normalised")
def small_batches(watch: Any, seed: int) -> float:
    """Batch normalization of batches of four."""
    d = sets.breast_cancer(seed)
    model = sequential(
        30, Dense(16), keras.layers.BatchNormalization(), keras.layers.ReLU(), Dense(1, activation="sigmoid")
    )
    model.compile(SGD(0.02), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 5, batch=4), d)


@healthy("keras/softmax-of-a-linear-model")
def linear_model(watch: Any, seed: int) -> float:
    """Two Dense layers without an activation on a task that is linear, with overlap: as good as it gets."""
    d = sets.blobs(seed, 1600, classes=4, spread=2.5)
    model = sequential(20, Dense(32), Dense(4, activation="softmax"))
    model.compile(Adam(3e-3), CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 8), d)


@healthy("keras/weights-of-classes-in-training-only")
def class_weights(watch: Any, seed: int) -> float:
    """One sample in twenty is positive, class_weight and the initial bias say so, validation has no weights.

    The validation loss rises all the way as the model turns to the rare class, while the AUC rises (TensorFlow's
    tutorial on imbalanced data does the same).
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4000, 20)).astype("float32")
    score = x[:, :6] @ rng.normal(size=6) / np.sqrt(6) + 0.5 * rng.normal(size=4000)
    y = (score > np.quantile(score, 0.95)).astype("float32")
    bias = keras.initializers.Constant(-3.0)
    model = sequential(
        20,
        Dense(32, activation="relu"),
        keras.layers.Dropout(0.5),
        Dense(1, activation="sigmoid", bias_initializer=bias),
    )
    model.compile(Adam(1e-3), "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    history = model.fit(
        x[:2800],
        y[:2800],
        batch_size=128,
        epochs=15,
        class_weight={0: 0.53, 1: 10.0},
        validation_data=(x[2800:], y[2800:]),
        verbose=0,
        callbacks=watch.callbacks,
    )
    return 2.0 * float(history.history["val_auc"][-1]) - 1.0
