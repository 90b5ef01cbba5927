"""Keras programs whose output, loss and targets do not fit together."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.skill import accuracy_skill, entropy_skill
from benchmarks.detection.zoo.keras_common import Dense, accuracy, classifier, entropy, fit, one_hot, r2, sequential
from keras import ops

OUTPUT = "model.output_mismatch loss.no_learning"
STUCK = "loss.plateau metric.degenerate_predictions gradient.vanishing gradient.missing update.too_small"


@case(
    "keras/softmax-one-unit",
    "model.output_mismatch metric.degenerate_predictions loss.no_learning",
    "output_activation_mismatch",
    also="gradient.vanishing gradient.missing update.too_small weights.frozen",
)
def softmax_one_unit(watch: Any, fault: bool, seed: int) -> float:
    """Softmax over one unit is always 1 (StackOverflow 45442843, 42800203)."""
    d = sets.breast_cancer(seed)
    model = sequential(30, Dense(32, activation="relu"), Dense(1, activation="softmax" if fault else "sigmoid"))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 25), d)


@case(
    "keras/softmax-for-regression",
    "model.output_mismatch loss.no_learning",
    "output_activation_mismatch",
    also=STUCK + " data.scale weights.frozen",
)
def softmax_for_regression(watch: Any, fault: bool, seed: int) -> float:
    """Softmax over one unit as the output of a regression (33969059)."""
    d = sets.diabetes(seed)
    model = sequential(10, Dense(32, activation="relu"), Dense(1, activation="softmax" if fault else None))
    model.compile("adam", "mse")
    return r2(fit(model, d, watch, 25), d)


@case(
    "keras/relu-negative-targets",
    OUTPUT,
    "output_activation_mismatch dead_units",
    also=STUCK + " activation.dead data.scale",
)
def relu_negative_targets(watch: Any, fault: bool, seed: int) -> float:
    """Relu output, targets below zero (48251943)."""
    d = sets.regression(seed)
    d = d.with_(y=d.y - 2.5, yv=d.yv - 2.5)
    model = sequential(12, Dense(32, activation="relu"), Dense(1, activation="relu" if fault else None))
    model.compile("adam", "mse")
    return r2(fit(model, d, watch, 20), d)


@case(
    "keras/relu-autoencoder",
    OUTPUT + " loss.plateau",
    "output_activation_mismatch",
    also=STUCK + " activation.dead",
)
def relu_autoencoder(watch: Any, fault: bool, seed: int) -> float:
    """An autoencoder of standardised rows with a relu output (42514960)."""
    d = sets.breast_cancer(seed)
    d = d.with_(y=d.x, yv=d.xv)
    model = sequential(
        30,
        Dense(24, activation="relu"),
        Dense(12, activation="linear"),
        Dense(24, activation="relu"),
        Dense(30, activation="relu" if fault else None),
    )
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    return r2(fit(model, d, watch, 30), d)


@case(
    "keras/linear-into-probability-loss",
    OUTPUT,
    "output_activation_mismatch loss_function_mismatch",
    also=STUCK + " loss.oscillation loss.spike gradient.exploding loss.divergence",
)
def linear_into_probability_loss(watch: Any, fault: bool, seed: int) -> float:
    """Logits where binary_crossentropy expects probabilities."""
    d = sets.breast_cancer(seed)
    model = sequential(30, Dense(32, activation="relu"), Dense(1, activation=None if fault else "sigmoid"))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return entropy(fit(model, d, watch, 25), d)


@case(
    "keras/logits-into-categorical-loss",
    OUTPUT,
    "output_activation_mismatch loss_function_mismatch",
    also=STUCK + " loss.oscillation loss.spike gradient.exploding loss.divergence activation.dead",
)
def logits_into_categorical_loss(watch: Any, fault: bool, seed: int) -> float:
    """No softmax before sparse_categorical_crossentropy without from_logits."""
    d = sets.digits(seed)
    model = sequential(64, Dense(64, activation="relu"), Dense(10, activation=None if fault else "softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 12), d)


@case(
    "keras/softmax-into-logits-loss",
    "model.output_mismatch loss.plateau loss.no_learning",
    "output_activation_mismatch loss_function_mismatch",
    also="update.too_small gradient.vanishing",
)
def softmax_into_logits_loss(watch: Any, fault: bool, seed: int) -> float:
    """Softmax in the model and from_logits=True in the loss."""
    d = sets.digits(seed)
    last = Dense(10) if not fault else Dense(10, activation="softmax")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = sequential(64, Dense(64, activation="relu"), Dense(64, activation="relu"), last, *_softened(fault))
    model.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


def _softened(fault: bool) -> list[Any]:
    """Keras itself sees a softmax right before the loss; most users who err have something in between."""
    return [keras.layers.Reshape((10,))] if fault else []


@case(
    "keras/sigmoid-for-classes",
    "model.output_mismatch metric.degenerate_predictions loss.no_learning",
    "output_activation_mismatch loss_function_mismatch",
    also="loss.plateau data.labels loss.divergence",
)
def sigmoid_for_classes(watch: Any, fault: bool, seed: int) -> float:
    """One sigmoid for three classes named 0, 1 and 2 (UMLAUT, NeuraLint)."""
    d = sets.wine(seed)
    if not fault:
        return accuracy(fit(classifier(13, 3, 32), d, watch, 40, batch=16), d)
    model = sequential(13, Dense(32, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 40, batch=16), d)


@case(
    "keras/labels-minus-one-and-one",
    "data.labels model.output_mismatch",
    "bad_labels loss_function_mismatch",
    also="loss.divergence loss.no_learning metric.degenerate_predictions activation.saturated",
)
def labels_minus_one_and_one(watch: Any, fault: bool, seed: int) -> float:
    """Classes named -1 and 1 with a sigmoid and binary_crossentropy."""
    d = sets.breast_cancer(seed)
    shown = d.with_(y=2 * d.y - 1, yv=2 * d.yv - 1) if fault else d
    model = sequential(30, Dense(32, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile("adam", "binary_crossentropy")
    fit(model, shown, watch, 25)
    return entropy(model, d)


@case(
    "keras/labels-one-and-two",
    "data.labels model.output_mismatch",
    "bad_labels loss_function_mismatch",
    also="loss.divergence metric.degenerate_predictions loss.no_learning",
)
def labels_one_and_two(watch: Any, fault: bool, seed: int) -> float:
    """A recurrent tagger whose classes are named 1 and 2 (59282996)."""
    d = sets.sequences(seed, 600, length=12)
    shown = d.with_(y=d.y + 1, yv=d.yv + 1) if fault else d
    model = sequential((12, 4), keras.layers.LSTM(16), Dense(1, activation="sigmoid"))
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, shown, watch, 12), d)


@case(
    "keras/many-sigmoids-one-softmax-loss",
    "model.output_mismatch loss.no_learning loss.divergence",
    "loss_function_mismatch output_activation_mismatch",
    also="metric.degenerate_predictions loss.plateau",
)
def many_sigmoids(watch: Any, fault: bool, seed: int) -> float:
    """Twenty labels a row, sigmoid outputs, categorical_crossentropy (58609115)."""
    d = sets.regression(seed, features=16)
    w = np.random.default_rng(seed).normal(size=(16, 20))
    d = d.with_(y=(d.x @ w > 0).astype("float32"), yv=(d.xv @ w > 0).astype("float32"))
    model = sequential(16, Dense(64, activation="relu"), Dense(20, activation="sigmoid"))
    model.compile(keras.optimizers.Adam(3e-3), "categorical_crossentropy" if fault else "binary_crossentropy")
    fit(model, d, watch, 15)
    out = model.predict(d.xv, verbose=0)
    return accuracy_skill((out > 0.5).reshape(-1), d.yv.reshape(-1)) if np.isfinite(out).all() else -1.0


@case(
    "keras/percentage-error-of-one-hot",
    "model.output_mismatch loss.no_learning loss.plateau",
    "loss_function_mismatch",
    also="metric.degenerate_predictions gradient.exploding data.scale gradient.vanishing",
)
def percentage_error_of_one_hot(watch: Any, fault: bool, seed: int) -> float:
    """mean_absolute_percentage_error divides by the zeros of one-hot rows (DeepCrime: loss)."""
    d = one_hot(sets.digits(seed), 10)
    model = sequential(64, Dense(64, activation="relu"), Dense(10, activation="softmax"))
    model.compile(keras.optimizers.SGD(0.05), "mean_absolute_percentage_error" if fault else "categorical_crossentropy")
    return accuracy(fit(model, d, watch, 12), d)


@case(
    "keras/softmax-wrong-axis",
    OUTPUT + " loss.plateau",
    "output_activation_mismatch",
    also=STUCK,
)
def softmax_wrong_axis(watch: Any, fault: bool, seed: int) -> float:
    """Softmax over the batch (TheDeepChecker)."""
    d = sets.digits(seed)
    model = sequential(64, Dense(64, activation="relu"), Dense(10), keras.layers.Softmax(axis=0 if fault else -1))
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    fit(model, d, watch, 15)
    return entropy_skill(model.predict(d.xv, verbose=0), d.yv)


@case(
    "keras/tanh-raw-targets",
    OUTPUT + " data.scale activation.saturated",
    "output_activation_mismatch unscaled_targets saturating_activations",
    also=STUCK,
)
def tanh_raw_targets(watch: Any, fault: bool, seed: int) -> float:
    """Tanh output for targets of 25 to 346."""
    d = sets.diabetes(seed)
    if fault:
        d = d.with_(y=150 + 75 * d.y, yv=150 + 75 * d.yv)
    model = sequential(10, Dense(32, activation="relu"), Dense(1, activation="tanh" if fault else None))
    model.compile("adam", "mse")
    return r2(fit(model, d, watch, 25), d)


@case(
    "keras/negated-loss",
    "loss.divergence model.output_mismatch",
    "loss_function_mismatch",
    also="loss.no_learning loss.non_finite gradient.exploding update.too_large metric.degenerate_predictions"
    " weights.non_finite gradient.non_finite",
)
def negated_loss(watch: Any, fault: bool, seed: int) -> float:
    """A similarity is returned as the loss without its minus sign."""
    d = sets.regression(seed)
    sign = -1.0 if fault else 1.0

    def loss(y: Any, p: Any) -> Any:
        return sign * ops.mean((y - p) ** 2)

    model = sequential(12, Dense(32, activation="relu"), Dense(1))
    model.compile(keras.optimizers.Adam(3e-3), loss)
    return r2(fit(model, d, watch, 15), d)


@case(
    "keras/column-against-row",
    OUTPUT + " metric.degenerate_predictions",
    "shape_mismatch loss_function_mismatch",
    also="loss.plateau",
)
def column_against_row(watch: Any, fault: bool, seed: int) -> float:
    """A loss of one's own that drops the predictions' last axis, while Keras has given the targets one."""
    d = sets.regression(seed)

    def loss(y: Any, p: Any) -> Any:
        return ops.mean((y - (p[:, 0] if fault else p)) ** 2)

    model = sequential(12, Dense(32, activation="relu"), Dense(1))
    model.compile(keras.optimizers.Adam(3e-3), loss)
    return r2(fit(model, d, watch, 15), d)
