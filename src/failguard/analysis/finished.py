"""``failguard.analyze``: what the guard would have said about a run that is over."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from failguard.accounting import Accounting
from failguard.analysis.course import Course, Epoch, Per, arrange
from failguard.analysis.csv_log import read_csv
from failguard.analysis.log import Log, read_series
from failguard.core.containment import Containment
from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Status
from failguard.core.history import History
from failguard.core.improvement import Improvement, Mode
from failguard.core.observation import Observation
from failguard.core.redaction import short
from failguard.detectors.base import Detector
from failguard.detectors.look import by_event, look
from failguard.detectors.presets import detectors_for
from failguard.episodes import Episodes
from failguard.errors import ConfigurationError, InputError
from failguard.recorder import Recorder
from failguard.report.run_report import Compute, Progress, RunReport
from failguard.resources import RunWatch
from failguard.settings import Settings

__all__ = ["analyze"]

CSV_SUFFIXES = (".csv", ".tsv")
SUPPORTED = "CSV files with a header (.csv, .tsv) and dicts of series ({'train_loss': [...], 'val_loss': [...]})"
# As the guard: every 16 steps, but at most this many times. The detectors look back over 4,096 values.
EVERY_STEPS = 16
MOST_LOOKS = 4_000
MOST_LOOKS_AT_ONCE = 1_000  # looks because of a value that is not finite


def analyze(
    source: Mapping[str, Any] | str | os.PathLike[str],
    per: Per | None = None,
    monitor: str = "val_loss",
    mode: Mode = "min",
    config: Mapping[str, Any] | None = None,
    *,
    min_delta: float = 0.0,
    detectors: str | Sequence[Detector] = "standard",
    ignore: Sequence[str] = (),
) -> RunReport:
    """Diagnose a finished run from its curves, with the detectors that watch live runs.

    Args:
        source: A dict of series, such as ``{"train_loss": [...], "val_loss": [...]}`` (lists, arrays or tensors of
            shape (n,); ``None`` is no value, NaN is a bad value), or the path of a CSV file with a header.
            Usual names are understood: ``loss``, ``training_loss``, ``train_loss_epoch``, ``validation_loss``, columns
            ``epoch`` and ``step``, a ``gradient_norm``, a learning rate.
        per: ``"epoch"`` or ``"step"``: what one value of the training loss stands for. ``None`` guesses from the index
            columns; the report's notes say what was guessed.
        monitor: The metric that overfitting and the best epoch look at.
        mode: ``"min"`` where lower is better, ``"max"`` where higher is.
        config: The run's hyperparameters, as far as known: they sharpen the diagnosis (``learning_rate``,
            ``optimizer``, ``momentum``, ``weight_decay``, ``batch_size``).
        min_delta: The least change of ``monitor`` that counts as improvement.
        detectors: ``"minimal"``, ``"standard"``, ``"full"`` or a list of detectors.
        ignore: Codes never to raise.

    Returns:
        The report: status ``completed``, or ``failed`` where the training loss was not finite at the end. Times,
        resources and environment of the run are not known from its curves and stay empty.

    Raises:
        ConfigurationError: A keyword cannot be used.
        InputError: The source cannot be read or has no loss in it.
    """
    if per not in (None, "epoch", "step"):
        raise ConfigurationError(f"per={per!r} cannot be used: per takes 'epoch', 'step', or None to guess.")
    settings = Settings(
        monitor=monitor,
        mode=mode,
        min_delta=min_delta,
        detectors=detectors,
        ignore=ignore,
        config=config,
        resources=False,
        sinks=[],
    )
    course = arrange(_read(source), per, monitor)
    return _Replay(replace(settings, monitor=course.monitor), _facts(config, course)).run(course)


def _read(source: object) -> Log:
    if isinstance(source, Mapping):
        return read_series(source)
    if isinstance(source, str | os.PathLike) and os.fspath(source):
        path = Path(os.fsdecode(source))
        if path.suffix.lower() in CSV_SUFFIXES or path.is_dir():
            return read_csv(path)
        kind = f"{path.suffix!r} files are" if path.suffix else f"{short(os.fspath(source))} is"
        raise InputError(f"{kind} not supported by failguard.analyze. Supported: {SUPPORTED}.")
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        raise InputError("A data frame is not supported as it is. Hand in frame.to_dict('list').")
    raise InputError(f"{short(source)} cannot be analysed. Supported: {SUPPORTED}.")


class _Replay:
    """Feeds a course to the detectors in the order in which the guard would have met it."""

    def __init__(self, settings: Settings, facts: Facts) -> None:
        self.history = History(
            monitor=settings.monitor, improvement=Improvement(settings.mode, settings.min_delta), facts=facts
        )
        self.facts = facts
        self.containment = Containment()
        self.episodes = Episodes(settings.ignore)
        accounting = Accounting(settings.overhead_budget)
        resources = RunWatch(settings.resources, self.history)
        self.recorder = Recorder(settings, "log", self.history, self.containment, accounting, resources)
        self.detectors = by_event(detectors_for(settings))
        self.bad_looks = 0

    def run(self, course: Course) -> RunReport:
        """Go through the course and make the report."""
        self.recorder.start(self.facts, writes=False, mlflow_run_id=None, mlflow_tracking_uri=None)
        for note in course.notes:
            self.recorder.note(note)
        self._look(Event.RUN_START, -1, 0)
        every = max(1, len(course.epochs) // MOST_LOOKS)
        at = 0
        for number, epoch in enumerate(course.epochs):
            self._feed_steps(course, at, epoch.end, epoch.epoch)
            at = epoch.end
            self._end_epoch(epoch, due=number % every == 0 or number == len(course.epochs) - 1)
        last_epoch = course.epochs[-1].epoch if course.epochs else 0
        self._feed_steps(course, at, len(course.steps), last_epoch)
        if course.steps:
            self._look(Event.STEP, course.steps[-1], last_epoch)
        last_step = course.steps[-1] if course.steps else course.epochs[-1].step
        self._look(Event.RUN_END, last_step, last_epoch)
        steps = last_step + 1
        self.recorder.finish(_status(course), Progress(steps=steps, optimizer_steps=steps, epochs=len(course.epochs)))
        report = self.recorder.report(_status(course), Progress())
        # What was measured is this analysis, not the run.
        report.compute = Compute()
        report.environment = {}
        return report

    def _feed_steps(self, course: Course, start: int, end: int, epoch: int) -> None:
        if start >= end:
            return
        losses, norms = self.history.step_series("loss"), self.history.step_series("gradient_norm")
        every = max(EVERY_STEPS, len(course.steps) // MOST_LOOKS)
        for i in range(start, end):
            step, loss, norm = course.steps[i], course.losses[i], course.gradient_norms[i]
            bad = False
            if loss is not None:
                losses.append(step, loss)
                bad = not math.isfinite(loss)
            if norm is not None:
                norms.append(step, norm)
                bad = bad or not math.isfinite(norm)
            if i % every == 0 or (bad and self._may_look_at_once()):
                self._look(Event.STEP, step, epoch)

    def _end_epoch(self, row: Epoch, *, due: bool) -> None:
        for name, value in row.metrics.items():
            self.history.epoch_series(name).append(row.epoch, value)
        if self.history.monitor in row.metrics:
            self.history.improvement.update(row.metrics[self.history.monitor], epoch=row.epoch, step=row.step)
        bad = not all(map(math.isfinite, row.metrics.values()))
        if due or (bad and self._may_look_at_once()):
            validated = self.history.monitor in row.metrics or any(name.startswith("val") for name in row.metrics)
            self._look(Event.EPOCH_END, row.step, row.epoch, row.metrics, validated)

    def _may_look_at_once(self) -> bool:
        self.bad_looks += 1
        return self.bad_looks <= MOST_LOOKS_AT_ONCE

    def _look(
        self, event: Event, step: int, epoch: int, values: Mapping[str, float] | None = None, validated: bool = False
    ) -> None:
        observation = Observation(event, step, step + 1, epoch, values or {}, validated)
        found = look(self.detectors[event], observation, self.history, self.containment)
        for finding in self.episodes.take_in(found):
            self.recorder.add(finding)


def _status(course: Course) -> Status:
    losses = course.losses or [e.metrics.get("train_loss") for e in course.epochs]
    last = next((v for v in reversed(losses) if v is not None), 0.0)
    return Status.COMPLETED if math.isfinite(last) else Status.FAILED


def _facts(config: Mapping[str, Any] | None, course: Course) -> Facts:
    """What the configuration and the log say about the optimizer and the batches."""
    config = config or {}

    def number(*names: str) -> float | None:
        for name in names:
            value = config.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        return None

    facts = Facts(config=dict(config))
    optimizer = config.get("optimizer")
    if isinstance(optimizer, str):
        facts.optimizer.name = optimizer
    rate = number("learning_rate", "lr")
    facts.optimizer.learning_rate = course.learning_rate if rate is None else rate
    facts.optimizer.momentum, facts.optimizer.weight_decay = number("momentum"), number("weight_decay")
    batch_size = number("batch_size", "train_batch_size")
    facts.batch_size = None if batch_size is None else int(batch_size)
    return facts
