"""Checks of whole rows: duplicates, and duplicates whose labels conflict."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from failguard.core.finding import Finding, Severity
from failguard.data.labels import is_classes
from failguard.data.report import finding
from failguard.data.scan import EXAMPLES, Scan
from failguard.data.thresholds import PerColumn
from failguard.report.summary import percent

__all__ = ["conflicts", "duplicates", "has_few_combinations"]


def duplicates(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Rows that repeat an earlier one. Of columns with few values, rows repeat by themselves: ``info`` at most."""
    _, first, counts = np.unique(scan.row_hashes, return_index=True, return_counts=True)
    repeats = len(scan.row_hashes) - len(first)
    if not repeats:
        return
    share = repeats / len(scan.row_hashes)
    is_first = np.zeros(len(scan.row_hashes), bool)
    is_first[first] = True
    limit = limits.general
    severity = Severity.INFO
    if not has_few_combinations(scan) and repeats > 1:
        if share > limit.duplicate_share_error:
            severity = Severity.ERROR
        elif share > limit.duplicate_share_warning:
            severity = Severity.WARNING
    count = round(repeats / scan.hash_share)
    yield finding(
        "data.duplicates",
        severity,
        f"{count:,} rows repeat an earlier one, {percent(share)}; the most frequent occurs {int(counts.max())} times.",
        rows=scan.hashed_rows[np.flatnonzero(~is_first)[:EXAMPLES]].tolist(),
        count=count,
        evidence={"duplicates": float(count), "share": share},
    )


def has_few_combinations(scan: Scan) -> bool:
    """Whether the values of the columns allow fewer than ten different rows for each that there is."""
    sizes = [scan.columns[n].counts for n in scan.features]
    if not sizes or any(c is None for c in sizes):
        return False
    return sum(math.log(max(len(c or ()), 1)) for c in sizes) < math.log(10.0 * scan.rows)


def conflicts(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Rows with the same features and another class."""
    if scan.label is None or not is_classes(scan):
        return
    order = np.lexsort((scan.row_hashes, scan.feature_hashes))
    features, rows = scan.feature_hashes[order], scan.row_hashes[order]
    if len(features) < 2:
        return
    group = np.cumsum(np.r_[0, features[1:] != features[:-1]])
    differs = np.r_[False, (features[1:] == features[:-1]) & (rows[1:] != rows[:-1])]
    mixed = np.isin(group, np.unique(group[differs]))
    if not mixed.any():
        return
    share = float(mixed.mean())
    count = round(mixed.sum() / scan.hash_share)
    is_many = share > limits.general.conflict_share and not has_few_combinations(scan)
    yield finding(
        "data.labels",
        Severity.WARNING if is_many else Severity.INFO,
        f"{count:,} rows, {percent(share)}, have the features of another row and another label.",
        columns=[scan.label],
        rows=np.sort(scan.hashed_rows[order][mixed])[:EXAMPLES].tolist(),
        count=count,
        evidence={"conflicting_rows": float(count), "share": share},
    )
