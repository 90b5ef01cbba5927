"""Keras programs with further faults of the published taxonomies, written while rules were worked on.

See :mod:`benchmarks.detection.zoo.lightning_taxonomies`. All belong to the calibration half.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.skill import accuracy_skill, entropy_skill
from benchmarks.detection.zoo.keras_common import Dense, accuracy, classifier, entropy, fit, r2, regressor, sequential
from keras import ops

fault_case = partial(case, worked_on=True)
SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
CROSS_ENTROPY = "sparse_categorical_crossentropy"
STUCK = "loss.no_learning loss.plateau metric.degenerate_predictions"
STILL = "weights.frozen update.too_small gradient.vanishing gradient.missing"


@fault_case(
    "keras/sigmoid-then-softmax",
    "model.output_mismatch",
    "output_activation_mismatch loss_function_mismatch",
    also=STUCK + " gradient.vanishing update.too_small",
)
def sigmoid_then_softmax(watch: Any, fault: bool, seed: int) -> float:
    """The last Dense has a sigmoid and a Softmax layer follows (NeuraLint, UMLAUT)."""
    d = sets.digits(seed)
    model = sequential(
        64,
        Dense(64, activation="relu"),
        Dense(10, activation="sigmoid" if fault else None),
        keras.layers.Softmax(),
    )
    model.compile("adam", CROSS_ENTROPY)
    return entropy(fit(model, d, watch, 12), d)


@fault_case(
    "keras/squared-error-of-class-numbers",
    "model.output_mismatch",
    "loss_function_mismatch",
    also=STUCK + " data.scale loss.oscillation",
)
def squared_error_of_class_numbers(watch: Any, fault: bool, seed: int) -> float:
    """One linear output, mse and labels of 0 to 7 (DeepFD, NeuraLint, AUTOTRAINER)."""
    d = sets.blobs(seed, 1600, classes=8, spread=1.2)
    if not fault:
        return accuracy(fit(classifier(20, 8, 48, optimizer=Adam(3e-3)), d, watch, 12), d)
    model = regressor(20, 48, optimizer=Adam(3e-3))
    fit(model, d, watch, 12)
    return accuracy_skill(np.clip(np.round(model.predict(d.xv, verbose=0)[:, 0]), 0, 7), d.yv)


@fault_case(
    "keras/sigmoid-for-standardised-targets",
    "model.output_mismatch",
    "output_activation_mismatch",
    also=STUCK + " activation.saturated",
)
def sigmoid_for_standardised_targets(watch: Any, fault: bool, seed: int) -> float:
    """A sigmoid as the output for targets of mean 0 and deviation 1 (AUTOTRAINER, DeepLocalize)."""
    d = sets.regression(seed)
    model = sequential(12, Dense(32, activation="relu"), Dense(1, activation="sigmoid" if fault else None))
    model.compile(Adam(3e-3), "mse")
    return r2(fit(model, d, watch, 15), d)


@fault_case(
    "keras/weights-of-samples-all-zero",
    "loss.no_learning weights.frozen gradient.vanishing gradient.missing update.too_small",
    "detached_graph loss_function_mismatch",
    also=STUCK + " " + STILL,
)
def weights_of_samples_all_zero(watch: Any, fault: bool, seed: int) -> float:
    """sample_weight from a mask that is the wrong way round: every loss is 0 (Humbatova: loss function)."""
    d = sets.digits(seed)
    model = classifier(64, 10, 64)
    kept = np.zeros(len(d.x)) if fault else np.ones(len(d.x))
    model.fit(
        d.x,
        d.y,
        sample_weight=kept.astype("float32"),
        validation_data=(d.xv, d.yv),
        epochs=8,
        verbose=0,
        callbacks=watch.callbacks,
    )
    return accuracy(model, d)


@fault_case(
    "keras/rate-from-an-integer-division",
    "loss.no_learning weights.frozen update.too_small",
    "learning_rate_too_low",
    also=STUCK + " " + STILL,
)
def rate_from_an_integer_division(watch: Any, fault: bool, seed: int) -> float:
    """LearningRateScheduler whose factor 5 // (5 + epoch) is 0 from the second epoch on (Humbatova: learning rate)."""
    d = sets.digits(seed)
    scheduled = keras.callbacks.LearningRateScheduler(lambda e: 0.01 * (5 // (5 + e) if fault else 5 / (5 + e)))
    model = classifier(64, 10, 64, optimizer=SGD(0.01))
    return accuracy(fit(model, d, watch, 15, callbacks=[scheduled]), d)


@fault_case(
    "keras/batches-of-one-normalised",
    "loss.no_learning metric.degenerate_predictions metric.overfitting data.drift gradient.vanishing",
    "batch_size_too_small train_validation_mismatch",
    also=STUCK
    + " gradient.missing gradient.vanishing activation.dead loss.oscillation update.too_small loss.divergence",
)
def batches_of_one_normalised(watch: Any, fault: bool, seed: int) -> float:
    """Batch normalization of batches of one puts out its offset, whatever goes in (DeepCrime: batch)."""
    d = sets.digits(seed)
    d = d.with_(x=d.x[:600], y=d.y[:600])
    model = sequential(
        64, Dense(48), keras.layers.BatchNormalization(), keras.layers.ReLU(), Dense(10, activation="softmax")
    )
    model.compile(Adam(1e-3), CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 5, batch=1 if fault else 8), d)


@fault_case(
    "keras/statistics-never-arrive",
    "metric.overfitting data.drift",
    "train_validation_mismatch",
    also="loss.divergence loss.oscillation model.wrong_mode",
)
def statistics_never_arrive(watch: Any, fault: bool, seed: int) -> float:
    """BatchNormalization(momentum=0.9999): evaluation sees the statistics of the start (Humbatova: layers)."""
    d = sets.breast_cancer(seed, raw=True)
    norms = [keras.layers.BatchNormalization(momentum=0.9999 if fault else 0.9) for _ in range(2)]
    model = sequential(30, norms[0], Dense(32), norms[1], keras.layers.ReLU(), Dense(1, activation="sigmoid"))
    model.compile(Adam(3e-3), "binary_crossentropy")
    return accuracy(fit(model, d, watch, 15), d)


@fault_case(
    "keras/no-activation-between",
    "model.no_nonlinearity",
    "missing_nonlinearity",
    also=STUCK,
)
def no_activation_between(watch: Any, fault: bool, seed: int) -> float:
    """Dense layers without an activation on a task that no line solves (NeuraLint, TheDeepChecker)."""
    d = sets.spirals(seed)
    act = None if fault else "relu"
    model = sequential(2, Dense(64, activation=act), Dense(64, activation=act), Dense(1, activation="sigmoid"))
    model.compile(Adam(1e-2), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 40), d)


