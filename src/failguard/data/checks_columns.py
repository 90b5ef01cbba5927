"""Checks of single columns: missing and infinite cells, types, constants, distributions, scale, identifiers."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from failguard.core.finding import Finding, Severity
from failguard.data.report import finding
from failguard.data.scan import EXAMPLES, Scan, example_rows
from failguard.data.thresholds import DataThresholds, PerColumn
from failguard.report.summary import percent

__all__ = ["constants", "distributions", "identifiers", "infinities", "nulls", "outliers", "scales", "types"]

_INFO, _WARNING, _ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR
LEAST_ROWS = 20  # for statements on a distribution
LEAST_FOR_IDENTIFIER = 50
NUMBER_TEXT = 0.9  # share of texts that are numbers, from which the column is meant to be one


def nulls(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Missing cells. NaN counts as missing."""
    for name, facts in scan.columns.items():
        share, limit = facts.missing / scan.rows, limits.of(name)
        if not facts.missing:
            continue
        evidence = {"missing": float(facts.missing), "share": share}
        if facts.missing == scan.rows:
            yield finding(
                "data.nulls", _ERROR, f"Column {name!r} has no value at all.", columns=[name], count=facts.missing,
                evidence=evidence,
            )  # fmt: skip
            continue
        severity = _ERROR if share > limit.null_share_error else _WARNING if share > limit.null_share_warning else _INFO
        yield finding(
            "data.nulls",
            severity,
            f"Column {name!r} has {facts.missing:,} missing values, {percent(share)}.",
            columns=[name],
            rows=facts.missing_rows,
            count=facts.missing,
            evidence=evidence,
        )


