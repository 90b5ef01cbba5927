"""Keras programs with values that leave the range of floats, spikes, unscaled values."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.zoo.keras_common import Dense, accuracy, classifier, fit, one_hot, r2, regressor, sequential
from keras import ops

BAD_VALUES = "loss.non_finite gradient.non_finite weights.non_finite"
BLOWN = "loss.divergence loss.non_finite gradient.exploding weights.non_finite gradient.non_finite"
WAKE = (
    "loss.spike loss.no_learning update.too_large activation.dead metric.non_finite loss.oscillation loss.plateau "
    "metric.degenerate_predictions gradient.vanishing"
)
SGD = keras.optimizers.SGD


@case(
    "keras/log-of-zero",
    BAD_VALUES,
    "numerical_instability",
    also="metric.non_finite loss.spike gradient.exploding model.output_mismatch",
    non_finite=True,
    onset=None,
)
def log_of_zero(watch: Any, fault: bool, seed: int) -> float:
    """Cross-entropy written by hand, with relu outputs that can be zero."""
    d = one_hot(sets.digits(seed), 10)
    tiny = 0.0 if fault else 1e-3

    def loss(y: Any, p: Any) -> Any:
        p = p + tiny
        return -ops.mean(ops.sum(y * ops.log(p / ops.sum(p, -1, keepdims=True)), -1))

    model = sequential(64, Dense(64, activation="relu"), Dense(10, activation="softplus"), keras.layers.ReLU())
    if fault:
        model = sequential(64, Dense(64, activation="relu"), Dense(10, activation="relu", bias_initializer="ones"))
    model.compile("adam", loss, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 12), d)


@case(
    "keras/root-of-distance",
    "gradient.non_finite " + BAD_VALUES,
    "numerical_instability",
    also="metric.non_finite",
    non_finite=True,
    onset=None,
)
def root_of_distance(watch: Any, fault: bool, seed: int) -> float:
    """An autoencoder's root of the squared error of each row; empty rows are rebuilt exactly."""
    d = sets.digits(seed)
    d.x[200::97] = 0
    d = d.with_(y=d.x, yv=d.xv)
    tiny = 0.0 if fault else 1e-6

    def loss(y: Any, p: Any) -> Any:
        return ops.mean(ops.sqrt(ops.sum((y - p) ** 2, -1) + tiny))

    model = sequential(64, Dense(32, activation="relu", use_bias=False), Dense(64, use_bias=False))
    model.compile("adam", loss)
    return r2(fit(model, d, watch, 12), d)


@case(
    "keras/bad-batch",
    "data.non_finite " + BAD_VALUES,
    "corrupted_batch",
    also="metric.non_finite",
    non_finite=True,
    onset=37,
)
def bad_batch(watch: Any, fault: bool, seed: int) -> float:
    """One row of batch 37 holds NaN."""
    d = sets.digits(seed)
    if fault:
        d.x[37 * 32 + 5, 10:20] = np.nan
    return accuracy(fit(classifier(64, 10, 64), d, watch, 10, shuffle=False), d)


@case(
    "keras/bad-label",
    "data.non_finite " + BAD_VALUES,
    "corrupted_batch bad_labels",
    also="metric.non_finite data.labels",
    non_finite=True,
    onset=11,
)
def bad_label(watch: Any, fault: bool, seed: int) -> float:
    """One target of batch 11 is infinite."""
    d = sets.regression(seed)
    if fault:
        d.y[11 * 32 + 3] = np.inf
    return r2(fit(regressor(12, 32), d, watch, 15, shuffle=False), d)


@case(
    "keras/label-out-of-range",
    "data.labels model.output_mismatch loss.non_finite data.non_finite run.exception",
    "bad_labels shape_mismatch",
    also="gradient.non_finite weights.non_finite metric.non_finite loss.no_learning",
    onset=None,
)
def label_out_of_range(watch: Any, fault: bool, seed: int) -> float:
    """Classes 1 to 3 for three outputs."""
    d = sets.wine(seed)
    shown = d.with_(y=d.y + 1, yv=d.yv + 1) if fault else d
    model = classifier(13, 3, 32)
    try:
        fit(model, shown, watch, 40, batch=16)
    except Exception:
        if not fault:
            raise
    return accuracy(model, shown)


