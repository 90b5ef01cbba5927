"""A finished run as columns of numbers, before anyone has decided what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from failguard.analysis.values import as_floats
from failguard.core.redaction import short
from failguard.errors import InputError

__all__ = ["Column", "Log", "read_series"]

Column = list[float | None]


@dataclass(slots=True)
class Log:
    """Columns of a log.

    Attributes:
        columns: Name to values, oldest first; ``None`` is no value. Of equal length unless ``ragged``.
        ragged: The columns are series of their own, without a common row.
        nan_may_be_a_gap: ``None`` could have been written as NaN, as data frames do.
        text: Columns that hold text, with an example: ``{"phase": "line 2: 'train'"}``.
        notes: Remarks for the report.
    """

    columns: dict[str, Column]
    ragged: bool = False
    nan_may_be_a_gap: bool = False
    text: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Length of the longest column."""
        return max(map(len, self.columns.values()), default=0)


def read_series(source: Mapping[Any, Any]) -> Log:
    """Take in a dict of series.

    Args:
        source: Name to numbers: lists, tuples, arrays or tensors of shape (n,). Empty series are left out.

    Raises:
        InputError: There is nothing in it, or something is no series of numbers.
    """
    columns = {str(name): as_floats(values, str(name)) for name, values in source.items()}
    columns = {name: column for name, column in columns.items() if any(v is not None for v in column)}
    if not columns:
        raise InputError(
            f"There are no values in {short(dict(source))}. Hand in series such as "
            "{'train_loss': [0.9, 0.5], 'val_loss': [1.0, 0.7]}."
        )
    return Log(columns, ragged=len({len(c) for c in columns.values()}) > 1, nan_may_be_a_gap=True)
