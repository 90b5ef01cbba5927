"""Whether two parts of the data are distributed alike: column by column, and by a classifier that tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from failguard.core.finding import Finding, Severity
from failguard.data.column import Column
from failguard.data.needs import need
from failguard.data.report import finding
from failguard.data.scan import Scan
from failguard.data.thresholds import DataThresholds, PerColumn

__all__ = ["column_drift", "domain_drift"]

LEAST_ROWS = 20
MOST_ROWS = 20_000  # of each part
DOMAIN_ROWS = 3_000
DOMAIN_COLUMNS = 500
MOST_CATEGORIES = 1_000
ALPHA = 0.001  # family-wise, by Holm's correction over the columns
STANDARD_ERRORS = 4.0


def column_drift(first: Scan, second: Scan, names: list[str], limits: PerColumn) -> Iterator[Finding]:
    """Two-sample Kolmogorov-Smirnov tests for numbers and times, chi-squared tests for text and booleans.

    A column is reported where its distance is above ``drift_distance`` and its p-value, by Holm's correction, below
    0.001.
    """
    tests = []
    for name in names:
        a, b = first.sample[name], second.sample[name]
        if a.kind != b.kind or a.kind == "object":
            continue
        result = _numbers(a, b) if a.kind in ("number", "time") else _categories(a, b)
        if result is not None:
            tests.append((name, *result))
    tests.sort(key=lambda t: t[2])
    for rank, (name, distance, p, text) in enumerate(tests):
        if p * (len(tests) - rank) > ALPHA:
            return
        if distance > limits.of(name).drift_distance:
            yield finding(
                "data.drift",
                Severity.WARNING,
                f"Column {name!r} is distributed unlike in training: {text}, p = {p:.2g}.",
                columns=[name],
                evidence={"distance": distance, "p_value": p},
            )


def _numbers(a: Column, b: Column) -> tuple[float, float, str] | None:
    x, y = (c.values[~c.missing & np.isfinite(c.values.astype(np.float64))][:MOST_ROWS] for c in (a, b))
    if min(len(x), len(y)) < LEAST_ROWS:
        return None
    result = need("scipy.stats").ks_2samp(x, y, method="asymp")
    distance = float(result.statistic)
    text = f"Kolmogorov-Smirnov distance {distance:.2f}"
    if a.kind == "number":
        text += f", median {np.median(x):.4g} in training and {np.median(y):.4g} in validation"
    return distance, float(result.pvalue), text


def _categories(a: Column, b: Column) -> tuple[float, float, str] | None:
    x, y = (c.present()[:MOST_ROWS].astype(str) for c in (a, b))
    if min(len(x), len(y)) < LEAST_ROWS:
        return None
    words, codes = np.unique(np.concatenate([x, y]), return_inverse=True)
    if len(words) > MOST_CATEGORIES or len(words) < 2:
        return None
    table = np.array(
        [np.bincount(codes[: len(x)], minlength=len(words)), np.bincount(codes[len(x) :], minlength=len(words))]
    )
    shares = table / table.sum(axis=1, keepdims=True)
    distance = 0.5 * float(np.abs(shares[0] - shares[1]).sum())
    common = table.sum(axis=0) >= 10  # the test is not valid for rare ones: they count as one
    merged = np.column_stack([table[:, common], table[:, ~common].sum(axis=1)]) if (~common).any() else table
    merged = merged[:, merged.sum(axis=0) > 0]
    if merged.shape[1] < 2:
        return None
    p = float(need("scipy.stats").chi2_contingency(merged).pvalue)
    most = int(np.argmax(np.abs(shares[0] - shares[1])))
    text = f"total variation {distance:.2f}, {str(words[most])[:40]!r} {shares[0][most]:.2g} to {shares[1][most]:.2g}"
    return distance, p, text


def domain_drift(first: Scan, second: Scan, features: list[str], limit: DataThresholds) -> Iterator[Finding]:
    """A random forest learns to tell the parts apart; its AUC on rows left out of each tree says how well it can.

    Above ``domain_auc`` and four standard errors of chance (Hanley and McNeil, 1982) it is reported.
    """
    names = [n for n in features if first.sample[n].kind == second.sample[n].kind != "object"][:DOMAIN_COLUMNS]
    sizes = [min(DOMAIN_ROWS, len(s.sample_rows)) for s in (first, second)]
    if not names or min(sizes) < LEAST_ROWS:
        return
    pick = np.random.default_rng(0)
    rows = [pick.permutation(len(s.sample_rows))[:n] for s, n in zip((first, second), sizes, strict=True)]
    x = np.column_stack([_coded(first.sample[n].take(rows[0]), second.sample[n].take(rows[1])) for n in names])
    y = np.repeat([0, 1], sizes)
    forest = need("sklearn.ensemble").RandomForestClassifier(
        60, min_samples_leaf=3, oob_score=True, class_weight="balanced", random_state=0, n_jobs=1
    )
    forest.fit(x, y)
    score = np.nan_to_num(forest.oob_decision_function_[:, 1], nan=0.5)
    auc = float(need("sklearn.metrics").roc_auc_score(y, score))
    error = float(np.sqrt((len(y) + 1) / (12.0 * sizes[0] * sizes[1])))
    if auc > limit.domain_auc and auc > 0.5 + STANDARD_ERRORS * error:
        order = np.argsort(-forest.feature_importances_)[:3]
        by = ", ".join(repr(names[i]) for i in order)
        yield finding(
            "data.drift",
            Severity.WARNING,
            f"A classifier tells training from validation rows with an AUC of {auc:.2f}, most of all by {by}.",
            columns=[names[i] for i in order],
            evidence={"domain_auc": auc},
        )


def _coded(a: Column, b: Column) -> Any:
    """Both parts of a column as finite numbers."""
    if a.kind == "text":
        values = np.unique(np.concatenate([a.values, b.values]).astype(str), return_inverse=True)[1].astype(np.float64)
    else:
        values = np.concatenate([a.values, b.values]).astype(np.float64)
    usable = np.isfinite(values) & ~np.concatenate([a.missing, b.missing])
    low = float(values[usable].min()) if usable.any() else 0.0
    return np.clip(np.where(usable, values, low - 1.0), -3e38, 3e38)  # forests work on float32
