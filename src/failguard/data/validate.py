"""``validate_dataset``: the checks of one table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

from failguard.core.codes import check_finding_code
from failguard.core.finding import Finding
from failguard.data import checks_columns as columns
from failguard.data import checks_rows as rows
from failguard.data.label_issues import label_issues
from failguard.data.labels import imbalance, labels
from failguard.data.report import DataReport, sorted_findings
from failguard.data.scan import Scan, scan
from failguard.data.strict import source_checks
from failguard.data.tables import read_table
from failguard.data.target_leakage import target_leakage
from failguard.data.thresholds import DataThresholds, PerColumn
from failguard.errors import ConfigurationError, InputError

__all__ = ["CHECKS", "validate_dataset"]

Check = Callable[[Scan, PerColumn], Iterator[Finding]]

CHECKS: dict[str, Check] = {
    "nulls": columns.nulls,
    "infinities": columns.infinities,
    "duplicates": rows.duplicates,
    "distribution": columns.distributions,
    "outliers": columns.outliers,
    "types": columns.types,
    "constants": columns.constants,
    "scale": columns.scales,
    "identifiers": columns.identifiers,
    "labels": labels,
    "imbalance": imbalance,
    "conflicts": rows.conflicts,
    "target_leakage": target_leakage,
}


def validate_dataset(
    data: Any,
    label: str | None = None,
    *,
    classes: Collection[Any] | int | None = None,
    thresholds: DataThresholds | Mapping[str, float] | None = None,
    column_thresholds: Mapping[str, DataThresholds | Mapping[str, float]] | None = None,
    checks: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    strict: Literal["source"] | None = None,
    predicted_probabilities: Any = None,
    raise_on_failure: bool = True,
) -> DataReport:
    """Check a table before training on it.

    Counts (missing and infinite cells, classes, range, duplicate rows) are of every row. Quartiles, skewness and trees
    are of an even sample of 100,000 rows where there are more. Files are read in chunks; memory does not grow with the
    rows beyond three 64-bit numbers for each row up to 4.2 million, then for a share of them. The data stay
    as they are.

    Args:
        data: A pandas, polars or Arrow table, a two-dimensional NumPy array, a mapping from column name to values, a
            scikit-learn bunch, or the path of a ``.csv``, ``.parquet`` or ``.feather`` file.
        label: Column that is to be predicted; a bunch names it itself.
        classes: The classes that the label may have, or their number n, for 0 to n - 1.
        thresholds: Limits for all columns; a :class:`~failguard.DataThresholds` or a mapping of some of its fields.
        column_thresholds: The same by column.
        checks: Names of the checks to run; ``None``: all. See ``failguard.data.validate.CHECKS``.
        ignore: Codes never to report.
        strict: ``"source"``: the four checks as the source design writes them instead, which nearly every real table
            fails: no missing value, no duplicate row, every numeric column normal (D'Agostino and Pearson's test,
            p > 0.05), every z-score below 3.
        predicted_probabilities: Out-of-sample class probabilities, shape (rows, classes), for label issues through
            cleanlab. Classes in sorted order.
        raise_on_failure: Raise where a check fails; else return the report.

    Returns:
        The report. ``ok`` means that there is no finding at ``error``.

    Raises:
        DataQualityError: A check failed; the message names each with counts, columns and example rows.
        InputError: The data cannot be read as a table with rows.
        ConfigurationError: A keyword cannot be used.
        MissingExtraError: A library of ``failguard-ml[data]`` is missing.
    """
    if strict not in (None, "source"):
        raise ConfigurationError(f"strict={strict!r} cannot be used: it takes 'source' or None.")
    chosen = _chosen(checks)
    limits = PerColumn(thresholds, column_thresholds)
    ignored = {check_finding_code(code) for code in ([ignore] if isinstance(ignore, str) else ignore)}
    table = read_table(data)
    limits.check_names(table.names)
    if classes is not None and label is None and table.label is None:
        raise ConfigurationError("classes needs label=, the name of the column that holds them.")
    notes: list[str] = []
    if strict == "source":
        found, names, count = source_checks(table, notes)
    else:
        looked = scan(table, label=label if label is not None else table.label)
        count = looked.rows
        run = {n: CHECKS[n] for n in chosen}
        if "labels" in run:
            run["labels"] = partial(labels, allowed=classes)
        found = [f for check in run.values() for f in check(looked, limits)]
        names = list(run)
        if predicted_probabilities is not None:
            found.extend(label_issues(looked, table, predicted_probabilities))
            names.append("label_issues")
        notes.extend(sampling_notes(looked))
    found = [f for f in found if f.code not in ignored]
    report = DataReport(
        table.source, {"rows": count}, len(table.names), tuple(sorted_findings(found)), tuple(names), tuple(notes)
    )
    if raise_on_failure:
        report.raise_if_failed()
    return report


def sampling_notes(looked: Scan, what: str = "") -> Iterator[str]:
    """What was taken from a part of the rows."""
    of = f" of {what}" if what else ""
    if looked.is_sampled:
        yield (
            f"Quartiles, skewness, identifiers and what single features predict{of} are from an even sample of "
            f"{len(looked.sample_rows):,} of {looked.rows:,} rows; all counts but those of outliers are of every row."
        )
    if looked.hash_share < 1:
        yield f"Duplicates{of} are counted among {looked.hash_share:.3g} of all row values, and scaled up."


def _chosen(checks: Sequence[str] | None) -> list[str]:
    if checks is None:
        return list(CHECKS)
    names = [checks] if isinstance(checks, str) else list(checks)
    for name in names:
        if name not in CHECKS:
            near = get_close_matches(str(name), CHECKS, n=3) or list(CHECKS)
            raise ConfigurationError(f"There is no check {name!r}. Did you mean {' or '.join(near)}?")
    if not names:
        raise InputError("checks is empty: there is nothing to do. Leave it out to run all checks.")
    return names
