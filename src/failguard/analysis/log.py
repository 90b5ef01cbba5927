"""A finished run as rows of numbers, before anyone has decided what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from failguard.analysis.values import as_floats
from failguard.core.finding import Status
from failguard.core.redaction import short
from failguard.errors import InputError

__all__ = ["Column", "Log", "Origin", "Row", "in_memory", "read_series"]

Column = list[float | None]
Row = Sequence[float | None]


@dataclass(slots=True)
class Origin:
    """What a source says of the run beside its curves.

    Attributes:
        config: Hyperparameters.
        status: How the run ended; ``None`` where the source does not say.
        started_at: When it began.
        duration_s: How long it took.
        experiment, run_name, mlflow_run_id, mlflow_tracking_uri: As in :class:`~failguard.core.run_info.RunInfo`.
    """

    config: dict[str, Any] = field(default_factory=dict)
    status: Status | None = None
    started_at: datetime | None = None
    duration_s: float = 0.0
    experiment: str | None = None
    run_name: str | None = None
    mlflow_run_id: str | None = None
    mlflow_tracking_uri: str | None = None


@dataclass(slots=True)
class Log:
    """Rows of a log, oldest first.

    Attributes:
        names: The columns, in the order in which a row holds them.
        rows: Gives the rows from the first one each time it is called. ``None`` in a row is no value. A log of any
            length is read as often as needed and never held as a whole.
        ragged: Series of different lengths, without common rows; ``rows`` is of no use then.
        nan_may_be_a_gap: ``None`` could have been written as NaN, as data frames do.
        text: Columns that hold text, with an example: ``{"phase": "row 2: 'train'"}``.
        notes: Remarks for the report.
        origin: What else the source says of the run.
    """

    names: list[str]
    rows: Callable[[], Iterator[Row]]
    ragged: dict[str, Column] | None = None
    nan_may_be_a_gap: bool = False
    text: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    origin: Origin = field(default_factory=Origin)


def in_memory(columns: Mapping[str, Column]) -> Log:
    """A log of columns that are held as they are.

    Args:
        columns: Name to values; where the lengths differ, the log is ragged.
    """
    held = dict(columns)
    ragged = len({len(c) for c in held.values()}) > 1
    return Log(list(held), lambda: zip(*held.values(), strict=True), ragged=held if ragged else None)


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
    log = in_memory(columns)
    log.nan_may_be_a_gap = True
    return log