@fault_case(
    "keras/every-word-unknown",
    "data.constant_feature",
    "constant_inputs",
    also=STUCK + " activation.dead " + STILL + " activation.dead",
)
def every_word_unknown(watch: Any, fault: bool, seed: int) -> float:
    """The vocabulary was built of other text: every word has the number of the unknown (Humbatova: preprocessing)."""
    d = sets.tokens(seed)
    if fault:
        d = d.with_(x=np.ones_like(d.x), xv=np.ones_like(d.xv))
    model = sequential(
        (12,), keras.layers.Embedding(200, 16), keras.layers.GlobalAveragePooling1D(), Dense(3, activation="softmax")
    )
    model.compile(Adam(1e-2), CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 8), d)


@fault_case(
    "keras/padding-not-masked",
    "loss.no_learning loss.plateau",
    "no_signal",
    also="metric.degenerate_predictions gradient.vanishing metric.overfitting",
)
def padding_not_masked(watch: Any, fault: bool, seed: int) -> float:
    """Twelve words and 150 positions of padding behind them, which an LSTM reads too (59282996, DeepFD)."""
    d = sets.tokens(seed)
    padded = [np.pad(x, ((0, 0), (0, 150))) if fault else x for x in (d.x, d.xv)]
    d = d.with_(x=padded[0], xv=padded[1])
    model = sequential(
        (d.x.shape[1],), keras.layers.Embedding(200, 8), keras.layers.LSTM(8), Dense(3, activation="softmax")
    )
    model.compile(Adam(5e-3), CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 5, batch=64), d)


