"""Lightning programs whose data is wrong, and overfitting."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.zoo.lightning_common import Plain, accuracy, adam, entropy, fit, mlp, r2, sgd
from benchmarks.detection.zoo.lightning_output import bce_logits, mse
from torch import nn


@case(
    "lightning/shuffled-labels",
    "loss.no_learning",
    "no_signal bad_labels",
    also="metric.overfitting metric.degenerate_predictions loss.plateau",
)
def shuffled_labels(watch: Any, fault: bool, seed: int) -> float:
    """Labels in another order than the rows (TheDeepChecker)."""
    d = sets.blobs(seed, 2400, spread=1.0)
    if fault:
        d = d.with_(y=np.random.default_rng(seed).permutation(d.y), yv=np.random.default_rng(seed).permutation(d.yv))
    return accuracy(fit(Plain(mlp(20, 16, 4)), d, watch, 10), d)


@case(
    "lightning/noise-inputs",
    "loss.no_learning metric.overfitting",
    "no_signal",
    also="metric.degenerate_predictions loss.plateau",
)
def noise_inputs(watch: Any, fault: bool, seed: int) -> float:
    """The features are replaced by noise (DeepCrime: noise)."""
    d = sets.regression(seed, 2000)
    if fault:
        rng = np.random.default_rng(seed)
        d = d.with_(x=rng.normal(size=d.x.shape).astype("float32"), xv=rng.normal(size=d.xv.shape).astype("float32"))
    return r2(fit(Plain(mlp(12, 16, 1), mse), d, watch, 12), d)


@case(
    "lightning/sorted-by-label",
    "data.unshuffled loss.oscillation loss.spike",
    "unshuffled_data",
    also="loss.divergence metric.degenerate_predictions metric.overfitting loss.no_learning gradient.exploding "
    "loss.plateau",
)
def sorted_by_label(watch: Any, fault: bool, seed: int) -> float:
    """Each class is fed in one block, without shuffling (58237726)."""
    d = sets.digits(seed)
    order = np.argsort(d.y, kind="stable")
    d = d.with_(x=d.x[order], y=d.y[order])
    module = Plain(mlp(64, 64, 10), optimizer=sgd(0.1))
    return accuracy(fit(module, d, watch, 12, shuffle=not fault), d)


@case(
    "lightning/one-sided-data",
    "data.imbalance metric.degenerate_predictions",
    "class_imbalance train_validation_mismatch",
    also="metric.overfitting data.drift",
)
def one_sided_data(watch: Any, fault: bool, seed: int) -> float:
    """Nearly all training rows of all classes but one are lost (DeepCrime: delete data)."""
    d = sets.blobs(seed, 2400, classes=3, spread=1.5)
    if fault:
        keep = (d.y == 0) | (np.arange(len(d.y)) % 60 == 0)
        x, y = d.x[keep], d.y[keep]
        d = d.with_(x=np.concatenate([x, x]), y=np.concatenate([y, y]))
    return accuracy(fit(Plain(mlp(20, 16, 3), optimizer=sgd(0.01)), d, watch, 12), d)


@case(
    "lightning/overfitting",
    "metric.overfitting",
    "too_little_data_for_capacity too_little_regularization",
    onset=None,
)
def overfitting(watch: Any, fault: bool, seed: int) -> float:
    """A wide network on 90 overlapping rows, for long."""
    d = sets.blobs(seed, 120 if fault else 3000, spread=3.5, classes=3)
    big = sets.blobs(seed, 3000, spread=3.5, classes=3)
    d = d.with_(xv=big.xv, yv=big.yv)
    return entropy(fit(Plain(mlp(20, 256, 256, 3)), d, watch, 60 if fault else 3, batch=16), d)


@case(
    "lightning/overfitting-regression",
    "metric.overfitting",
    "too_little_data_for_capacity too_little_regularization",
    onset=None,
)
def overfitting_regression(watch: Any, fault: bool, seed: int) -> float:
    """A wide network on the 331 rows of the diabetes set; the twin has weight decay and a tenth of the epochs."""
    d = sets.diabetes(seed)
    if not fault:
        return r2(fit(Plain(mlp(10, 256, 256, 1), mse, adam(1e-3, weight_decay=1e-2)), d, watch, 6), d)
    return r2(fit(Plain(mlp(10, 256, 256, 1), mse, adam(1e-3)), d, watch, 60), d)


@case(
    "lightning/wrong-labels",
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
    return entropy(fit(Plain(mlp(64, 24, 10)), d, watch, 12), d)


@case(
    "lightning/validation-not-scaled",
    "data.drift metric.overfitting",
    "train_validation_mismatch",
    also="data.scale metric.degenerate_predictions",
)
def validation_not_scaled(watch: Any, fault: bool, seed: int) -> float:
    """Training rows are standardised, validation rows are not."""
    d = sets.breast_cancer(seed)
    if fault:
        d = d.with_(xv=sets.breast_cancer(seed, raw=True).xv)
    net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 1))
    return accuracy(fit(Plain(net, bce_logits), d, watch, 20), d)
