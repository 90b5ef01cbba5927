"""The label column: what kind it is, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from failguard.core.finding import Finding, Severity
from failguard.data.report import finding
from failguard.data.scan import EXAMPLES, Scan, example_rows
from failguard.data.thresholds import PerColumn
from failguard.report.summary import percent

__all__ = ["class_counts", "imbalance", "is_classes", "labels"]

MOST_CLASSES = 100
ROWS_PER_CLASS = 5


def is_classes(scan: Scan) -> bool:
    """Whether the label names classes: text, booleans, or few whole numbers, each often enough."""
    if scan.label is None:
        return False
    facts = scan.columns[scan.label]
    if facts.kind in ("text", "boolean"):
        return True
    if facts.kind != "number" or not facts.counts or not facts.whole or facts.infinite:
        return False
    return len(facts.counts) <= max(2, min(MOST_CLASSES, scan.rows // ROWS_PER_CLASS))


def class_counts(scan: Scan) -> dict[Any, int]:
    """Rows by class; empty where the label names no classes."""
    if scan.label is None or not is_classes(scan):
        return {}
    facts = scan.columns[scan.label]
    found = {facts.words[h]: n for h, n in (facts.counts or {}).items()}
    if facts.kind == "boolean":
        return {bool(k): n for k, n in found.items()}
    return {(int(k) if isinstance(k, float) and k.is_integer() else k): n for k, n in found.items()}


def labels(scan: Scan, limits: PerColumn, allowed: Collection[Any] | int | None = None) -> Iterator[Finding]:
    """Missing, infinite, unusable or unknown labels, a single class, spellings of one class.

    Args:
        scan: The table.
        limits: Thresholds.
        allowed: The classes there may be, or their number n, for 0 to n - 1.
    """
    name = scan.label
    if name is None:
        return
    facts = scan.columns[name]
    say = _Say(name)
    if facts.missing:
        yield say(Severity.ERROR, f"{facts.missing:,} labels are missing.", facts.missing_rows, facts.missing)
    if facts.kind in ("object", "time") or len(facts.kinds) > 1:
        kinds = ", ".join(facts.types or facts.kinds)
        yield say(Severity.ERROR, f"Labels are neither numbers, text nor booleans throughout, but: {kinds}.")
        return
    counts = class_counts(scan)
    if len(facts.counts or (1, 2)) == 1:
        yield say(Severity.ERROR, "All rows have the same label: there is nothing to learn.", count=scan.rows)
        return
    if facts.kind == "text" and facts.counts is None:
        yield say(Severity.ERROR, f"The label has more than 1,000 different texts in {scan.rows:,} rows.")
        return
    if allowed is not None:
        yield from _unknown(scan, counts, allowed, say)
    if facts.kind == "text":
        yield from _spellings(counts, say)
    elif facts.kind == "number" and counts and len(counts) > 2:
        # Two whole numbers may be any code for yes and no; more are class numbers, which losses count from 0.
        low, n = min(counts), len(counts)
        if low < 0 or max(counts) >= n:
            yield say(
                Severity.INFO,
                f"{n} classes are numbered {low} to {max(counts)}; most losses expect 0 to {n - 1}.",
            )


class _Say:
    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, severity: Severity, message: str, rows: Any = (), count: int = 0) -> Finding:
        return finding("data.labels", severity, message, columns=[self._name], rows=list(rows)[:EXAMPLES], count=count)


def _unknown(scan: Scan, counts: dict[Any, int], allowed: Collection[Any] | int, say: _Say) -> Iterator[Finding]:
    assert scan.label is not None
    known = range(allowed) if isinstance(allowed, int) else allowed
    if not counts:
        yield say(Severity.ERROR, "The label holds no classes, but classes were given.")
        return
    unknown = [c for c in counts if c not in known]
    if unknown:
        column = scan.sample[scan.label]
        rows = example_rows(np.isin(column.values, np.asarray(unknown, dtype=column.values.dtype)), scan.sample_rows)
        text = ", ".join(repr(u) for u in unknown[:5])
        n = sum(counts[c] for c in unknown)
        yield say(Severity.ERROR, f"{n:,} labels are none of the classes given: {text}.", rows, n)


def _spellings(counts: dict[Any, int], say: _Say) -> Iterator[Finding]:
    by_plain: dict[str, list[str]] = {}
    for word in counts:
        by_plain.setdefault(" ".join(str(word).casefold().split()), []).append(str(word))
    for words in by_plain.values():
        if len(words) > 1:
            n = sum(sorted(counts[w] for w in words)[:-1])
            yield say(
                Severity.WARNING, f"Labels that differ only in case or spaces: {', '.join(map(repr, words))}.", (), n
            )


def imbalance(scan: Scan, limits: PerColumn) -> Iterator[Finding]:
    """Classes that are rare, or too small to learn from."""
    counts = class_counts(scan)
    if len(counts) < 2 or scan.label is None:
        return
    limit, total = limits.of(scan.label), sum(counts.values())
    rarest = min(counts, key=lambda c: counts[c])
    share = counts[rarest] / total
    evidence = {"rarest_share": share, "greatest_share": max(counts.values()) / total, "classes": float(len(counts))}
    small = [c for c in counts if counts[c] < limit.class_rows]
    if share * len(counts) < limit.class_share:
        text = f"Class {rarest!r} has {counts[rarest]:,} of {total:,} rows, {percent(share)}."
    elif small:
        text = f"{len(small)} classes have fewer than {limit.class_rows:g} rows, such as {small[0]!r}."
    else:
        return
    yield finding(
        "data.imbalance", Severity.WARNING, text, columns=[scan.label], count=counts[rarest], evidence=evidence
    )
