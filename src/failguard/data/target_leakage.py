"""Features that give the label away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from failguard.core.finding import Finding, Severity
from failguard.data.column import Column
from failguard.data.labels import class_counts, is_classes
from failguard.data.needs import need
from failguard.data.report import finding
from failguard.data.scan import Scan
from failguard.data.thresholds import PerColumn

__all__ = ["codes", "target_leakage"]

LEAST_ROWS = 60
LEAST_PER_CLASS = 10
MOST_ROWS = 10_000
MOST_FEATURES = 1_000
FOLDS = 3


def target_leakage(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Fit a small tree to each feature alone and see what it predicts of rows it has not seen.

    The first rows of the sample are used, at most ``MOST_ROWS``, of at most ``MOST_FEATURES`` features.
    """
    if scan.label is None:
        return
    label = scan.sample[scan.label]
    rows = np.flatnonzero(~label.missing & (np.isfinite(label.values) if label.kind == "number" else True))
    rows = np.random.default_rng(0).permutation(rows)[:MOST_ROWS]
    classes = is_classes(scan)
    counts = class_counts(scan)
    if len(rows) < LEAST_ROWS or (classes and sum(n >= LEAST_PER_CLASS for n in counts.values()) < 2):
        return
    if not classes and label.kind != "number":
        return
    target = codes(label.take(rows)) if classes else label.values[rows]
    for name in scan.features[:MOST_FEATURES]:
        column = scan.sample[name].take(rows)
        if column.kind == "object" or len(column.present()) < LEAST_ROWS:
            continue
        values = codes(column) if column.kind == "text" else column.values.astype(np.float64)
        values[column.missing | ~np.isfinite(values)] = np.nan
        if column.kind == "text" and len(np.unique(values)) > len(rows) // 4:
            continue  # names of rows, which data.identifier is about
        score = _score(values, target, classes)
        limit = limits.of(name)
        if score < limit.leak_score_warning:
            continue
        measure = "balanced accuracy" if classes else "share of variance explained"
        yield finding(
            "data.target_leakage",
            Severity.ERROR if score >= limit.leak_score_error else Severity.WARNING,
            f"Feature {name!r} alone predicts the label {scan.label!r} ({measure} {score:.4g} on unseen rows): is "
            "it known before the label is?",
            columns=[name],
            evidence={"score": score},
        )


def _score(values: Any, target: Any, classes: bool) -> float:
    """Cross-validated score of a tree on one feature."""
    tree = need("sklearn.tree")
    fold = np.arange(len(target)) % FOLDS
    predicted = np.empty(len(target))
    leaves = max(8, 4 * len(np.unique(target))) if classes else 64
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        kind = tree.DecisionTreeClassifier if classes else tree.DecisionTreeRegressor
        fitted = kind(max_leaf_nodes=leaves, random_state=0).fit(values[train, None], target[train])
        predicted[test] = fitted.predict(values[test, None])
    if classes:
        return float(np.mean([np.mean(predicted[target == c] == c) for c in np.unique(target)]))
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.var(target))
        return 1.0 - float(np.mean((predicted - target) ** 2)) / total if total > 0 else 0.0


def codes(column: Column) -> Any:
    """Values as numbers 0, 1, ... in their order, float64; NaN where missing."""
    values = column.values.astype(str) if column.kind in ("text", "object") else column.values
    found = np.unique(values, return_inverse=True)[1].astype(np.float64)
    found[column.missing] = np.nan
    return found
