"""From columns to the course of a run: losses per step, metrics per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from failguard.analysis.columns import Roles, normal, roles_of
from failguard.analysis.log import Column, Log
from failguard.analysis.rows import put_in_order, read_gaps, spread
from failguard.errors import InputError

__all__ = ["Course", "Epoch", "Per", "arrange"]

Per = Literal["epoch", "step"]

MANY_ROWS = 200  # without an index and validation: more rows than this are steps rather than epochs


@dataclass(frozen=True, slots=True)
class Epoch:
    """The end of an epoch, or a validation where epochs are not known.

    Attributes:
        epoch: As in the log, else counted from 0.
        step: The newest step.
        end: How many step rows come before it.
        metrics: Name to value.
    """

    epoch: int
    step: int
    end: int
    metrics: dict[str, float]


@dataclass(slots=True)
class Course:
    """What happened, in order.

    Attributes:
        per: What a value of the training loss stands for.
        monitor: The monitored metric under the name it has here.
        steps: Step of each loss, not decreasing; empty for a log per epoch.
        losses, gradient_norms: Of these steps, ``None`` where not logged.
        epochs: In order.
        learning_rate: The first one logged.
        notes: What was guessed or left out.
    """

    per: Per
    monitor: str
    steps: list[int] = field(default_factory=list)
    losses: Column = field(default_factory=list)
    gradient_norms: Column = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    learning_rate: float | None = None
    notes: list[str] = field(default_factory=list)


def arrange(log: Log, per: Per | None, monitor: str) -> Course:
    """Find out what the columns mean and put them in order.

    Args:
        log: The columns. Belongs to this function from here on.
        per: Whether the training loss is per epoch or per step; ``None`` to guess.
        monitor: The monitored metric as the user or the log names it.

    Raises:
        InputError: There is no loss or metric to look at, or the rows cannot be made sense of.
    """
    roles = roles_of(log.columns)
    name = _resolve(monitor, roles)
    if not roles.train_losses and roles.val_loss is None and name is None:
        raise InputError(
            f"None of the columns is a loss: {_names(log.columns)}. Name the training loss 'train_loss' and the "
            "validation loss 'val_loss', or pass monitor=."
        )
    if name is None and monitor != "val_loss":
        near = get_close_matches(monitor, [*roles.metrics, "train_loss", "val_loss"], n=2, cutoff=0.5)
        remedy = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There are: {_names(log.columns)}."
        raise InputError(f"monitor={monitor!r} is not in the log. {remedy}")
    _say_text(log, roles)
    if log.ragged:
        if per == "epoch":
            lengths = ", ".join(f"{n!r} has {len(c)}" for n, c in log.columns.items())
            raise InputError(f"With per='epoch' all series need the same length: {lengths}. Fill the gaps with None.")
        spread(log, roles)
        per = per or "step"
    if log.nan_may_be_a_gap:
        read_gaps(log, roles)
    put_in_order(log, roles)
    if per is None:
        per, why = _guess(log, roles)
        log.notes.append(f"Read as per={per!r}, since {why}. Pass per= to say otherwise.")
    course = Course(per, name or monitor)
    rate = log.columns.get(roles.learning_rate or "", [])
    course.learning_rate = next((v for v in rate if v is not None and math.isfinite(v)), None)
    if per == "step":
        _per_step(course, log, roles)
    else:
        _per_epoch(course, log, roles)
    renamed = _renamed(roles, per)
    course.notes = ([f"Read from the log: {renamed}."] if renamed else []) + log.notes
    if name is None:
        course.notes.append("There is no validation loss in the log: overfitting and the best epoch cannot be told.")
    return course


def _per_epoch(course: Course, log: Log, roles: Roles) -> None:
    columns = log.columns
    index = roles.epoch or roles.step
    for position, rows in enumerate(
        _groups(columns[index], log.rows) if index else ((i, i + 1) for i in range(log.rows))
    ):
        metrics = _metrics(columns, roles, *rows)
        loss = _last(columns.get(roles.epoch_loss or ""), *rows)
        if loss is None:
            losses = [
                v
                for name in (roles.loss, roles.step_loss)
                if name
                for v in columns[name][slice(*rows)]
                if v is not None
            ]
            loss = math.fsum(v / len(losses) for v in losses) if losses and all(map(math.isfinite, losses)) else None
            if loss is None and losses:  # the mean of losses one of which is not finite
                loss = next(v for v in losses if not math.isfinite(v))
        if loss is not None:
            metrics["train_loss"] = loss
        if not metrics:
            continue
        epoch = _number(columns, roles.epoch, rows[1] - 1, position)
        course.epochs.append(Epoch(epoch, _number(columns, roles.step, rows[1] - 1, position), 0, metrics))
    if roles.step is None:
        log.notes.append("The log has no steps: where a step is named, it is the number of the row.")
    if not course.epochs:
        raise InputError(f"There are no values of a loss or metric per epoch in {_names(columns)}.")


def _per_step(course: Course, log: Log, roles: Roles) -> None:
    columns = log.columns
    source = roles.step_loss or roles.loss or roles.epoch_loss
    if source is None:
        raise InputError(
            f"per='step' needs the training loss of each step; there are {_names(columns)}. Name it 'train_loss', or "
            "pass per='epoch'."
        )
    losses, none = columns[source], [None] * log.rows
    norms: Column = columns[roles.gradient_norm] if roles.gradient_norm else none  # type: ignore[assignment]
    if roles.loss not in (None, source):
        roles.metrics.append(roles.loss)
    ends = list(_epoch_ends(columns, roles, source, log.rows, course.monitor))
    start = 0
    for position, end in enumerate([*ends, log.rows]):
        finite_losses = []
        for row in range(start, end):
            loss, norm = losses[row], norms[row]
            if loss is None and norm is None:
                continue
            course.steps.append(_number(columns, roles.step, row, len(course.steps)))
            course.losses.append(loss)
            course.gradient_norms.append(norm)
            if loss is not None and math.isfinite(loss):
                finite_losses.append(loss)
        if position < len(ends):
            metrics = _metrics(columns, roles, start, end)
            mean = _last(columns.get(roles.epoch_loss or ""), start, end) if roles.epoch_loss != source else None
            if mean is None and finite_losses:
                mean = math.fsum(v / len(finite_losses) for v in finite_losses)
            if mean is not None:
                metrics["train_loss"] = mean
            newest = course.steps[-1] if course.steps else -1
            epoch = _number(columns, roles.epoch, end - 1, position)
            course.epochs.append(Epoch(epoch, newest, len(course.steps), metrics))
        start = end
    if not course.steps:
        raise InputError(f"Column {source!r} has no value.")


def _epoch_ends(columns: dict[str, Column], roles: Roles, source: str, rows: int, monitor: str) -> Iterator[int]:
    """Row numbers after which an epoch is over; without an epoch column a validation ends one."""
    if roles.epoch is not None:
        yield from (end for _, end in _groups(columns[roles.epoch], rows))
        return
    steps = sum(v is not None for v in columns[source])
    seldom = [m for m in roles.metrics if sum(v is not None for v in columns[m]) * 2 <= steps]
    names = {roles.val_loss, roles.epoch_loss, *seldom, monitor if monitor in roles.metrics else None} - {None, source}
    chosen = [columns[name] for name in names if name is not None]
    for row in range(rows):
        if any(column[row] is not None for column in chosen):
            yield row + 1


def _groups(column: Column, rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows in which the index does not change."""
    start = 0
    for row in range(1, rows):
        if column[row] != column[row - 1]:
            yield start, row
            start = row
    yield start, rows


