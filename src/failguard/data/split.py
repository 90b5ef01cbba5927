"""``check_split``: whether validation rows are training rows, and whether both are of one kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from failguard.core.codes import check_finding_code
from failguard.core.finding import Finding, Severity
from failguard.data.drift import column_drift, domain_drift
from failguard.data.labels import class_counts
from failguard.data.needs import need
from failguard.data.report import DataReport, finding, sorted_findings
from failguard.data.scan import EXAMPLES, Scan, scan
from failguard.data.tables import read_table
from failguard.data.thresholds import DataThresholds, PerColumn
from failguard.data.validate import sampling_notes
from failguard.errors import InputError
from failguard.report.summary import percent

__all__ = ["check_split"]

LEAST_OVERLAP = 3  # rows; one or two that are equal occur in most tables
NEAR = 0.01  # of the median distance of training rows to their nearest neighbours
NEAR_ROWS = (20_000, 2_000)  # of training and validation that are compared


def check_split(
    train: Any,
    validation: Any,
    label: str | None = None,
    *,
    time: str | None = None,
    thresholds: DataThresholds | Mapping[str, float] | None = None,
    column_thresholds: Mapping[str, DataThresholds | Mapping[str, float]] | None = None,
    ignore: Sequence[str] = (),
    raise_on_failure: bool = True,
) -> DataReport:
    """Compare training and validation data: rows in both, near-duplicates, drift, labels and time.

    Overlap is counted among all rows up to 4.2 million of each part. Near-duplicates, drift and the domain classifier
    use even samples.

    Args:
        train, validation: Tables, see :func:`failguard.validate_dataset`.
        label: Column that is to be predicted.
        time: Column of times. Training rows later than the earliest validation row are reported.
        thresholds, column_thresholds: Limits, as in :func:`failguard.validate_dataset`.
        ignore: Codes never to report.
        raise_on_failure: Raise where a check fails; else return the report.

    Raises:
        DataQualityError: A check failed.
        InputError: A part cannot be read, or a column named is not there.
        ConfigurationError: A keyword cannot be used.
        MissingExtraError: A library of ``failguard-ml[data]`` is missing.
    """
    limits = PerColumn(thresholds, column_thresholds)
    ignored = {check_finding_code(code) for code in ([ignore] if isinstance(ignore, str) else ignore)}
    parts = read_table(train, "the training data"), read_table(validation, "the validation data")
    label = label if label is not None else parts[0].label
    limits.check_names(parts[0].names)
    shared = [n for n in parts[0].names if n in parts[1].names]
    features = [n for n in shared if n != label]
    if not features:
        raise InputError("Training and validation data have no feature in common. Name their columns alike.")
    if time is not None and time not in shared:
        raise InputError(f"There is no column {time!r} for the time in both parts.")
    first = scan(parts[0], label=label, features=features)
    second = scan(parts[1], label=label if label in parts[1].names else None, features=features)
    found = [
        *_schema(first, second),
        *_overlap(first, second, limits.general),
        *_near(first, second, features, limits.general),
        *_labels(first, second),
        *column_drift(first, second, shared, limits),
        *domain_drift(first, second, features, limits.general),
        *([] if time is None else _time(first, second, time, limits.of(time))),
    ]
    report = DataReport(
        f"{first.source} and {second.source}",
        {"training": first.rows, "validation": second.rows},
        len(parts[0].names),
        tuple(sorted_findings([f for f in found if f.code not in ignored])),
        ("schema", "overlap", "near_duplicates", "labels", "drift", "domain_classifier", *(["time"] if time else [])),
        (*sampling_notes(first, "the training data"), *sampling_notes(second, "the validation data")),
    )
    if raise_on_failure:
        report.raise_if_failed()
    return report


def _schema(first: Scan, second: Scan) -> Iterator[Finding]:
    """Columns that only one part has, or that have another kind."""
    for these, those, part in ((first, second, "validation"), (second, first, "training")):
        missing = [n for n in these.columns if n not in those.columns]
        if missing:
            text = f"The {part} data have no column {', '.join(map(repr, missing[:5]))}."
            yield finding("data.schema", Severity.ERROR, text, columns=missing, count=len(missing))
    for name, facts in first.columns.items():
        other = second.columns.get(name)
        if other is None or "empty" in (facts.kind, other.kind):
            continue
        if facts.kind != other.kind:
            text = f"Column {name!r} holds {facts.kind}s for training and {other.kind}s for validation."
            yield finding("data.schema", Severity.ERROR, text, columns=[name])
        elif facts.zones and other.zones and facts.zones != other.zones:
            zones = [", ".join(z or "none" for z in sorted(f.zones)) for f in (facts, other)]
            text = f"Column {name!r} has the time zone {zones[0]} for training and {zones[1]} for validation."
            yield finding("data.types", Severity.WARNING, text, columns=[name])


def _overlap(first: Scan, second: Scan, limit: DataThresholds) -> Iterator[Finding]:
    """Validation rows whose features are those of a training row."""
    share_kept = min(first.hash_share, second.hash_share)
    bits = np.uint64(round(1 / share_kept) - 1)
    mine = first.feature_hashes[first.feature_hashes & bits == 0]
    keep = second.feature_hashes & bits == 0
    theirs, at = second.feature_hashes[keep], second.hashed_rows[keep]
    if not len(theirs) or not len(mine):
        return
    unique = np.unique(mine)
    inside = np.isin(theirs, unique)
    n = int(inside.sum())
    if not n:
        return
    share, by_itself = n / len(theirs), 1.0 - len(unique) / len(mine)
    # Tables whose rows repeat within the training data repeat across the split too.
    is_leak = n >= LEAST_OVERLAP and share > limit.overlap_share and share > 3.0 * by_itself
    count = round(n / share_kept)
    yield finding(
        "data.leakage",
        Severity.ERROR if is_leak else Severity.INFO,
        f"{count:,} validation rows, {percent(share)}, are training rows too.",
        rows=at[np.flatnonzero(inside)[:EXAMPLES]].tolist(),
        count=count,
        evidence={"overlap": float(count), "share": share, "share_within_training": by_itself},
    )


def _near(first: Scan, second: Scan, features: list[str], limit: DataThresholds) -> Iterator[Finding]:
    """Validation rows that differ from a training row by next to nothing."""
    names = [n for n in features if first.columns[n].kind == second.columns[n].kind == "number"]
    if len(names) < 2:
        return
    mine, theirs = (
        np.column_stack([s.sample[n].values for n in names])[:most]
        for s, most in zip((first, second), NEAR_ROWS, strict=True)
    )
    at = second.sample_rows[: NEAR_ROWS[1]]
    usable = np.isfinite(theirs).all(axis=1)
    mine, theirs, at = mine[np.isfinite(mine).all(axis=1)], theirs[usable], at[usable]
    if len(mine) < 20 or not len(theirs):
        return
    spread = np.std(mine, axis=0)
    varies = (spread > 0) & np.isfinite(spread)
    if varies.sum() < 2:
        return
    mine, theirs = mine[:, varies] / spread[varies], theirs[:, varies] / spread[varies]
    search = need("sklearn.neighbors").NearestNeighbors(n_neighbors=2).fit(mine)
    usual = float(np.median(search.kneighbors(mine[:1_000])[0][:, 1]))
    distance = search.kneighbors(theirs, n_neighbors=1)[0][:, 0]
    near = (distance > 1e-9) & (distance < NEAR * usual)
    n = int(near.sum())
    if n < LEAST_OVERLAP or n / len(theirs) <= limit.overlap_share:
        return
    yield finding(
        "data.leakage",
        Severity.ERROR,
        f"{n:,} of {len(theirs):,} validation rows compared are nearly equal to a training row.",
        columns=[n for n, v in zip(names, varies, strict=True) if v],
        rows=at[np.flatnonzero(near)[:EXAMPLES]].tolist(),
        count=n,
        evidence={"near_duplicates": float(n), "share": n / len(theirs)},
    )


def _labels(first: Scan, second: Scan) -> Iterator[Finding]:
    """Classes that only validation has."""
    known, seen = class_counts(first), class_counts(second)
    new = [c for c in seen if c not in known] if known else []
    if new and first.label is not None:
        rows = sum(seen[c] for c in new)
        text = f"{rows:,} validation rows have classes that training never sees: {', '.join(map(repr, new[:5]))}."
        yield finding("data.labels", Severity.ERROR, text, columns=[first.label], count=rows)


def _time(first: Scan, second: Scan, name: str, limit: DataThresholds) -> Iterator[Finding]:
    """Training rows later than the earliest validation row."""
    mine, theirs = first.sample[name], second.sample[name]
    if mine.kind != theirs.kind or mine.kind not in ("time", "number"):
        kinds = f"{mine.kind} and {theirs.kind}"
        raise InputError(f"Column {name!r} is no time in both parts ({kinds}). Convert it to times of one zone.")
    if bool(mine.zone) != bool(theirs.zone):
        raise InputError(f"Column {name!r} has a time zone in one part only. Give both the same.")
    a, b = mine.present(), theirs.present()
    if not len(a) or not len(b):
        return
    later = a > b.min()
    share = float(later.mean())
    if share > limit.time_share:
        yield finding(
            "data.time_leakage",
            Severity.WARNING,
            f"{percent(share)} of the training rows are later than the earliest validation row by {name!r}: the model "
            "is judged on a past that it has seen the future of.",
            columns=[name],
            count=round(share * first.rows),
            evidence={"share": share},
        )
