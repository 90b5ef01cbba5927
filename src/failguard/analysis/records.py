"""Rows that name their own values, as JSON Lines, trackers and event files hold them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from failguard.analysis.log import Log, Row
from failguard.errors import InputError

__all__ = ["from_records", "value_of"]

MOST_COLUMNS = 1_000  # more come from names that hold numbers, such as one a layer and step
WORDS = {
    "nan": math.nan,
    "inf": math.inf,
    "infinity": math.inf,
    "+infinity": math.inf,
    "-inf": -math.inf,
    "-infinity": -math.inf,
}


def from_records(read: Callable[[], Iterator[Mapping[str, Any]]], what: str) -> Log:
    """A log of records.

    Args:
        read: Gives the records from the first one each time it is called: name to value. Values in a mapping get the
            mapping's name in front (``"metrics.loss"``); those that are no number are left out.
        what: Where they come from, for the message.

    Raises:
        InputError: There is no number in them.
    """
    places: dict[str, int] = {}
    text: dict[str, str] = {}
    left_out = 0
    for number, record in enumerate(read(), start=1):
        for name, value in _flat(record):
            if name in places:
                continue
            if value_of(value) is None:
                if isinstance(value, str) and value.strip():
                    text.setdefault(name, f"record {number}: {value.strip()[:40]!r}")
            elif len(places) < MOST_COLUMNS:
                places[name] = len(places)
            else:
                left_out += 1
    if not places:
        raise InputError(f"There is no number in {what}.")

    def rows() -> Iterator[Row]:
        for record in read():
            row: list[float | None] = [None] * len(places)
            for name, value in _flat(record):
                place = places.get(name)
                if place is not None:
                    row[place] = value_of(value)
            yield row

    notes = [f"Only the first {MOST_COLUMNS} names were read."] if left_out else []
    return Log(list(places), rows, text={n: t for n, t in text.items() if n not in places}, notes=notes)


def value_of(value: object) -> float | None:
    """A value of JSON as a number: also NaN and infinity written as text. ``None`` for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def _flat(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping) and depth < 4:
            yield from _flat(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value