def _metrics(columns: dict[str, Column], roles: Roles, start: int, end: int) -> dict[str, float]:
    """The last value of each metric in a range of rows, the validation loss under its usual name."""
    found = {}
    for name in roles.metrics:
        value = _last(columns[name], start, end)
        if value is not None:
            found[name] = value
    value = _last(columns.get(roles.val_loss or ""), start, end)
    if value is not None:
        found["val_loss"] = value
    return found


def _last(column: Column | None, start: int, end: int) -> float | None:
    if column is None:
        return None
    return next((column[row] for row in range(end - 1, start - 1, -1) if column[row] is not None), None)


def _number(columns: dict[str, Column], name: str | None, row: int, otherwise: int) -> int:
    value = columns[name][row] if name is not None else None
    return otherwise if value is None else int(value)


def _guess(log: Log, roles: Roles) -> tuple[Per, str]:
    """Whether the training loss is per step or per epoch."""
    columns = log.columns
    if roles.step_loss is not None:
        return "step", f"there is a column {roles.step_loss!r}"
    if roles.loss is None:
        return "epoch", "there is no training loss per step"
    rows = [row for row, value in enumerate(columns[roles.loss]) if value is not None]
    if roles.epoch is not None:
        epochs = len({columns[roles.epoch][row] for row in rows})
        if len(rows) >= 1.5 * epochs:
            return "step", f"column {roles.epoch!r} has {len(rows)} losses in {epochs} epoch(s)"
        return "epoch", f"column {roles.epoch!r} has one loss an epoch"
    validation = columns.get(roles.val_loss or "")
    validated = validation is not None and 2 * sum(validation[row] is not None for row in rows) > len(rows)
    if validated:
        return "epoch", "most training losses have a validation loss beside them"
    if roles.step is not None:
        return "step", f"there is a column {roles.step!r} and no column of epochs"
    if len(rows) > MANY_ROWS or validation is not None:
        return "step", f"there are {len(rows)} training losses and no index"
    return "epoch", f"there are only {len(rows)} training losses and no index"


