"""The rows of a log in the order in which training went: index columns, restarts, series of different lengths."""

from __future__ import annotations

import math
from itertools import pairwise

from failguard.analysis.columns import Roles
from failguard.analysis.log import Column, Log
from failguard.errors import InputError

__all__ = ["put_in_order", "read_gaps", "spread"]

MAX_RESTARTS = 100  # a log that goes back more often is not in order
LARGEST = 2.0**53  # whole numbers above this are not exact in a float


def spread(log: Log, roles: Roles) -> None:
    """Give series of different lengths common rows, in place: the shorter ones are spaced evenly over the longest.

    Raises:
        InputError: The lengths do not suggest steps and validations.
    """
    n = log.rows
    lengths = ", ".join(f"{name!r} has {len(column)}" for name, column in log.columns.items())
    longest = [name for name in roles.train_losses if len(log.columns[name]) == n]
    if not longest or any(n / 2 < len(column) < n for column in log.columns.values()):
        raise InputError(
            f"The series differ in length ({lengths}) and cannot be aligned. Fill the gaps with None, so that each has "
            "one entry a row."
        )
    for name, column in log.columns.items():
        if len(column) < n:
            wide: Column = [None] * n
            for i, value in enumerate(column):
                wide[round((i + 1) * n / len(column)) - 1] = value
            log.columns[name] = wide
    log.ragged = False
    log.notes.append(f"The series differ in length ({lengths}): the shorter ones were spaced evenly over the steps.")


def read_gaps(log: Log, roles: Roles) -> None:
    """Tell gaps from bad values where a data frame has written both as NaN, in place.

    Such a table has an index, and in most of its rows either the training loss or another metric has a value while the
    other is NaN. There a NaN beside a value is a gap; in a row of nothing but NaN it is the training loss that is bad.
    """
    trained = [log.columns[name] for name in roles.train_losses]
    others = [log.columns[name] for name in (roles.val_loss, *roles.metrics) if name is not None]
    if log.ragged or not trained or not others or not (roles.step or roles.epoch):
        return
    columns = [*trained, *others]
    only_trained = only_others = mixed = 0
    for row in range(log.rows):
        has_trained = any(_is_finite(column[row]) for column in trained)
        has_others = any(_is_finite(column[row]) for column in others)
        only_trained += has_trained and not has_others
        only_others += has_others and not has_trained
        mixed += (has_trained or has_others) and any(_is_nan(column[row]) for column in columns)
    if not (only_trained and only_others and 2 * mixed > log.rows):
        return
    for row in range(log.rows):
        has_value = any(_is_finite(column[row]) for column in columns)
        for column in columns if has_value else others:
            if _is_nan(column[row]):
                column[row] = None
    log.notes.append("NaN beside other values is read as no value, as data frames write it.")


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _is_nan(value: float | None) -> bool:
    return value is not None and math.isnan(value)


def put_in_order(log: Log, roles: Roles) -> None:
    """Sort out the index columns and the order of rows, in place.

    Rows from the last to the first are turned round. Where the index goes back, the rows that follow replace what was
    there from that point on, as when a run is resumed from a checkpoint. An index that is of no use is dropped from
    ``roles``.

    Raises:
        InputError: An index holds a value that is no index, or the rows are in no order.
    """
    for role in ("step", "epoch"):
        name = getattr(roles, role)
        if name is not None:
            filled = _filled(name, log.columns[name])
            if role == "epoch" and any(v != int(v) for v in filled):
                log.notes.append(f"Column {name!r} holds fractions of epochs; validations are counted instead.")
                roles.epoch = None
                continue
            log.columns[name] = list(filled)
    if roles.step is not None and roles.epoch is not None and _restarts_each_epoch(log, roles.step, roles.epoch):
        log.notes.append(
            f"Column {roles.step!r} starts again in each epoch; steps are counted over the whole run instead."
        )
        roles.step = None
    index = roles.step or roles.epoch
    if index is None:
        return
    values = [0.0 if v is None else v for v in log.columns[index]]
    back = sum(b < a for a, b in pairwise(values))
    if back == 0:
        return
    if all(b <= a for a, b in pairwise(values)):
        log.columns = {name: column[::-1] for name, column in log.columns.items()}
        log.notes.append(f"Column {index!r} counts down: the rows were read from the last to the first.")
        return
    if back > MAX_RESTARTS:
        raise InputError(f"Column {index!r} goes back {back} times: the rows are in no order. Sort them by {index!r}.")
    kept: list[int] = []
    for row, value in enumerate(values):
        if kept and value < values[kept[-1]]:
            while kept and value <= values[kept[-1]]:
                kept.pop()
        kept.append(row)
    log.columns = {name: [column[row] for row in kept] for name, column in log.columns.items()}
    log.notes.append(
        f"Column {index!r} goes back {back} time(s), as after a restart: {len(values) - len(kept)} earlier rows were "
        "replaced by those of the restarted run."
    )


def _filled(name: str, column: Column) -> list[float]:
    """The index with gaps filled from the row before, from the first value before that."""
    known = next((v for v in column if v is not None and not math.isnan(v)), 0.0)
    filled = []
    for row, value in enumerate(column):
        if value is not None and not math.isnan(value):
            if abs(value) > LARGEST:
                raise InputError(f"Row {row + 1} of the column {name!r} is {value}, which is no step or epoch number.")
            known = value
        filled.append(known)
    return filled


def _restarts_each_epoch(log: Log, step: str, epoch: str) -> bool:
    steps, epochs = log.columns[step], log.columns[epoch]
    back = rises = 0
    for i in range(1, len(steps)):
        new_epoch = (epochs[i] or 0.0) > (epochs[i - 1] or 0.0)
        if (steps[i] or 0.0) < (steps[i - 1] or 0.0):
            if not new_epoch:
                return False
            back += 1
        rises += new_epoch
    # A single one among many epochs is a restart.
    return back > 0 and back * 2 > rises
