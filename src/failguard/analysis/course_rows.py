"""The rows of a log, one after the other, as steps and ends of epochs. Nothing of them is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from failguard.analysis.log import Row

__all__ = ["Epoch", "Plan", "Step", "per_epoch", "per_step"]


class Step(NamedTuple):
    """One training step.

    Attributes:
        step: As in the log, else counted from 0; not decreasing.
        epoch: As in the log, else validations so far.
        loss, gradient_norm: ``None`` where not logged.
    """

    step: int
    epoch: int
    loss: float | None
    gradient_norm: float | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """The end of an epoch, or a validation where epochs are not known.

    Attributes:
        epoch: As in the log, else counted from 0.
        step: The newest step.
        metrics: Name to value.
    """

    epoch: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each quantity stands in a row.

    Attributes:
        rows: Gives the rows in order.
        step, epoch: Index columns.
        metrics: Name to column.
        epoch_loss: Training loss per epoch.
        losses: Training losses that are averaged over an epoch; per step, the one loss of a step.
        source: Name of the loss of a step.
        norm: Gradient norm of a step.
        rate: Learning rate; an epoch has the newest one, as ``"learning_rate"``.
        group: The column whose change begins a new epoch.
        ends: Without ``group``: a value in one of these ends an epoch; none of them: each row is one.
    """

    rows: Callable[[], Iterator[Row]]
    step: int | None
    epoch: int | None
    metrics: Mapping[str, int]
    epoch_loss: int | None
    losses: Sequence[int]
    source: str = ""
    norm: int | None = None
    rate: int | None = None
    group: int | None = None
    ends: Sequence[int] = ()


@dataclass(slots=True)
class _Mean:
    """Mean of the losses of an epoch; weights below one, so that values near the float limit do not overflow."""

    count: int = 0
    value: float = 0.0
    bad: float | None = None

    def add(self, value: float) -> None:
        if not math.isfinite(value):
            self.bad = value if self.bad is None else self.bad
            return
        self.count += 1
        self.value = self.value * ((self.count - 1) / self.count) + value / self.count


@dataclass(slots=True)
class _Span:
    """The rows of one epoch so far: the newest value of each metric, the mean of the losses."""

    metrics: dict[str, float] = field(default_factory=dict)
    epoch_loss: float | None = None
    rate: float | None = None
    mean: _Mean = field(default_factory=_Mean)
    last: Row = ()

    def take(self, plan: Plan, row: Row) -> None:
        self.last = row
        for name, place in plan.metrics.items():
            value = row[place]
            if value is not None:
                self.metrics[name] = value
        if plan.epoch_loss is not None and row[plan.epoch_loss] is not None:
            self.epoch_loss = row[plan.epoch_loss]
        if plan.rate is not None and row[plan.rate] is not None:
            self.rate = row[plan.rate]

    def measured(self, loss: float | None) -> dict[str, float]:
        """What is known of the epoch; nothing where there is only a learning rate."""
        metrics = self.metrics if loss is None else {**self.metrics, "train_loss": loss}
        return metrics if self.rate is None or not metrics else {"learning_rate": self.rate, **metrics}

    def number(self, place: int | None, otherwise: int) -> int:
        value = self.last[place] if place is not None and self.last else None
        return otherwise if value is None else int(value)


def per_epoch(plan: Plan) -> Iterator[Epoch]:
    """The epochs of a log that has the training loss per epoch. Rows without a value are passed over."""
    position = 0
    span = _Span()
    index: float | None = math.nan
    for row in plan.rows():
        group = None if plan.group is None else row[plan.group]
        if span.last and (plan.group is None or group != index):
            yield from _epoch_of(plan, span, position)
            position += 1
            span = _Span()
        index = group
        span.take(plan, row)
        for place in plan.losses:
            value = row[place]
            if value is not None:
                span.mean.add(value)
    if span.last:
        yield from _epoch_of(plan, span, position)


def _epoch_of(plan: Plan, span: _Span, position: int) -> Iterator[Epoch]:
    loss = span.epoch_loss
    if loss is None:
        # The mean of losses one of which is not finite is not finite either.
        loss = span.mean.bad if span.mean.bad is not None else span.mean.value if span.mean.count else None
    metrics = span.measured(loss)
    if metrics:
        yield Epoch(span.number(plan.epoch, position), span.number(plan.step, position), metrics)


def per_step(plan: Plan) -> Iterator[Step | Epoch]:
    """The steps of a log that has the training loss per step, and the epochs or validations between them."""
    (source,) = plan.losses
    position = steps = 0
    newest = -1
    span = _Span()
    index: float | None = math.nan
    for row in plan.rows():
        if plan.group is not None:
            if span.last and row[plan.group] != index:
                yield _validation(plan, span, position, newest)
                position, span = position + 1, _Span()
            index = row[plan.group]
        loss = row[source]
        norm = None if plan.norm is None else row[plan.norm]
        if loss is not None or norm is not None:
            number = None if plan.step is None else row[plan.step]
            newest = steps if number is None else int(number)
            steps += 1
            epoch = None if plan.epoch is None else row[plan.epoch]
            yield Step(newest, position if epoch is None else int(epoch), loss, norm)
            if loss is not None and math.isfinite(loss):
                span.mean.add(loss)
        span.take(plan, row)
        if plan.group is None and any(row[place] is not None for place in plan.ends):
            yield _validation(plan, span, position, newest)
            position, span = position + 1, _Span()
    if plan.group is not None and span.last:
        yield _validation(plan, span, position, newest)


def _validation(plan: Plan, span: _Span, position: int, newest: int) -> Epoch:
    loss = span.epoch_loss
    if loss is None and span.mean.count:
        loss = span.mean.value
    return Epoch(span.number(plan.epoch, position), newest, span.measured(loss))
