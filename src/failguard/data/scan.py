"""One reading of a table: exact counts of every row, and an even sample of rows for what needs sorting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from failguard.data.column import Column, combine
from failguard.data.tables import Table
from failguard.errors import InputError

__all__ = ["ColumnFacts", "Scan", "example_rows", "scan"]

SAMPLE_ROWS = 100_000
SAMPLE_CELLS = 8_000_000
KEPT_HASHES = (
    4_194_304  # of rows, 100 MB with what belongs to them; of larger tables every 2nd, 4th, ... hash value is kept
)
KEPT_EXTREMES = 32  # smallest and largest values of each column
MOST_VALUES = 1_000  # distinct values of a column that are counted exactly
EXAMPLES = 5


@dataclass(slots=True)
class ColumnFacts:
    """What every row says of a column.

    Attributes:
        name: Its name.
        kinds: Rows by kind; files can change theirs on the way. Chunks without any value do not count.
        missing: Cells without a value.
        missing_rows, infinite_rows: The first few such rows.
        infinite: Cells with Inf or -Inf.
        whole: All numbers are of an integer type or have no fraction.
        types: Of objects: cells by Python type.
        zones: Of times: their time zones.
        low, high: Least and greatest finite number.
        extremes: The smallest and the largest finite numbers, and their rows.
        counts: Rows by value (its hash), for columns of few values; ``None`` beyond ``MOST_VALUES``.
        words: One cell for each hash in ``counts``.
    """

    name: str
    kinds: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    missing_rows: list[int] = field(default_factory=list)
    infinite: int = 0
    infinite_rows: list[int] = field(default_factory=list)
    whole: bool = True
    types: dict[str, int] = field(default_factory=dict)
    zones: set[str] = field(default_factory=set)
    low: float = np.inf
    high: float = -np.inf
    extremes: tuple[NDArray[Any], NDArray[Any]] = (np.empty(0), np.empty(0, np.int64))
    counts: dict[int, int] | None = field(default_factory=dict)
    words: dict[int, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of most rows, ``"empty"`` where there is no value at all."""
        return max(self.kinds, key=lambda k: self.kinds[k]) if self.kinds else "empty"


