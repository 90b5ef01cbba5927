"""From the rows of a log to the course of a run: losses per step, metrics per epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from failguard.analysis.columns import Roles, normal, roles_of
from failguard.analysis.course_rows import Epoch, Plan, Step, per_epoch, per_step
from failguard.analysis.log import Log
from failguard.analysis.loss_columns import find_losses, loss_like
from failguard.analysis.rows import put_in_order, read_gaps, spread
from failguard.errors import InputError

__all__ = ["Course", "Per", "arrange"]

Per = Literal["epoch", "step"]

MANY_ROWS = 200  # without an index and validation: more rows than this are steps rather than epochs
MANY_NAMES = 12  # shown in a message or remark


@dataclass(slots=True)
class Course:
    """What happened, in order.

    Attributes:
        per: What a value of the training loss stands for.
        monitor: The monitored metric under the name it has here.
        events: Gives steps and ends of epochs from the first one each time it is called.
        steps, epochs: How many of each there are, at most.
        learning_rate: The first one logged.
        notes: What was guessed or left out.
        counts_validations: The log does not number epochs, so a validation is one.
    """

    per: Per
    monitor: str
    events: Callable[[], Iterator[Step | Epoch]]
    steps: int = 0
    epochs: int = 0
    learning_rate: float | None = None
    notes: list[str] = field(default_factory=list)
    counts_validations: bool = False


def arrange(log: Log, per: Per | None, monitor: str, columns: Mapping[str, str] | None = None) -> Course:
    """Find out what the columns mean and put the rows in order.

    Args:
        log: The rows. Belongs to this function from here on.
        per: Whether the training loss is per epoch or per step; ``None`` to guess.
        monitor: The monitored metric as the user or the log names it.
        columns: Role to column, where the guess would be wrong.

    Raises:
        InputError: There is no loss or metric to look at, or the rows cannot be made sense of.
    """
    roles = roles_of(log.names, columns)
    find_losses(log, roles)
    name = _resolve(monitor, roles)
    if not roles.train_losses and roles.val_loss is None and name is None:
        likely = loss_like(log.names)
        what = (
            f"It cannot be told which of these is the training loss: {_names(likely)}."
            if likely
            else f"None of the columns is a loss: {_names(log.names)}."
        )
        raise InputError(
            f"{what} Say which is, with --column train_loss=NAME or --column val_loss=NAME "
            "(columns={'train_loss': NAME} in Python), or name a metric as monitor."
        )
    if name is None and monitor != "val_loss":
        near = get_close_matches(monitor, [*roles.metrics, "train_loss", "val_loss"], n=2, cutoff=0.5)
        remedy = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There are: {_names(log.names)}."
        raise InputError(f"monitor={monitor!r} is not in the log. {remedy}")
    _say_text(log, roles)
    if log.ragged is not None:
        if per == "epoch":
            lengths = ", ".join(f"{n!r} has {len(c)}" for n, c in log.ragged.items())
            raise InputError(f"With per='epoch' all series need the same length: {lengths}. Fill the gaps with None.")
        spread(log, roles)
        per = per or "step"
    read_gaps(log, roles)
    put_in_order(log, roles)
    counts = _Counts.of(log, roles)
    guess: list[str] = []
    if per is None:
        per, why = _guess(roles, counts)
        guess.append(f"Read as per={per!r}, since {why}. Pass per= to say otherwise.")
    plan = _plan(log, roles, per, monitor=name or monitor, counts=counts)
    course = Course(
        per,
        name or monitor,
        events=(lambda: per_step(plan)) if per == "step" else (lambda: per_epoch(plan)),
        steps=counts.rows if per == "step" else 0,
        epochs=counts.epochs if per == "epoch" or roles.epoch else counts.validations,
        learning_rate=counts.learning_rate,
        counts_validations=per == "step" and roles.epoch is None,
    )
    first = next(iter(course.events()), None)
    if first is None:
        what = f"Column {plan.source!r} has" if per == "step" else f"The columns {_names(log.names)} have"
        raise InputError(f"{what} no value of a loss or metric.")
    course.notes = [*_read_as(roles, per), *log.notes, *guess]
    if per == "epoch" and roles.step is None:
        course.notes.append("The log has no steps: where a step is named, it is the number of the row.")
    if name is None:
        course.notes.append("There is no validation loss in the log: overfitting and the best epoch cannot be told.")
    return course


@dataclass(slots=True)
class _Counts:
    """What one pass over the ordered rows finds.

    Attributes:
        rows: All of them.
        values: Of each column.
        losses: Rows with a training loss whose name does not say what it is per.
        loss_epochs: Epochs with such a row.
        validated: Such rows that have a validation loss too.
        epochs: Changes of the epoch column, or rows.
        validations: Rows with a validation loss or another metric.
        learning_rate: The first one.
    """

    rows: int = 0
    values: dict[str, int] = field(default_factory=dict)
    losses: int = 0
    loss_epochs: int = 0
    validated: int = 0
    epochs: int = 0
    validations: int = 0
    learning_rate: float | None = None

    @classmethod
    def of(cls, log: Log, roles: Roles) -> _Counts:
        place = {name: i for i, name in enumerate(log.names)}
        values = [0] * len(log.names)
        loss, validation = place.get(roles.loss or ""), place.get(roles.val_loss or "")
        rate, epoch_at = place.get(roles.learning_rate or ""), place.get(roles.epoch or roles.step or "")
        others = [place[n] for n in (roles.val_loss, *roles.metrics) if n is not None]
        counts = cls()
        epoch, loss_epoch = math.nan, math.nan
        for row in log.rows():
            counts.rows += 1
            for i, value in enumerate(row):
                if value is not None:
                    values[i] += 1
            if epoch_at is not None and row[epoch_at] != epoch:
                epoch = row[epoch_at] or 0.0
                counts.epochs += 1
            if loss is not None and row[loss] is not None:
                counts.losses += 1
                counts.validated += validation is not None and row[validation] is not None
                if epoch != loss_epoch:
                    loss_epoch = epoch
                    counts.loss_epochs += 1
            if any(row[i] is not None for i in others):
                counts.validations += 1
            if counts.learning_rate is None and rate is not None:
                value = row[rate]
                counts.learning_rate = value if value is not None and math.isfinite(value) else None
        counts.values = dict(zip(log.names, values, strict=True))
        if epoch_at is None:
            counts.epochs = counts.rows
        return counts


def _guess(roles: Roles, counts: _Counts) -> tuple[Per, str]:
    """Whether the training loss is per step or per epoch."""
    if roles.step_loss is not None:
        return "step", f"there is a column {roles.step_loss!r}"
    if roles.loss is None:
        return "epoch", "there is no training loss per step"
    losses = counts.losses
    if roles.epoch is not None:
        if losses >= 1.5 * counts.loss_epochs:
            return "step", f"column {roles.epoch!r} has {losses} losses in {counts.loss_epochs} epoch(s)"
        return "epoch", f"column {roles.epoch!r} has one loss an epoch"
    if roles.val_loss is not None and 2 * counts.validated > losses:
        return "epoch", "most training losses have a validation loss beside them"
    if roles.step is not None:
        return "step", f"there is a column {roles.step!r} and no column of epochs"
    if losses > MANY_ROWS or roles.val_loss is not None:
        return "step", f"there are {losses} training losses and no index"
    return "epoch", f"there are only {losses} training losses and no index"


def _plan(log: Log, roles: Roles, per: Per, monitor: str, counts: _Counts) -> Plan:
    """Where each quantity stands in a row."""
    place = {name: i for i, name in enumerate(log.names)}

    def at(name: str | None) -> int | None:
        return None if name is None else place[name]

    metrics = {name: place[name] for name in roles.metrics}
    if per == "epoch":
        if roles.val_loss is not None:
            metrics["val_loss"] = place[roles.val_loss]
        losses = [place[n] for n in (roles.loss, roles.step_loss) if n is not None]
        group = at(roles.epoch or roles.step)
        return Plan(
            log.rows,
            at(roles.step),
            at(roles.epoch),
            metrics,
            at(roles.epoch_loss),
            losses,
            rate=at(roles.learning_rate),
            group=group,
        )
    source = roles.step_loss or roles.loss or roles.epoch_loss
    if source is None:
        raise InputError(
            f"per='step' needs the training loss of each step; there are {_names(log.names)}. Name it 'train_loss', "
            "say which it is with --column train_loss=NAME, or pass per='epoch'."
        )
    if roles.loss not in (None, source):
        metrics[roles.loss or ""] = place[roles.loss or ""]
    seldom = [m for m in metrics if counts.values[m] * 2 <= counts.values[source]]
    if roles.val_loss is not None:
        metrics["val_loss"] = place[roles.val_loss]
    ends = {place[n] for n in (roles.val_loss, roles.epoch_loss, *seldom) if n not in (None, source)}
    if monitor in roles.metrics:
        ends.add(place[monitor])
    epoch_loss = at(roles.epoch_loss) if roles.epoch_loss != source else None
    return Plan(
        log.rows,
        at(roles.step),
        at(roles.epoch),
        metrics,
        epoch_loss,
        [place[source]],
        source=source,
        norm=at(roles.gradient_norm),
        rate=at(roles.learning_rate),
        group=at(roles.epoch),
        ends=sorted(ends),
    )


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


def _read_as(roles: Roles, per: Per) -> Iterator[str]:
    """What each column was taken for."""
    loss = roles.train_losses[0] if roles.train_losses else None
    if per == "epoch" and roles.epoch_loss:
        loss = roles.epoch_loss
    pairs = {
        f"training loss per {per}": loss,
        "validation loss": roles.val_loss,
        "step": roles.step,
        "epoch": roles.epoch,
        "gradient norm": roles.gradient_norm if per == "step" else None,
        "learning rate": roles.learning_rate,
    }
    found = [f"{what} from {name!r}" for what, name in pairs.items() if name]
    if roles.metrics:
        found.append(f"metrics {_names(roles.metrics)}")
    if found:
        yield f"Read from the log: {', '.join(found)}."


def _names(names: object) -> str:
    every = list(names)  # type: ignore[call-overload]
    more = len(every) - MANY_NAMES
    shown = ", ".join(repr(n) for n in every[:MANY_NAMES])
    return (f"{shown} and {more} more" if more > 0 else shown) or "none"
