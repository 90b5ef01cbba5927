"""A profile of good data, and how new data compare with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from failguard.core.finding import Finding, Severity
from failguard.data.column import Column
from failguard.data.needs import need
from failguard.data.report import DataReport, finding, sorted_findings
from failguard.data.scan import EXAMPLES, Scan, example_rows, scan
from failguard.data.tables import read_table
from failguard.data.thresholds import DataThresholds, PerColumn
from failguard.data.validate import sampling_notes
from failguard.errors import InputError
from failguard.report.summary import percent

__all__ = ["ColumnProfile", "DataProfile", "check_profile", "profile_dataset"]

VERSION = 1
QUANTILES = tuple(i / 20 for i in range(21))
MOST_CATEGORIES = 200
LEAST_ROWS = 30  # for a statement on a distribution
SIGNIFICANT = 0.001
NEW_CATEGORIES = 0.01  # share of rows


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What good data look like in one column.

    Attributes:
        kind: ``"number"``, ``"boolean"``, ``"text"``, ``"time"``, ``"object"`` or ``"empty"``.
        null_share: Share of cells without a value.
        whole: Numbers have no fraction.
        quantiles: Of numbers, at 0, 5, ..., 100 %; the ends are of every row.
        categories: Share of each value, of booleans and of text with at most 200 different ones.
    """

    kind: str
    null_share: float
    whole: bool = False
    quantiles: tuple[float, ...] = ()
    categories: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class DataProfile:
    """What good data look like.

    Attributes:
        rows: Rows that it was made from.
        columns: By name.
    """

    rows: int
    columns: Mapping[str, ColumnProfile]

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain values."""
        return {"version": VERSION, **asdict(self)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON.

        Raises:
            OSError: It cannot be written.
        """
        Path(path).write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DataProfile:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: It is no profile.
            OSError: It cannot be read.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{os.fspath(path)!r} is no data profile ({type(error).__name__}). Make one with: "
                "failguard data profile FILE -o profile.json"
            ) from error

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> DataProfile:
        """The inverse of :meth:`to_dict`."""
        if d["version"] > VERSION:
            raise InputError(
                f"The profile has version {d['version']}; this failguard knows {VERSION}. Upgrade failguard."
            )
        known = ColumnProfile.__dataclass_fields__
        columns = {}
        for name, given in d["columns"].items():
            values = {k: v for k, v in given.items() if k in known}
            columns[name] = ColumnProfile(**{**values, "quantiles": tuple(values.get("quantiles") or ())})
        return cls(int(d["rows"]), columns)


def profile_dataset(data: Any) -> DataProfile:
    """Describe good data, so that new data can be checked against it.

    Args:
        data: A table, see :func:`failguard.validate_dataset`.

    Raises:
        InputError: It cannot be read as a table with rows.
        MissingExtraError: A library of ``failguard-ml[data]`` is missing.
    """
    looked = scan(read_table(data))
    return DataProfile(looked.rows, {name: _profile(looked, name) for name in looked.columns})


def _profile(looked: Scan, name: str) -> ColumnProfile:
    facts = looked.columns[name]
    null_share = facts.missing / looked.rows
    if facts.kind == "number":
        x = looked.numbers(name)
        quantiles = [float(q) for q in np.quantile(x, QUANTILES)] if len(x) else []
        if quantiles:
            quantiles[0], quantiles[-1] = facts.low, facts.high
        return ColumnProfile("number", null_share, facts.whole, tuple(quantiles))
    if facts.kind in ("text", "boolean") and facts.counts and len(facts.counts) <= MOST_CATEGORIES:
        total = sum(facts.counts.values())
        return ColumnProfile(
            facts.kind, null_share, categories={_word(facts.words[h]): n / total for h, n in facts.counts.items()}
        )
    return ColumnProfile(facts.kind, null_share)


def _word(value: Any) -> str:
    return str(bool(value)) if isinstance(value, float) else str(value)


def check_profile(
    data: Any,
    profile: DataProfile,
    *,
    thresholds: DataThresholds | Mapping[str, float] | None = None,
    column_thresholds: Mapping[str, DataThresholds | Mapping[str, float]] | None = None,
    raise_on_failure: bool = True,
) -> DataReport:
    """Compare new data with a profile of good data.

    Missing columns and columns of another kind fail. More missing values than before by ``null_share_warning``, values
    far outside the range (by its width), categories never seen in more than 1 % of the rows, and drift beyond
    ``drift_distance`` are warnings; ``null_share_error`` fails as in :func:`failguard.validate_dataset`.

    Args:
        data: A table, see :func:`failguard.validate_dataset`.
        profile: From :func:`profile_dataset` or :meth:`DataProfile.load`.
        thresholds, column_thresholds: Limits.
        raise_on_failure: Raise where a check fails; else return the report.

    Raises:
        DataQualityError: A check failed.
        InputError: The data cannot be read.
    """
    limits = PerColumn(thresholds, column_thresholds)
    table = read_table(data)
    limits.check_names(table.names)
    looked = scan(table)
    found = [f for name, known in profile.columns.items() for f in _check(looked, name, known, limits.of(name))]
    new = [n for n in looked.columns if n not in profile.columns]
    if new:
        text = f"Columns that the profile does not have: {', '.join(map(repr, new[:5]))}."
        found.append(finding("data.schema", Severity.WARNING, text, columns=new, count=len(new)))
    report = DataReport(
        table.source,
        {"rows": looked.rows},
        len(table.names),
        tuple(sorted_findings(found)),
        ("schema", "nulls", "range", "categories", "drift"),
        tuple(sampling_notes(looked)),
    )
    if raise_on_failure:
        report.raise_if_failed()
    return report