def infinities(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Inf and -Inf."""
    for name, facts in scan.columns.items():
        if facts.infinite:
            yield finding(
                "data.non_finite",
                _ERROR,
                f"Column {name!r} has {facts.infinite:,} infinite values.",
                columns=[name],
                rows=facts.infinite_rows,
                count=facts.infinite,
                evidence={"infinite": float(facts.infinite)},
            )


def types(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Cells of several types, objects in cells, numbers kept as text, time zones that differ."""
    for name, facts in scan.columns.items():
        kinds = {k: n for k, n in facts.kinds.items() if k != "object"}
        of_types = facts.types if len(facts.types) > 1 or facts.kinds.get("object") else {}
        if len(kinds) > 1 or (of_types and not facts.types.keys() <= {"int", "float"}):
            seen = of_types or kinds
            text = ", ".join(f"{t} ({n:,})" for t, n in sorted(seen.items(), key=lambda item: -item[1])[:5])
            what = "mixes types" if len(seen) > 1 else "holds objects"
            yield finding(
                "data.types",
                _WARNING,
                f"Column {name!r} {what}: {text}.",
                columns=[name],
                count=sum(sorted(seen.values())[:-1]) or sum(seen.values()),
                evidence={"types": float(len(seen))},
            )
        if len(facts.zones) > 1:
            zones = ", ".join(sorted(z or "none" for z in facts.zones))
            yield finding(
                "data.types",
                _WARNING,
                f"Column {name!r} mixes time zones: {zones}.",
                columns=[name],
                count=len(facts.zones),
            )
        if facts.kind == "text":
            yield from _numbers_as_text(scan, name)


def _numbers_as_text(scan: Scan, name: str) -> Iterator[Finding]:
    column = scan.sample[name]
    words = column.values[~column.missing][:2_000]
    is_number = np.array([_is_number(w) for w in words], dtype=bool)
    if len(words) < LEAST_ROWS or is_number.mean() < NUMBER_TEXT:
        return
    if name == scan.label and is_number.all():
        return  # classes are often named by digits
    others = list(dict.fromkeys(str(w)[:20] for w in words[~is_number]))[:3]
    but = f", but not {', '.join(map(repr, others))}" if others else ""
    yield finding(
        "data.types",
        _WARNING,
        f"Column {name!r} is text, and {percent(float(is_number.mean()))} of it are numbers{but}.",
        columns=[name],
        rows=example_rows(np.isin(column.values, words[~is_number][:EXAMPLES]), scan.sample_rows) if others else (),
        count=int((~is_number).sum()),
        evidence={"number_share": float(is_number.mean())},
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def constants(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Features with one value, or nearly."""
    constant, nearly = [], []
    for name in scan.features:
        facts = scan.columns[name]
        present = scan.rows - facts.missing
        if not facts.counts or present < 2:
            continue
        most = max(facts.counts.values())
        if len(facts.counts) == 1 and (not facts.missing or present < scan.rows * 0.01):
            constant.append(name)
        elif most / present > limits.of(name).dominant_share and present >= 100:
            nearly.append((name, most / present))
    if constant:
        yield finding(
            "data.constant_feature",
            _WARNING,
            f"{_columns(constant)} the same value in every row.",
            columns=constant,
            count=len(constant),
        )
    if nearly:
        yield finding(
            "data.constant_feature",
            _INFO,
            f"{_columns([n for n, _ in nearly])} one value in more than {percent(min(s for _, s in nearly) - 1e-9)} "
            "of the rows.",
            columns=[n for n, _ in nearly],
            count=len(nearly),
            evidence={"dominant_share": max(s for _, s in nearly)},
        )


def distributions(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Placeholders such as -999 among numbers, and extreme skewness."""
    for name in scan.columns:
        x, limit = scan.numbers(name), limits.of(name)
        if len(x) < LEAST_ROWS or scan.columns[name].kind != "number":
            continue
        found = _placeholder(x, limit)
        if found is not None:
            value, share = found
            column = scan.sample[name]
            yield finding(
                "data.distribution",
                _WARNING,
                f"Column {name!r} holds {value:g} in {percent(share)} of the rows, far from all other values: it looks "
                "like a placeholder for missing ones.",
                columns=[name],
                rows=example_rows(column.values == value, scan.sample_rows),
                count=round(share * scan.rows),
                evidence={"value": value, "share": share},
            )
            x = x[x != value]
        x = _within(_apart_from_mode(x)[0], limit)  # those far out are a finding of their own
        skewness = _skewness(x)
        if len(x) >= LEAST_ROWS and abs(skewness) > limit.skewness:
            yield finding(
                "data.distribution",
                _WARNING,
                f"Column {name!r} is extremely skewed (skewness {skewness:.3g}): a few values outweigh all others.",
                columns=[name],
                evidence={"skewness": skewness},
            )


def _placeholder(x: NDArray[np.float64], limit: DataThresholds) -> tuple[float, float] | None:
    """A frequent value at an end, farther from its neighbour than all other values are from each other."""
    values, counts = np.unique(x, return_counts=True)
    if len(values) < 4:
        return None
    for end, gap, rest in (
        (0, values[1] - values[0], values[-1] - values[1]),
        (-1, values[-1] - values[-2], values[-2] - values[0]),
    ):
        share = float(counts[end] / len(x))
        others = np.delete(counts, end)
        # Other values of a measured quantity are not as frequent; and zero is usually meant.
        is_frequent = counts[end] >= 3 and share >= limit.placeholder_share
        is_frequent = is_frequent and (counts[end] > 2 * np.median(others) or gap > 10.0 * rest)
        if is_frequent and gap > 2.0 * rest and values[end] != 0:
            return float(values[end]), share
    return None


def _apart_from_mode(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Without the value that most rows have, such as the zero of counts and of pixels at the edge; and that value."""
    values, counts = np.unique(x, return_counts=True)
    most = int(np.argmax(counts)) if len(values) else 0
    if not len(values) or counts[most] <= 0.5 * len(x):
        return x, float("nan")
    return x[x != values[most]], float(values[most])


def _skewness(x: NDArray[np.float64]) -> float:
    deviation = float(np.std(x)) if len(x) else 0.0
    if not deviation > 0 or not np.isfinite(deviation):
        return 0.0
    return float(np.mean(((x - np.mean(x)) / deviation) ** 3))


def outliers(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Numbers far outside the quartiles."""
    for name, facts in scan.columns.items():
        x, limit = scan.numbers(name), limits.of(name)
        if len(x) < LEAST_ROWS or facts.kind != "number":
            continue
        found = _placeholder(x, limit)
        if found is not None:
            x = x[x != found[0]]
        x, mode = _apart_from_mode(x)
        fences = _fences(x, limit.outlier_distance) if len(x) >= LEAST_ROWS else None
        if fences is None:
            continue
        low, high = fences
        values, rows = facts.extremes
        beyond = ((values < low) | (values > high)) & (values != mode)
        if found is not None:
            beyond &= values != found[0]
        share = float(np.sum((x < low) | (x > high))) / len(scan.sample_rows)
        count = max(int(beyond.sum()), round(share * scan.rows))
        if not count:
            continue
        far = values[beyond]
        worst = float(far[np.argmax(np.abs(far))]) if far.size else float(max(x.max(), -x.min()))
        yield finding(
            "data.outliers",
            _ERROR if count / scan.rows > limit.outlier_share_error and count >= 3 else _WARNING,
            f"Column {name!r} has {count:,} value{'s' if count > 1 else ''} far out, such as {worst:.4g}: beyond "
            f"{low:.4g} to {high:.4g}.",
            columns=[name],
            rows=sorted(rows[beyond].tolist())[:EXAMPLES],
            count=count,
            evidence={"outliers": float(count), "worst": worst, "low_fence": low, "high_fence": high},
        )


def _fences(x: NDArray[np.float64], distance: float) -> tuple[float, float] | None:
    """Below and above which values are far out; ``None`` where most values are equal."""
    if not len(x):
        return None
    quartiles = np.percentile(x, [25, 75])
    spread = quartiles[1] - quartiles[0]
    if not spread > 0:
        quartiles = np.percentile(x, [5, 95])
        spread = quartiles[1] - quartiles[0]
        if not spread > 0:
            return None
    low, high = quartiles[0] - distance * spread, quartiles[1] + distance * spread
    if x.min() >= 0:
        unit = float(np.median(x[x > 0]))
        logs = np.log1p(quartiles / unit)
        high = max(high, unit * float(np.expm1(min(logs[1] + 0.5 * distance * (logs[1] - logs[0]), 600.0))))
    return float(low), float(high)


def _within(x: NDArray[np.float64], limit: DataThresholds) -> NDArray[np.float64]:
    """Without values far out."""
    fences = _fences(x, limit.outlier_distance)
    return x if fences is None else x[(x >= fences[0]) & (x <= fences[1])]


def scales(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Features far from the scale that initial weights and usual learning rates are made for."""
    unscaled, worst = [], 0.0
    for name in scan.features:
        x = scan.numbers(name)
        if scan.columns[name].kind != "number" or not len(x):
            continue
        x = _within(x, limits.of(name))
        with np.errstate(over="ignore"):
            size = float(max(abs(np.mean(x)), np.std(x)))
        if size > limits.of(name).feature_magnitude:
            unscaled.append(name)
            worst = max(worst, size)
    if unscaled:
        yield finding(
            "data.scale",
            _WARNING,
            f"{_columns(unscaled)} a magnitude of up to {worst:.3g}. Networks and linear models train on about 1: "
            "standardize.",
            columns=unscaled,
            count=len(unscaled),
            evidence={"magnitude": worst},
        )


def identifiers(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Features that number or name the rows."""
    for name in scan.features:
        column, facts = scan.sample[name], scan.columns[name]
        present = column.present()
        n = len(present)
        if n < LEAST_FOR_IDENTIFIER or (facts.counts is not None and scan.rows > len(facts.counts)):
            continue
        if facts.kind == "number" and facts.whole:
            exact = present if column.exact is None else column.exact[~column.missing]
            if len(np.unique(exact)) < n:
                continue
            steps = np.diff(exact.astype(np.float64))
            runs = bool((steps > 0).all() or (steps < 0).all())
            dense = facts.high - facts.low < 2 * scan.rows
            if not (runs or dense or _is_named_id(name)):
                continue
            why = "numbers the rows" if runs or dense else "has another whole number in every row"
        elif facts.kind == "text":
            words = [str(w) for w in present[:5_000]]
            if len(set(present.tolist())) < n or sum(" " in w.strip() for w in words) > 0.05 * len(words):
                continue  # free text is no identifier
            why = "has another short text in every row"
        else:
            continue
        yield finding(
            "data.identifier",
            _WARNING,
            f"Column {name!r} {why}: it identifies rows and says nothing of new ones.",
            columns=[name],
            count=scan.rows,
        )


def _is_named_id(name: str) -> bool:
    parts = name.lower().replace("-", "_").split("_")
    return (
        "id" in parts or name.endswith("ID") or bool(get_close_matches(name.lower(), ["uuid", "guid", "index"], 1, 0.9))
    )


def _columns(names: list[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"Column {shown} has" if len(names) == 1 else f"{len(names)} columns ({shown}{more}) have"
