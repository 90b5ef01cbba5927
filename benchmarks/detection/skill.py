"""How good a trained model is, on one scale: 1 is perfect, 0 a predictor that knows the targets only, never below -1.

With it a faulty run can be compared with its fixed twin whatever the task is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["CLEARLY_WORSE", "accuracy_skill", "entropy_skill", "fraction_skill", "r2_skill"]

CLEARLY_WORSE = 0.15
"""A faulty run counts as failing where its skill is lower than its twin's by this much; else it is an equivalent."""


def _bounded(value: float) -> float:
    return max(-1.0, min(1.0, float(value))) if math.isfinite(value) else -1.0


def accuracy_skill(predicted: Any, truth: Any) -> float:
    """Accuracy against always naming the most frequent class. Scores of shape (n, classes) are reduced by argmax."""
    predicted, truth = np.asarray(predicted), np.asarray(truth).reshape(-1)
    if not np.isfinite(predicted).all():
        return -1.0
    if predicted.ndim == 2 and predicted.shape[1] > 1:
        predicted = predicted.argmax(1)
    _, counts = np.unique(truth, return_counts=True)
    majority = counts.max() / counts.sum()
    return _bounded((np.mean(predicted.reshape(-1) == truth) - majority) / (1 - majority))


def r2_skill(predicted: Any, truth: Any) -> float:
    """Share of the variance that is explained."""
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    truth = truth.reshape(predicted.shape)
    return _bounded(1 - np.mean((predicted - truth) ** 2) / np.mean((truth - truth.mean(0)) ** 2))


def entropy_skill(probabilities: Any, truth: Any) -> float:
    """Log loss against the entropy of the class shares. Probabilities of shape (n, classes), or (n,) of class 1."""
    p, truth = np.asarray(probabilities, float), np.asarray(truth).reshape(-1).astype(int)
    if p.ndim == 1 or p.shape[1] == 1:
        p = p.reshape(-1)
        p = np.stack([1 - p, p], axis=1)
    shares = np.bincount(truth, minlength=p.shape[1]) / len(truth)
    entropy = -sum(s * math.log(s) for s in shares if s > 0)
    chosen = np.clip(p[np.arange(len(truth)), truth], 1e-7, 1.0)
    return _bounded(1 + np.mean(np.log(chosen)) / entropy)


def fraction_skill(value: float, trivial: float, perfect: float = 0.0) -> float:
    """Any number, on the line from the trivial predictor's (0) to the perfect one's (1)."""
    return _bounded((trivial - value) / (trivial - perfect))