@dataclass(slots=True)
class Scan:
    """What one reading gave.

    Attributes:
        source: What was read, for people.
        rows: Rows read, all of them.
        columns: Facts by name.
        sample: Columns with the sampled rows only, by name. Where a column changed its kind, only rows of the main one.
        sample_rows: Indices of the sampled rows, ascending.
        row_hashes, feature_hashes: A hash of each kept row, with and without the label column.
        hashed_rows: Indices of the rows that these hashes are of.
        hash_share: Share of hash values that were kept; 1: all.
        label: Name of the label column.
    """

    source: str
    rows: int
    columns: dict[str, ColumnFacts]
    sample: dict[str, Column]
    sample_rows: NDArray[np.int64]
    row_hashes: NDArray[np.uint64]
    feature_hashes: NDArray[np.uint64]
    hashed_rows: NDArray[np.int64]
    hash_share: float
    label: str | None

    @property
    def is_sampled(self) -> bool:
        """Whether robust statistics are those of a sample."""
        return len(self.sample_rows) < self.rows

    @property
    def features(self) -> list[str]:
        """Names of all columns but the label."""
        return [n for n in self.columns if n != self.label]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Finite numbers of a column in the sample; empty where it has another kind."""
        column = self.sample[name]
        if column.kind not in ("number", "boolean"):
            return np.empty(0)
        return np.asarray(column.values[np.isfinite(column.values)], dtype=np.float64)


def scan(table: Table, *, label: str | None = None, features: list[str] | None = None) -> Scan:
    """Read a table once.

    Args:
        table: The table.
        label: Column to be left out of the hashes of features.
        features: Columns that these hashes are of, in this order; ``None``: all but the label.

    Raises:
        InputError: There are no rows, or no column of the label's name.
    """
    if label is not None and label not in table.names:
        raise InputError(f"There is no column {label!r} for the label. There are: {', '.join(table.names[:20])}.")
    chosen = [n for n in table.names if n != label] if features is None else features
    facts = {n: ColumnFacts(n) for n in table.names}
    hashes = _RowHashes()
    sample = _Sample(min(SAMPLE_ROWS, max(1_000, SAMPLE_CELLS // len(table.names))))
    rows = 0
    for columns in table.chunks():
        n = len(columns[0])
        cells = {c.name: c.hashes() for c in columns}
        for column in columns:
            _add(facts[column.name], column, cells[column.name], rows)
        of_features = np.zeros(n, np.uint64)
        for name in chosen:
            of_features = combine(of_features, cells[name])
        of_rows = combine(of_features, cells[label]) if label is not None else of_features
        hashes.add(of_rows, of_features, rows)
        sample.add(columns, rows)
        rows += n
    if rows == 0:
        raise InputError(f"{table.source} has no rows.")
    sampled, indices = sample.done(facts)
    return Scan(table.source, rows, facts, sampled, indices, *hashes.done(), hash_share=hashes.share, label=label)


def example_rows(mask: NDArray[np.bool_], rows: NDArray[np.int64]) -> tuple[int, ...]:
    """The first few rows where a mask holds."""
    return tuple(int(r) for r in rows[np.flatnonzero(mask)[:EXAMPLES]])


def _add(facts: ColumnFacts, column: Column, cells: NDArray[np.uint64], start: int) -> None:
    """Take in a chunk of a column."""
    _note_rows(facts.missing_rows, column.missing, start)
    missing = int(column.missing.sum())
    facts.missing += missing
    if missing < len(column):
        facts.kinds[column.kind] = facts.kinds.get(column.kind, 0) + len(column) - missing
    for name, n in column.types.items():
        facts.types[name] = facts.types.get(name, 0) + n
    if column.kind == "time":
        facts.zones.add(column.zone)
    if column.kind == "number":
        _add_numbers(facts, column.values, start)
    if facts.counts is not None:
        values, first, counts = np.unique(cells, return_index=True, return_counts=True)
        if len(values) > MOST_VALUES:
            facts.counts = None
            facts.words.clear()
            return
        for value, at, n in zip(values.tolist(), first.tolist(), counts.tolist(), strict=True):
            if not column.missing[at]:
                facts.counts[value] = facts.counts.get(value, 0) + n
                facts.words.setdefault(value, column.values[at])
        if len(facts.counts) > MOST_VALUES:
            facts.counts = None
            facts.words.clear()


def _add_numbers(facts: ColumnFacts, values: NDArray[Any], start: int) -> None:
    infinite = np.isinf(values)
    count = int(infinite.sum())
    if count:
        _note_rows(facts.infinite_rows, infinite, start)
        facts.infinite += count
    at = np.flatnonzero(np.isfinite(values))
    finite = values[at]
    if finite.size == 0:
        return
    facts.low, facts.high = min(facts.low, float(finite.min())), max(facts.high, float(finite.max()))
    facts.whole = facts.whole and bool((finite == np.rint(finite)).all())
    if finite.size > 2 * KEPT_EXTREMES:
        order = np.argpartition(finite, (KEPT_EXTREMES, finite.size - KEPT_EXTREMES))
        ends = np.concatenate([order[:KEPT_EXTREMES], order[-KEPT_EXTREMES:]])
        finite, at = finite[ends], at[ends]
    both = np.concatenate([facts.extremes[0], finite]), np.concatenate([facts.extremes[1], at + start])
    order = np.argsort(both[0], kind="stable")
    if order.size > 2 * KEPT_EXTREMES:
        order = np.concatenate([order[:KEPT_EXTREMES], order[-KEPT_EXTREMES:]])
    facts.extremes = both[0][order], both[1][order].astype(np.int64)


def _note_rows(noted: list[int], mask: NDArray[np.bool_], start: int) -> None:
    if len(noted) < EXAMPLES:
        noted.extend((np.flatnonzero(mask)[: EXAMPLES - len(noted)] + start).tolist())


class _RowHashes:
    """Hashes of rows. Where there are too many, those whose last bits are zero: copies of a row stay together."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]] = []
        self._count = 0
        self._bits = 0

    @property
    def share(self) -> float:
        return 0.5**self._bits

    def add(self, rows: NDArray[np.uint64], features: NDArray[np.uint64], start: int) -> None:
        at = np.arange(start, start + len(rows), dtype=np.int64)
        self._parts.append(self._kept(rows, features, at))
        self._count += len(self._parts[-1][0])
        while self._count > KEPT_HASHES:
            self._bits += 1
            self._parts = [self._kept(*part) for part in self._parts]
            self._count = sum(len(part[0]) for part in self._parts)

    def _kept(self, rows: Any, features: Any, at: Any) -> tuple[Any, Any, Any]:
        if not self._bits:
            return rows, features, at
        keep = features & np.uint64((1 << self._bits) - 1) == 0
        return rows[keep], features[keep], at[keep]

    def done(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
        rows, features, at = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        self._parts = []
        return rows, features, at


class _Sample:
    """An even sample of rows: each gets a random key, and the smallest keys stay. Chunks of any size, in any number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._random = np.random.default_rng(0)  # its own, so that results repeat and no other stream is touched
        self._keys = np.empty(0)
        self._rows = np.empty(0, np.int64)
        self._parts: dict[str, list[Column]] = {}
        self._limit = np.inf

    def add(self, columns: list[Column], start: int) -> None:
        n = len(columns[0])
        keys = self._random.random(n)
        keep = np.flatnonzero(keys < self._limit)
        self._keys = np.concatenate([self._keys, keys[keep]])
        self._rows = np.concatenate([self._rows, keep + start])
        for column in columns:
            self._parts.setdefault(column.name, []).append(column.take(keep))
        if len(self._keys) > 2 * self._most:
            self._trim()

    def _trim(self) -> None:
        if len(self._keys) <= self._most:
            return
        keep = np.sort(np.argpartition(self._keys, self._most)[: self._most])
        self._limit = float(self._keys[keep].max())
        lengths = [len(c) for c in next(iter(self._parts.values()))]
        starts = np.cumsum([0, *lengths])
        for name, parts in self._parts.items():
            self._parts[name] = [
                c.take(keep[(keep >= a) & (keep < a + len(c))] - a) for a, c in zip(starts, parts, strict=False)
            ]
        self._keys, self._rows = self._keys[keep], self._rows[keep]

    def done(self, facts: dict[str, ColumnFacts]) -> tuple[dict[str, Column], NDArray[np.int64]]:
        self._trim()
        sampled = {name: _joined(parts, facts[name].kind) for name, parts in self._parts.items()}
        return sampled, self._rows


def _joined(parts: list[Column], kind: str) -> Column:
    """Parts of a column as one; parts of another kind than the main one count as missing."""
    same = [p for p in parts if p.kind == kind] or parts[:1]
    first = same[0]
    blank = {"text": "", "object": None, "time": 0}.get(first.kind, np.nan)
    dtype = {"text": object, "object": object, "time": np.int64}.get(first.kind, np.float64)
    values = [p.values if p.kind == first.kind else np.full(len(p), blank, dtype) for p in parts]
    missing = [p.missing if p.kind == first.kind else np.ones(len(p), bool) for p in parts]
    exact = None
    if all(p.exact is not None for p in parts):
        exact = np.concatenate([p.exact for p in parts])
    types: dict[str, int] = {}
    for p in parts:
        for name, n in p.types.items():
            types[name] = max(types.get(name, 0), n)
    whole = all(p.whole for p in same)
    return Column(
        first.name, first.kind, np.concatenate(values), np.concatenate(missing), exact, whole, first.zone, types
    )