def _resolve(monitor: str, roles: Roles) -> str | None:
    """The monitored metric's name in the course; ``None`` where the log does not have it."""
    own = {"val_loss": [roles.val_loss] if roles.val_loss else [], "train_loss": roles.train_losses}
    wanted = normal(monitor)
    for name, sources in own.items():
        if sources and (monitor in sources or wanted in (normal(name), *map(normal, sources))):
            return name
    if monitor in roles.metrics:
        return monitor
    same = [name for name in roles.metrics if normal(name) == wanted]
    if same:
        return same[0]
    # "validation_loss" where the log calls it "val_loss"
    other = roles_of([monitor])
    if other.val_loss and roles.val_loss:
        return "val_loss"
    return "train_loss" if other.train_losses and roles.train_losses else None


def _say_text(log: Log, roles: Roles) -> None:
    needed = {roles.val_loss, roles.step, roles.epoch, *roles.train_losses}
    for name, example in log.text.items():
        if name in needed:
            raise InputError(f"Column {name!r} holds text at {example}. Correct or empty that cell.")
    if log.text:
        log.notes.append(f"Text was left out in the columns {_names(log.text)}.")


def _renamed(roles: Roles, per: Per) -> str:
    loss = roles.train_losses[0] if roles.train_losses else None
    if per == "epoch" and roles.epoch_loss:
        loss = roles.epoch_loss
    pairs = {
        f"training loss per {per}": (loss, ("train_loss",)),
        "validation loss": (roles.val_loss, ("val_loss",)),
        "step": (roles.step, ("step",)),
        "gradient norm": (roles.gradient_norm if per == "step" else None, ("gradient_norm",)),
        "learning rate": (roles.learning_rate, ("learning_rate", "lr")),
    }
    return ", ".join(f"{what} from {name!r}" for what, (name, usual) in pairs.items() if name and name not in usual)


def _names(names: object) -> str:
    shown = [repr(n) for n in list(names)[:12]]  # type: ignore[call-overload]
    more = len(list(names)) - len(shown)  # type: ignore[call-overload]
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") or "none"
