"""Keras programs whose data is wrong, and overfitting."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.zoo.keras_common import Dense, accuracy, classifier, entropy, fit, r2, regressor, sequential


@case(
    "keras/shuffled-labels",
    "loss.no_learning",
    "no_signal bad_labels",
    also="metric.overfitting metric.degenerate_predictions loss.plateau",
)
def shuffled_labels(watch: Any, fault: bool, seed: int) -> float:
    """Labels in another order than the rows (TheDeepChecker)."""
    d = sets.blobs(seed, 2400, spread=1.0)
    if fault:
        rng = np.random.default_rng(seed)
        d = d.with_(y=rng.permutation(d.y), yv=rng.permutation(d.yv))
    return accuracy(fit(classifier(20, 4, 16), d, watch, 10), d)


@case(
    "keras/shuffled-targets",
    "loss.no_learning metric.overfitting",
    "no_signal bad_labels",
    also="metric.degenerate_predictions loss.plateau",
)
def shuffled_targets(watch: Any, fault: bool, seed: int) -> float:
    """A regression whose rows were sorted without their targets."""
    d = sets.regression(seed, 2000)
    if fault:
        rng = np.random.default_rng(seed)
        d = d.with_(y=rng.permutation(d.y), yv=rng.permutation(d.yv))
    return r2(fit(regressor(12, 16), d, watch, 12), d)


@case(
    "keras/sorted-by-label",
    "data.unshuffled loss.oscillation loss.spike",
    "unshuffled_data",
    also="loss.divergence metric.degenerate_predictions metric.overfitting loss.no_learning gradient.exploding "
    "loss.plateau",
)
def sorted_by_label(watch: Any, fault: bool, seed: int) -> float:
    """Each class is fed in one block with shuffle=False (58237726)."""
    d = sets.digits(seed)
    order = np.argsort(d.y, kind="stable")
    d = d.with_(x=d.x[order], y=d.y[order])
    model = classifier(64, 10, 64, optimizer=keras.optimizers.SGD(0.1))
    return accuracy(fit(model, d, watch, 12, shuffle=not fault), d)


@case(
    "keras/one-sided-data",
    "data.imbalance metric.degenerate_predictions",
    "class_imbalance train_validation_mismatch",
    also="metric.overfitting data.drift",
)
def one_sided_data(watch: Any, fault: bool, seed: int) -> float:
    """Nearly all training rows of all classes but one are lost (DeepCrime: unbalance data)."""
    d = sets.blobs(seed, 2400, classes=3, spread=1.5)
    if fault:
        keep = (d.y == 0) | (np.arange(len(d.y)) % 60 == 0)
        x, y = d.x[keep], d.y[keep]
        d = d.with_(x=np.concatenate([x, x]), y=np.concatenate([y, y]))
    model = classifier(20, 3, 16, optimizer=keras.optimizers.SGD(0.01))
    return accuracy(fit(model, d, watch, 12), d)


@case("keras/overfitting", "metric.overfitting", "too_little_data_for_capacity too_little_regularization", onset=None)
def overfitting(watch: Any, fault: bool, seed: int) -> float:
    """A wide network on 90 overlapping rows, for long."""
    big = sets.blobs(seed, 3000, spread=3.5, classes=3)
    d = sets.blobs(seed, 120 if fault else 3000, spread=3.5, classes=3)
    d = d.with_(xv=big.xv, yv=big.yv)
    return entropy(fit(classifier(20, 3, 256, 256), d, watch, 50 if fault else 3, batch=16), d)


@case(
    "keras/overfitting-noisy-labels",
    "metric.overfitting",
    "too_little_regularization too_little_data_for_capacity",
    also="loss.plateau",
    onset=None,
)
def overfitting_noisy_labels(watch: Any, fault: bool, seed: int) -> float:
    """Many labels are wrong and a wide network learns them by heart; the twin has dropout and stops soon."""
    d = sets.digits(seed)
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(d.y)) < 0.6
    d = d.with_(x=d.x[:250], y=np.where(wrong, rng.integers(0, 10, len(d.y)), d.y)[:250])
    hidden = [Dense(256, activation="relu"), *([] if fault else [keras.layers.Dropout(0.5)])]
    model = sequential(64, *hidden, Dense(256, activation="relu"), Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return entropy(fit(model, d, watch, 60 if fault else 12), d)


@case(
    "keras/wrong-labels",
    "loss.no_learning loss.plateau",
    "bad_labels no_signal",
    also="metric.overfitting metric.degenerate_predictions",
)
def wrong_labels(watch: Any, fault: bool, seed: int) -> float:
    """85 % of the labels are drawn anew (DeepCrime: label change)."""
    d = sets.digits(seed)
    if fault:
        rng = np.random.default_rng(seed)
        wrong = rng.random(len(d.y)) < 0.85
        d = d.with_(y=np.where(wrong, rng.integers(0, 10, len(d.y)), d.y))
    return entropy(fit(classifier(64, 10, 24), d, watch, 12), d)


@case(
    "keras/overlapping-classes",
    "loss.no_learning loss.plateau",
    "no_signal bad_labels",
    also="metric.overfitting metric.degenerate_predictions",
)
def overlapping_classes(watch: Any, fault: bool, seed: int) -> float:
    """Noise has been added to the rows until the classes cannot be told apart (DeepCrime: class overlap, noise)."""
    d = sets.blobs(seed, 2400, spread=1.0)
    if fault:
        rng = np.random.default_rng(seed)
        d = sets.standardized(
            d.with_(x=d.x + 40 * rng.normal(size=d.x.shape), xv=d.xv + 40 * rng.normal(size=d.xv.shape))
        )
        d = d.with_(x=d.x.astype("float32"), xv=d.xv.astype("float32"))
    return accuracy(fit(classifier(20, 4, 16), d, watch, 10), d)
