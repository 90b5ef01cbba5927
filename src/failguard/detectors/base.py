"""What a detector is, and how its examples are replayed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Finding
from failguard.core.history import History
from failguard.core.improvement import Improvement, Mode
from failguard.core.internals import Internals
from failguard.core.observation import ExceptionFacts, Observation

__all__ = ["Detector", "Example", "replay"]

ALL_EVENTS = frozenset(Event) - {Event.TICK, Event.IDLE}  # these two only for detectors that ask for them
TICK_STEPS = 256


@runtime_checkable
class Detector(Protocol):
    """Looks at what was measured and names a symptom, or says nothing.

    A detector is a function of the history and its own settings: it keeps no state of the run. It may report the same
    symptom at every call; merging repeats into one finding is the job of ``failguard.episodes``.

    Attributes:
        code: The finding it may raise.
        TRIPS: Examples in which it must.
        QUIET: Examples in which it must not.

    An optional attribute ``events`` (a frozenset of :class:`Event`) limits when it is called; without it, at every
    event. ``check`` at ``Event.STEP`` is called once for many steps, so it must look at the recent history, not only
    at the newest step. It is called at once after a value that is not finite.
    """

    TRIPS: ClassVar[Sequence[Example]]
    QUIET: ClassVar[Sequence[Example]]

    @property
    def code(self) -> str:
        """The code of the finding. A class attribute will do."""

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at one moment."""


@dataclass(frozen=True, slots=True)
class Example:
    """A run in numbers, for tests and the reference page.

    Attributes:
        name: What it shows.
        steps: Per-step quantities, such as ``{"loss": [...], "gradient_norm": [...]}``.
        epochs: Per-epoch metrics, such as ``{"train_loss": [...], "val_loss": [...]}``. An epoch's metrics come after
            its share of the steps. ``"non_finite_weights"`` counts bad parameters and is no metric.
        facts: What the adapter would know.
        monitor, mode, min_delta: As in FailGuard.
        exception: Raised at the end.
        internals: Samples of what goes on inside, oldest first.
        machine: Readings of the machine, such as ``{"disk_free_bytes": [...]}``, spread evenly over the steps.
        idle: Values of an observation while no batch ends, at the end of the run.
    """

    name: str
    steps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    epochs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    monitor: str = "val_loss"
    mode: Mode = "min"
    min_delta: float = 0.0
    exception: ExceptionFacts | None = None
    internals: Sequence[Internals] = ()
    machine: Mapping[str, Sequence[float]] = field(default_factory=dict)
    idle: Mapping[str, float] | None = None


def replay(detector: Detector, example: Example, *, every_steps: int = 16) -> list[Finding]:
    """Feed an example to a detector the way the guard would.

    Args:
        detector: The detector.
        example: The run in numbers. Value ``i`` of a step series belongs to step ``i``.
        every_steps: Steps between two checks; a value that is not finite is looked at at once.

    Returns:
        Everything it reported, repeats included.
    """
    history = History(
        monitor=example.monitor, improvement=Improvement(example.mode, example.min_delta), facts=example.facts
    )
    events = getattr(detector, "events", ALL_EVENTS)
    found: list[Finding] = []

    def look(event: Event, step: int, epoch: int, **more: Any) -> None:
        if event in events:
            updates = (step + 1) // max(example.facts.accumulate_batches, 1)
            finding = detector.check(Observation(event, step, updates, epoch, **more), history)
            if finding is not None:
                found.append(finding)

    inside = list(example.internals)
    step_count = max([*map(len, example.steps.values()), *(reading.step + 1 for reading in inside)], default=0)
    epoch_count = max(map(len, example.epochs.values()), default=0)
    look(Event.RUN_START, -1, 0)
    epoch = epoch_end = 0
    for epoch in range(max(epoch_count, 1)):
        epoch_start, epoch_end = epoch_end, step_count * (epoch + 1) // max(epoch_count, 1)
        losses = []
        for step in range(epoch_start, epoch_end):
            bad = False
            for name, series in example.steps.items():
                if step < len(series):
                    history.step_series(name).append(step, float(series[step]))
                    bad = bad or not math.isfinite(series[step])
                    if name == "loss" and math.isfinite(series[step]):
                        losses.append(float(series[step]))
            while inside and inside[0].step <= step:
                history.add_internals(inside.pop(0))
            for name, series in example.machine.items():
                readings = history.machine_series(name)
                while len(readings) < min(len(series), -(-len(series) * (step + 1) // step_count)):
                    readings.append(step, float(series[len(readings)]))
            if bad or step % every_steps == 0:
                look(Event.STEP, step, epoch)
            if step % TICK_STEPS == TICK_STEPS - 1:
                look(Event.TICK, step, epoch)
        if epoch_count:
            metrics = {name: float(series[epoch]) for name, series in example.epochs.items() if epoch < len(series)}
            _end_epoch(history, metrics, losses, epoch, epoch_end - 1)
            if history.first_epoch_end is None:
                history.first_epoch_end = epoch_end
            validated = any(name.startswith("val") for name in metrics)
            look(Event.EPOCH_END, epoch_end - 1, epoch, values=metrics, validated=validated)
    if example.idle is not None:
        look(Event.IDLE, step_count - 1, epoch, values=example.idle)
    if example.exception is not None:
        look(Event.EXCEPTION, step_count, epoch, exception=example.exception)
    look(Event.RUN_END, step_count - 1, epoch)
    return found


def _end_epoch(history: History, metrics: dict[str, float], losses: list[float], epoch: int, step: int) -> None:
    """Take the metrics of an epoch into the history as the guard does."""
    if losses:
        metrics.setdefault("train_loss", sum(losses) / len(losses))
    for name, value in metrics.items():
        if name != "non_finite_weights":
            history.epoch_series(name).append(epoch, value)
    if history.monitor in metrics:
        history.improvement.update(metrics[history.monitor], epoch=epoch, step=step)