@fault_case(
    "keras/dropout-on-everything",
    "loss.no_learning loss.plateau",
    "too_much_regularization",
    also="metric.degenerate_predictions gradient.vanishing",
)
def dropout_on_everything(watch: Any, fault: bool, seed: int) -> float:
    """Dropout of 0.95 on the inputs and after each layer: rate and keep probability were mixed up (44184091)."""
    d = sets.digits(seed)
    rate = 0.95 if fault else 0.05
    drop = keras.layers.Dropout
    model = sequential(
        64,
        drop(rate),
        Dense(64, activation="relu"),
        drop(rate),
        Dense(32, activation="relu"),
        drop(rate),
        Dense(10, activation="softmax"),
    )
    model.compile("adam", CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


@fault_case(
    "keras/decoupled-decay-too-strong",
    "loss.no_learning loss.plateau",
    "too_much_regularization",
    also="metric.degenerate_predictions gradient.vanishing activation.dead",
)
def decoupled_decay_too_strong(watch: Any, fault: bool, seed: int) -> float:
    """AdamW(weight_decay=50): each step takes a twentieth off the weights (DeepCrime: weights regularisation)."""
    d = sets.digits(seed)
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=50.0 if fault else 0.01)
    return accuracy(fit(classifier(64, 10, 64, optimizer=optimizer), d, watch, 15), d)


@fault_case(
    "keras/pixels-unscaled-at-a-rate-that-fits",
    "data.scale",
    "unscaled_inputs",
    also="loss.divergence loss.non_finite gradient.non_finite gradient.exploding weights.non_finite "
    "loss.no_learning loss.spike loss.oscillation activation.dead update.too_large loss.plateau "
    "metric.degenerate_predictions metric.non_finite gradient.vanishing",
)
def pixels_unscaled(watch: Any, fault: bool, seed: int) -> float:
    """Pixels of 0 to 255 at a rate that works for 0 to 1 (48594888, Islam: data preprocessing)."""
    d = sets.digits(seed, raw=fault)
    return accuracy(fit(classifier(64, 10, 64, 64, optimizer=SGD(0.1)), d, watch, 12), d)


class Weighted(keras.losses.Loss):
    """A cross-entropy times a number."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        p = ops.clip(y_pred[:, 0], 1e-6, 1 - 1e-6)
        y = ops.cast(ops.reshape(y_true, (-1,)), p.dtype)
        return -self.weight * (y * ops.log(p) + (1 - y) * ops.log(1 - p))


@fault_case(
    "keras/loss-scaled-to-nothing",
    "loss.no_learning update.too_small",
    "learning_rate_too_low",
    also=STUCK + " " + STILL,
)
def loss_scaled_to_nothing(watch: Any, fault: bool, seed: int) -> float:
    """A loss weight of 1e-7 under SGD: a rate of 1e-8 (Humbatova: loss function)."""
    d = sets.breast_cancer(seed)
    model = sequential(30, Dense(16, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile(SGD(0.1), Weighted(1e-7 if fault else 1.0))
    p = fit(model, d, watch, 15).predict(d.xv, verbose=0)
    return entropy_skill(p, d.yv) if np.isfinite(p).all() else -1.0


@fault_case(
    "keras/labels-from-one-under-xla",
    "data.labels model.output_mismatch",
    "bad_labels",
    also="loss.non_finite gradient.non_finite metric.non_finite",
)
def labels_from_one_under_xla(watch: Any, fault: bool, seed: int) -> float:
    """Classes are numbered 1 to 10, and XLA makes NaN of the last one where TensorFlow itself would raise."""
    d = sets.digits(seed)
    if fault:
        d = d.with_(y=d.y + 1, yv=d.yv + 1)
    model = sequential(64, Dense(48, activation="relu"), Dense(10, activation="softmax"))
    model.compile(Adam(3e-3), CROSS_ENTROPY, jit_compile=True)
    return accuracy(fit(model, d, watch, 8), d)