def _check(looked: Scan, name: str, known: ColumnProfile, limit: DataThresholds) -> Iterator[Finding]:
    facts = looked.columns.get(name)
    if facts is None:
        yield finding("data.schema", Severity.ERROR, f"Column {name!r} is missing.", columns=[name])
        return
    share = facts.missing / looked.rows
    if share > known.null_share + limit.null_share_warning:
        yield finding(
            "data.nulls",
            Severity.ERROR if share > max(limit.null_share_error, known.null_share) else Severity.WARNING,
            f"Column {name!r} has {percent(share)} missing values; the profile has {percent(known.null_share)}.",
            columns=[name],
            rows=facts.missing_rows,
            count=facts.missing,
            evidence={"share": share, "expected_share": known.null_share},
        )
    if "empty" in (facts.kind, known.kind):
        return
    if facts.kind != known.kind:
        text = f"Column {name!r} holds {facts.kind}s, but the profile has {known.kind}s."
        yield finding("data.schema", Severity.ERROR, text, columns=[name])
        return
    if facts.infinite:
        text = f"Column {name!r} has {facts.infinite:,} infinite values."
        yield finding(
            "data.non_finite", Severity.ERROR, text, columns=[name], rows=facts.infinite_rows, count=facts.infinite
        )
    if known.quantiles:
        yield from _range(looked, name, known)
        yield from _drift(looked.numbers(name), name, known, limit)
    if known.categories is not None:
        yield from _categories(looked.sample[name], looked, name, known, limit)


def _range(looked: Scan, name: str, known: ColumnProfile) -> Iterator[Finding]:
    facts = looked.columns[name]
    low, high = known.quantiles[0], known.quantiles[-1]
    width = high - low
    values, rows = facts.extremes
    beyond = (values < low - width) | (values > high + width)
    n = int(beyond.sum())
    if n:
        far = values[beyond]
        yield finding(
            "data.outliers",
            Severity.WARNING,
            f"Column {name!r} has at least {n:,} values such as {float(far[np.argmax(np.abs(far))]):.4g}, far outside "
            f"{low:.4g} to {high:.4g} of the profile.",
            columns=[name],
            rows=sorted(rows[beyond].tolist())[:EXAMPLES],
            count=n,
        )


def _drift(x: Any, name: str, known: ColumnProfile, limit: DataThresholds) -> Iterator[Finding]:
    if len(x) < LEAST_ROWS:
        return
    # The distance at the quantiles that are known; at one that many values share, either side of it is in order.
    ends, first = np.unique(known.quantiles, return_index=True)
    shares = np.asarray(QUANTILES)
    last = np.r_[first[1:] - 1, len(shares) - 1]
    below, to = np.mean(x[:, None] < ends, axis=0), np.mean(x[:, None] <= ends, axis=0)
    distance = float(np.max(np.maximum(below - shares[first], shares[last] - to).clip(min=0)))
    p = float(need("scipy.stats").kstwobign.sf(distance * np.sqrt(len(x))))
    if distance > limit.drift_distance and p < SIGNIFICANT:
        yield finding(
            "data.drift",
            Severity.WARNING,
            f"Column {name!r} is distributed unlike in the profile: median {np.median(x):.4g} instead of "
            f"{known.quantiles[10]:.4g}, distance {distance:.2f}.",
            columns=[name],
            evidence={"distance": distance, "p_value": p},
        )


def _categories(
    column: Column, looked: Scan, name: str, known: ColumnProfile, limit: DataThresholds
) -> Iterator[Finding]:
    expected = known.categories or {}
    words = np.array([_word(v) for v in column.values], dtype=object)
    is_new = ~column.missing & ~np.isin(words.astype(str), list(expected))
    present = int((~column.missing).sum())
    if not present:
        return
    if is_new.sum() / present > NEW_CATEGORIES:
        unseen = sorted(set(words[is_new]))[:3]
        yield finding(
            "data.distribution",
            Severity.WARNING,
            f"Column {name!r} has categories that the profile does not have, {percent(is_new.sum() / present)}: "
            f"{', '.join(repr(w[:40]) for w in unseen)}.",
            columns=[name],
            rows=example_rows(is_new, looked.sample_rows),
            count=int(is_new.sum()),
        )
    shares = {w: float(np.sum(words[~column.missing] == w)) / present for w in expected}
    distance = 0.5 * sum(abs(shares[w] - s) for w, s in expected.items())
    noise = 0.5 * sum(np.sqrt(s * (1 - s) / present) for s in expected.values())  # of its mean by chance, at most
    if present >= LEAST_ROWS and distance > limit.drift_distance and distance > 3 * noise:
        most = max(expected, key=lambda w: abs(shares[w] - expected[w]))
        yield finding(
            "data.drift",
            Severity.WARNING,
            f"Column {name!r} is distributed unlike in the profile: {most[:40]!r} in {percent(shares[most])} of "
            f"the rows instead of {percent(expected[most])}.",
            columns=[name],
            evidence={"distance": distance},
        )