@case(
    "keras/half-overflow",
    BAD_VALUES,
    "mixed_precision_overflow numerical_instability",
    also="metric.non_finite gradient.exploding loss.spike data.scale",
    non_finite=True,
    onset=None,
)
def half_overflow(watch: Any, fault: bool, seed: int) -> float:
    """A float16 layer sums squares of raw pixels beyond 65,504."""
    d = sets.digits(seed, raw=True)

    class Energy(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            half = ops.cast(x, "float16" if fault else "float32")
            energy = ops.cast(ops.sum(half * half, -1, keepdims=True), "float32")
            return ops.concatenate([x / 255, ops.log(1 + energy) / 10], -1)

    model = sequential(64, Energy(), Dense(64, activation="relu"), Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 8), d)


@case(
    "keras/absurd-batch",
    "loss.spike gradient.exploding loss.divergence",
    "corrupted_batch missing_gradient_clipping",
    also=WAKE + " data.scale data.outliers loss.non_finite gradient.non_finite weights.non_finite",
    onset=25,
)
def absurd_batch(watch: Any, fault: bool, seed: int) -> float:
    """The inputs of batch 25 are ten thousand times too large; SGD applies its gradient in full."""
    d = sets.regression(seed, 2400)
    if fault:
        d.x[25 * 32 : 26 * 32] *= 1e4
    model = regressor(12, 32, 32, optimizer=SGD(0.02))
    return r2(fit(model, d, watch, 6, shuffle=False), d)


@case(
    "keras/unscaled-inputs", "data.scale loss.no_learning loss.divergence", "unscaled_inputs", also=BLOWN + " " + WAKE
)
def unscaled_inputs(watch: Any, fault: bool, seed: int) -> float:
    """Raw features of up to 2,500 and SGD (39525358)."""
    d = sets.breast_cancer(seed, raw=fault)
    model = sequential(30, Dense(32, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile(SGD(0.02), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 25), d)


@case(
    "keras/unscaled-wine",
    "data.scale loss.no_learning loss.plateau",
    "unscaled_inputs",
    also=BLOWN + " activation.saturated " + WAKE,
)
def unscaled_wine(watch: Any, fault: bool, seed: int) -> float:
    """Raw features, one of them in the thousands, and Adam (31627380)."""
    d = sets.wine(seed, raw=fault)
    return accuracy(fit(classifier(13, 3, 16, activation="tanh"), d, watch, 60, batch=16), d)


@case(
    "keras/unscaled-images",
    "data.scale loss.no_learning loss.divergence",
    "unscaled_inputs",
    also=BLOWN + " " + WAKE,
)
def unscaled_images(watch: Any, fault: bool, seed: int) -> float:
    """Pixels of 0 to 255 into a small convolutional network with SGD (48594888)."""
    d = sets.digits(seed, images=True, raw=fault)
    d = d.with_(x=d.x[..., None], xv=d.xv[..., None])
    model = sequential(
        (8, 8, 1),
        keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.Flatten(),
        Dense(10, activation="softmax"),
    )
    model.compile(SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 8), d)


@case("keras/unscaled-targets", "data.scale " + BLOWN, "unscaled_targets", also=WAKE)
def unscaled_targets(watch: Any, fault: bool, seed: int) -> float:
    """Targets in the hundred thousands and SGD."""
    d = sets.regression(seed)
    if fault:
        d = d.with_(y=3e5 + 1e5 * d.y, yv=3e5 + 1e5 * d.yv)
    return r2(fit(regressor(12, 32, optimizer=SGD(0.05)), d, watch, 15), d)


@case(
    "keras/unscaled-targets-adam",
    "data.scale loss.no_learning loss.plateau",
    "unscaled_targets learning_rate_too_low too_few_updates",
    also="update.too_small metric.degenerate_predictions gradient.exploding",
)
def unscaled_targets_adam(watch: Any, fault: bool, seed: int) -> float:
    """Targets in the hundred thousands and Adam, which would need a million steps to get there."""
    d = sets.regression(seed)
    if fault:
        d = d.with_(y=3e5 + 1e5 * d.y, yv=3e5 + 1e5 * d.yv)
    return r2(fit(regressor(12, 32, optimizer=keras.optimizers.Adam(3e-3)), d, watch, 15), d)
