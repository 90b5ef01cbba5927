"""Labels that a model's own predictions contradict, found by cleanlab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from failguard.core.finding import Finding, Severity
from failguard.data.labels import is_classes
from failguard.data.report import finding
from failguard.data.scan import EXAMPLES, Scan
from failguard.data.tables import Table
from failguard.data.target_leakage import codes
from failguard.errors import InputError, MissingExtraError

__all__ = ["label_issues"]


def label_issues(scan: Scan, table: Table, predicted_probabilities: Any) -> Iterator[Finding]:
    """Rows whose label is likely wrong, by confident learning (Northcutt, Jiang and Chuang, 2021).

    Args:
        scan: The table as scanned.
        table: The same, to read the labels again.
        predicted_probabilities: Out of sample, shape (rows, classes), classes in sorted order.

    Raises:
        InputError: The shape does not fit the labels, or there is no label of classes.
        MissingExtraError: cleanlab is not installed.
    """
    if scan.label is None or not is_classes(scan):
        raise InputError("predicted_probabilities needs label=, the name of a column that holds classes.")
    at = table.names.index(scan.label)
    parts = [chunk[at] for chunk in table.chunks()]
    column = parts[0].take(slice(None))
    column.values = np.concatenate([p.values for p in parts])
    column.missing = np.concatenate([p.missing for p in parts])
    if column.missing.any():
        raise InputError(f"{int(column.missing.sum()):,} labels are missing. Drop those rows first.")
    labels = codes(column).astype(np.int64)
    probabilities = np.asarray(predicted_probabilities, dtype=np.float64)
    if probabilities.shape != (scan.rows, int(labels.max()) + 1):
        raise InputError(
            f"predicted_probabilities has the shape {probabilities.shape}, but the labels need "
            f"({scan.rows}, {int(labels.max()) + 1}): one row a sample, one column a class."
        )
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise MissingExtraError(
            f"Label issues need cleanlab, which cannot be imported ({error}). Install it with: "
            "pip install 'failguard-ml[data]'"
        ) from error
    # In this process: forking beside the threads of a framework may hang.
    issues = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    if len(issues):
        yield finding(
            "data.labels",
            Severity.WARNING,
            f"{len(issues):,} labels contradict the predictions for their rows, and are likely wrong.",
            columns=[scan.label],
            rows=[int(i) for i in issues[:EXAMPLES]],
            count=len(issues),
        )
