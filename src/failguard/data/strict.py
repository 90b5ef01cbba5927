"""The four checks of the source design, to the letter."""

from __future__ import annotations

import numpy as np

from failguard.core.finding import Finding, Severity
from failguard.data.needs import need
from failguard.data.report import finding
from failguard.data.scan import EXAMPLES, example_rows, scan
from failguard.data.tables import Table

__all__ = ["source_checks"]


def source_checks(table: Table, notes: list[str]) -> tuple[list[Finding], list[str], int]:
    """No missing value, no duplicate row, every numeric column normal (p > 0.05), every ``|z|`` below 3.

    Returns:
        Findings, the names of the checks, and the number of rows.
    """
    looked = scan(table)
    found: list[Finding] = []
    missing = {n: f for n, f in looked.columns.items() if f.missing}
    if missing:
        total = sum(f.missing for f in missing.values())
        rows = sorted({r for f in missing.values() for r in f.missing_rows})[:EXAMPLES]
        text = f"{total:,} values are missing in {', '.join(map(repr, list(missing)[:5]))}."
        found.append(finding("data.nulls", Severity.ERROR, text, columns=list(missing), rows=rows, count=total))
    first = np.unique(looked.row_hashes, return_index=True)[1]
    repeats = len(looked.row_hashes) - len(first)
    if repeats:
        again = np.ones(len(looked.row_hashes), bool)
        again[first] = False
        rows = looked.hashed_rows[np.flatnonzero(again)[:EXAMPLES]].tolist()
        text = f"{repeats:,} rows repeat an earlier one."
        found.append(finding("data.duplicates", Severity.ERROR, text, rows=rows, count=repeats))
    stats = need("scipy.stats")
    for name, facts in looked.columns.items():
        x = looked.numbers(name)
        if facts.kind != "number" or len(x) < 8:  # fewer are too few for the test
            continue
        deviation = float(np.std(x))
        p = float(stats.normaltest(x).pvalue) if deviation > 0 else 0.0
        if not p > 0.05:
            text = f"Column {name!r} is not normal (D'Agostino and Pearson's test, p = {p:.2g})."
            evidence = {"p_value": p}
            found.append(finding("data.distribution", Severity.ERROR, text, columns=[name], evidence=evidence))
        values = looked.sample[name].values
        far = np.abs(values - np.mean(x)) >= 3 * deviation if deviation > 0 else np.zeros(len(values), bool)
        far &= np.isfinite(values)
        if far.any():
            n = int(far.sum())
            text = f"Column {name!r} has {n:,} values 3 or more standard deviations from its mean."
            rows = list(example_rows(far, looked.sample_rows))
            found.append(finding("data.outliers", Severity.ERROR, text, columns=[name], rows=rows, count=n))
    if looked.is_sampled:
        notes.append(f"Normality and z-scores are from an even sample of {len(looked.sample_rows):,} rows.")
    return found, ["nulls", "duplicates", "distribution", "outliers"], looked.rows
