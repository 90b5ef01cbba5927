"""The rows of a log in the order in which training went: index columns, restarts, series of different lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from failguard.analysis.columns import Roles
from failguard.analysis.log import Column, Log, Row, in_memory
from failguard.errors import InputError

__all__ = ["put_in_order", "read_gaps", "spread"]

MAX_RESTARTS = 100  # a log that goes back more often is not in order
MOST_REVERSED = 1_000_000  # rows that are held in memory to be turned round
LARGEST = 2.0**53  # whole numbers above this are not exact in a float


def spread(log: Log, roles: Roles) -> None:
    """Give series of different lengths common rows, in place: the shorter ones are spaced evenly over the longest.

    Raises:
        InputError: The lengths do not suggest steps and validations.
    """
    columns = log.ragged
    if columns is None:
        return
    n = max(map(len, columns.values()))
    lengths = ", ".join(f"{name!r} has {len(column)}" for name, column in columns.items())
    longest = [name for name in roles.train_losses if len(columns[name]) == n]
    if not longest or any(n / 2 < len(column) < n for column in columns.values()):
        raise InputError(
            f"The series differ in length ({lengths}) and cannot be aligned. Fill the gaps with None, so that each has "
            "one entry a row."
        )
    even: dict[str, Column] = {}
    for name, column in columns.items():
        even[name] = column
        if len(column) < n:
            even[name] = [None] * n
            for i, value in enumerate(column):
                even[name][round((i + 1) * n / len(column)) - 1] = value
    log.rows, log.ragged = in_memory(even).rows, None
    log.notes.append(f"The series differ in length ({lengths}): the shorter ones were spaced evenly over the steps.")


def read_gaps(log: Log, roles: Roles) -> None:
    """Tell gaps from bad values where a data frame has written both as NaN, in place.

    Such a table has an index, and in most of its rows either the training loss or another metric has a value while the
    other is NaN. There a NaN beside a value is a gap; in a row of nothing but NaN it is the training loss that is bad.
    """
    trained = [log.names.index(name) for name in roles.train_losses]
    others = [log.names.index(name) for name in (roles.val_loss, *roles.metrics) if name is not None]
    if not log.nan_may_be_a_gap or not trained or not others or not (roles.step or roles.epoch):
        return
    columns = [*trained, *others]
    total = only_trained = only_others = mixed = 0
    for row in log.rows():
        has_trained = any(_is_finite(row[i]) for i in trained)
        has_others = any(_is_finite(row[i]) for i in others)
        total += 1
        only_trained += has_trained and not has_others
        only_others += has_others and not has_trained
        mixed += (has_trained or has_others) and any(_is_nan(row[i]) for i in columns)
    if not (only_trained and only_others and 2 * mixed > total):
        return
    read = log.rows

    def without_gaps() -> Iterator[Row]:
        for row in read():
            cells = list(row)
            for i in columns if any(_is_finite(row[i]) for i in columns) else others:
                if _is_nan(row[i]):
                    cells[i] = None
            yield cells

    log.rows = without_gaps
    log.notes.append("NaN beside other values is read as no value, as data frames write it.")


def put_in_order(log: Log, roles: Roles) -> None:
    """Sort out the index columns and the order of rows, in place.

    Rows from the last to the first are turned round. Where the index goes back, the rows that follow replace what was
    there from that point on, as when a run is resumed from a checkpoint. An index that is of no use is dropped from
    ``roles``.

    Raises:
        InputError: An index holds a value that is no index, or the rows are in no order.
    """
    if roles.step is None and roles.epoch is None:
        return
    order = _survey(log, roles)
    if roles.epoch is not None and order[roles.epoch].fractions:
        log.notes.append(f"Column {roles.epoch!r} holds fractions of epochs; validations are counted instead.")
        roles.epoch = None
    elif roles.step is not None and roles.epoch is not None and order[roles.step].starts_again_each_epoch:
        log.notes.append(
            f"Column {roles.step!r} starts again in each epoch; steps are counted over the whole run instead."
        )
        roles.step = None
    elif (
        roles.step is not None
        and roles.epoch is not None
        and order[roles.step].is_in_no_order
        and not order[roles.epoch].is_in_no_order
    ):  # such as the steps of each episode
        log.notes.append(f"Column {roles.step!r} goes up and down, so it is no index; {roles.epoch!r} is.")
        roles.metrics.append(roles.step)
        roles.step = None
    _fill(log, [name for name in (roles.step, roles.epoch) if name is not None], order)
    index = roles.step or roles.epoch
    if index is None or order[index].back == 0:
        return
    found = order[index]
    if not found.forward:
        _reverse(log, index, found)
    elif found.is_in_no_order:
        raise InputError(
            f"Column {index!r} goes back {found.back} times: the rows are in no order. Sort them by {index!r}."
        )
    else:
        _drop_replaced(log, index, found)


@dataclass(slots=True)
class _Index:
    """How one index column runs through the log.

    Attributes:
        first: The first value in it.
        last: The newest value.
        rows: Rows so far.
        back, forward: Rows at which it fell and at which it rose.
        restarts: The value that it fell to, each time, at most a few more than allowed.
        fractions: It holds values that are not whole.
        back_at_epoch, back_elsewhere: Of ``back``, how many fell together with a new epoch, and how many did not.
        epochs: Rows at which a new epoch began.
    """

    first: float = 0.0
    last: float | None = None
    rows: int = 0
    back: int = 0
    forward: int = 0
    restarts: list[float] = field(default_factory=list)
    fractions: bool = False
    back_at_epoch: int = 0
    back_elsewhere: int = 0
    epochs: int = 0

    def take(self, value: float) -> int:
        """Go on by one row; -1 where the index fell, 1 where it rose, else 0."""
        last, self.last = self.last, value
        self.rows += 1
        if last is None or value == last:
            return 0
        if value > last:
            self.forward += 1
            return 1
        self.back += 1
        if len(self.restarts) <= MAX_RESTARTS:
            self.restarts.append(value)
        return -1

    @property
    def is_in_no_order(self) -> bool:
        return self.back > MAX_RESTARTS and self.forward > 0

    @property
    def starts_again_each_epoch(self) -> bool:
        # A single one among many epochs is a restart.
        return self.back_elsewhere == 0 and self.back_at_epoch * 2 > self.epochs


def _survey(log: Log, roles: Roles) -> dict[str, _Index]:
    """One pass over the index columns, gaps filled from the row before."""
    found = {name: _Index() for name in (roles.step, roles.epoch) if name is not None}
    places = {name: log.names.index(name) for name in found}
    known: dict[str, float] = {}
    waiting = dict.fromkeys(found, 0)  # rows before the first value, which get that one
    for number, row in enumerate(log.rows(), start=1):
        moves = {}
        for name, place in places.items():
            value = row[place]
            if value is not None and not math.isnan(value):
                if abs(value) > LARGEST:
                    raise InputError(
                        f"Row {number} of the column {name!r} is {value}, which is no step or epoch number."
                    )
                if name not in known:
                    found[name].first = value
                known[name] = value
                found[name].fractions |= value != int(value)
            if name not in known:
                waiting[name] += 1
                continue
            moves[name] = found[name].take(known[name])
        if roles.step in moves and roles.epoch in moves:
            assert roles.step is not None
            assert roles.epoch is not None
            step = found[roles.step]
            step.epochs += moves[roles.epoch] > 0
            step.back_at_epoch += moves[roles.step] < 0 < moves[roles.epoch]
            step.back_elsewhere += moves[roles.step] < 0 and moves[roles.epoch] <= 0
    for name, rows in waiting.items():
        found[name].rows += rows
    return found


def _fill(log: Log, names: list[str], order: dict[str, _Index]) -> None:
    """Gaps of an index get the value of the row before, those before the first value get that one."""
    if not names:
        return
    read, places = log.rows, [(log.names.index(name), order[name].first) for name in names]

    def filled() -> Iterator[Row]:
        known = [first for _, first in places]
        for row in read():
            cells = row if isinstance(row, list) else list(row)
            for i, (place, _) in enumerate(places):
                value = cells[place]
                if value is None or math.isnan(value):
                    cells[place] = known[i]
                else:
                    known[i] = value
            yield cells

    log.rows = filled


def _reverse(log: Log, index: str, found: _Index) -> None:
    if found.rows > MOST_REVERSED:
        raise InputError(f"Column {index!r} counts down over {found.rows} rows. Sort them by {index!r}.")
    read = log.rows
    log.rows = lambda: reversed(list(read()))
    log.notes.append(f"Column {index!r} counts down: the rows were read from the last to the first.")


def _drop_replaced(log: Log, index: str, found: _Index) -> None:
    """Keep, before each restart, only the rows whose index lies before all restarts that follow."""
    place, read = log.names.index(index), log.rows
    limits = [math.inf]
    for value in reversed(found.restarts):
        limits.append(min(limits[-1], value))
    limits.reverse()  # limits[k]: rows after k restarts stay below this
    kept = _below(read, place, limits)
    log.rows = kept
    replaced = found.rows - sum(1 for _ in kept())
    if min(found.restarts) <= found.first:
        log.notes.append(
            f"Column {index!r} begins anew {found.back} time(s), as where runs are appended to one file: only the last "
            f"run was read, and {replaced} earlier rows were left out."
        )
        return
    log.notes.append(
        f"Column {index!r} goes back {found.back} time(s), as after a restart: {replaced} earlier rows were "
        "replaced by those of the restarted run."
    )


def _below(read: Callable[[], Iterator[Row]], place: int, limits: list[float]) -> Callable[[], Iterator[Row]]:
    def kept() -> Iterator[Row]:
        restarts, last = 0, -math.inf
        for row in read():
            value = row[place]
            assert value is not None  # gaps are filled
            restarts += value < last
            last = value
            if value < limits[restarts]:
                yield row

    return kept


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _is_nan(value: float | None) -> bool:
    return value is not None and math.isnan(value)
