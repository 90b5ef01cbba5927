"""``failguard.analyze``: what the guard would have said about a run that is over."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from failguard.accounting import Accounting
from failguard.analysis.course import Course, Per, arrange
from failguard.analysis.course_rows import Epoch
from failguard.analysis.log import Origin
from failguard.analysis.sources import read
from failguard.core.containment import Containment
from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Status
from failguard.core.history import History
from failguard.core.improvement import Improvement, Mode
from failguard.core.observation import Observation
from failguard.core.redaction import redact
from failguard.detectors.base import Detector
from failguard.detectors.look import by_event, look
from failguard.detectors.presets import detectors_for
from failguard.diagnosis.configuration import facts_of
from failguard.episodes import Episodes
from failguard.errors import ConfigurationError
from failguard.recorder import Recorder
from failguard.report.run_report import Compute, Overhead, Progress, RunReport
from failguard.resources import RunWatch
from failguard.settings import Settings

__all__ = ["analyze"]

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
    columns: Mapping[str, str] | None = None,
    tracking_uri: str | None = None,
    min_delta: float = 0.0,
    detectors: str | Sequence[Detector] = "standard",
    ignore: Sequence[str] = (),
) -> RunReport:
    """Diagnose a finished run from its curves, with the detectors that watch live runs.

    Args:
        source: A dict of series, such as ``{"train_loss": [...], "val_loss": [...]}`` (lists, arrays or tensors of
            shape (n,); ``None`` is no value, NaN is a bad value), the path of a log (CSV with a header, as Keras' and
            Lightning's ``CSVLogger`` write; JSON Lines; the JSON of a Keras ``History`` or of HF's
            ``trainer_state.json``; a folder or file of TensorBoard events), or the id of an MLflow run.
            Usual names are understood: ``loss``, ``training_loss``, ``train_loss_epoch``, ``validation_loss``, columns
            ``epoch`` and ``step``, a ``gradient_norm``, a learning rate. A log of any length is read in bounded memory.
        per: ``"epoch"`` or ``"step"``: what one value of the training loss stands for. ``None`` guesses from the index
            columns; the report's notes say what was guessed.
        monitor: The metric that overfitting and the best epoch look at.
        mode: ``"min"`` where lower is better, ``"max"`` where higher is.
        config: The run's hyperparameters, as far as known: they sharpen the diagnosis (``learning_rate``,
            ``optimizer``, ``momentum``, ``weight_decay``, ``batch_size``).
        columns: What columns are, where the guess is wrong: role to column, such as ``{"train_loss": "objective"}``.
            Roles: ``train_loss``, ``train_loss_step``, ``train_loss_epoch``, ``val_loss``, ``step``, ``epoch``,
            ``gradient_norm``, ``learning_rate``.
        tracking_uri: The MLflow store of a run id; ``None``: the one MLflow itself would use.
        min_delta: The least change of ``monitor`` that counts as improvement.
        detectors: ``"minimal"``, ``"standard"``, ``"full"`` or a list of detectors.
        ignore: Codes never to raise.

    Returns:
        The report: the status that MLflow has, else ``completed``, or ``failed`` where the training loss was not finite
        at the end. What the source does not say (times, resources, environment) stays empty.

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
    log = read(source, tracking_uri)
    course = None
    if log.names or not log.origin.mlflow_run_id:
        course = arrange(log, per, monitor, columns)
    # What the user says goes before what the source says.
    known = {**log.origin.config, **(config or {})}
    settings = replace(settings, config=known, monitor=monitor if course is None else course.monitor)
    replay = _Replay(settings, _facts(known, course))
    if course is None:
        for note in log.notes:
            replay.recorder.note(note)
    return replay.run(course, log.origin)


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
        self.loss: float | None = None  # the newest one

    def run(self, course: Course | None, origin: Origin) -> RunReport:
        """Go through the course and make the report."""
        self.recorder.start(self.facts, writes=False, mlflow_run_id=None, mlflow_tracking_uri=None)
        progress = Progress(duration_s=origin.duration_s)
        if course is not None:
            for note in course.notes:
                self.recorder.note(note)
            steps, epochs = self._replay(course)
            best = self.history.improvement
            if course.counts_validations and best.best_value is not None and epochs > 1:
                self.recorder.note(
                    f"An epoch in this report is a validation, counted from 0. The best {self.history.monitor}, "
                    f"{best.best_value:.4g}, is number {best.best_epoch}, at step {best.best_step:,}."
                )
            progress = Progress(steps=steps, optimizer_steps=steps, epochs=epochs, duration_s=origin.duration_s)
        status = origin.status or Status.COMPLETED
        if status is Status.COMPLETED and self.loss is not None and not math.isfinite(self.loss):
            status = Status.FAILED
        self.recorder.finish(status, progress)
        report = self.recorder.report(status, progress)
        # What was measured is this analysis, not the run.
        report.compute = Compute(used_h=origin.duration_s / 3600.0)
        report.overhead = Overhead()
        report.environment = {}
        report.run = replace(
            report.run,
            started_at="" if origin.started_at is None else origin.started_at.isoformat(timespec="milliseconds"),
            experiment=redact(origin.experiment),
            run_name=redact(origin.run_name),
            mlflow_run_id=origin.mlflow_run_id,
            mlflow_tracking_uri=redact(origin.mlflow_tracking_uri),
        )
        return report

    def _replay(self, course: Course) -> tuple[int, int]:
        """Show everything to the detectors; returns how many steps and epochs there were."""
        self._look(Event.RUN_START, -1, 0)
        every_steps = max(EVERY_STEPS, course.steps // MOST_LOOKS)
        every_epochs = max(1, course.epochs // MOST_LOOKS)
        losses, norms = self.history.step_series("loss"), self.history.step_series("gradient_norm")
        if course.per == "epoch":
            del self.history.steps["loss"], self.history.steps["gradient_norm"]
        steps = epochs = 0
        step, epoch = -1, 0
        waiting: Epoch | None = None  # the newest epoch that was not due: shown if it is the last
        for event in course.events():
            if isinstance(event, Epoch):
                epochs += 1
                step, epoch = max(step, event.step), event.epoch
                waiting = None if self._end_epoch(event, due=(epochs - 1) % every_epochs == 0) else event
                continue
            step, epoch, loss, norm = event
            bad = False
            if loss is not None:
                losses.append(step, loss)
                self.loss = loss
                bad = not math.isfinite(loss)
            if norm is not None:
                norms.append(step, norm)
                bad = bad or not math.isfinite(norm)
            if steps % every_steps == 0 or (bad and self._may_look_at_once()):
                self._look(Event.STEP, step, epoch)
            steps += 1
        if steps:
            self._look(Event.STEP, step, epoch)
        if waiting is not None:
            self._look(Event.EPOCH_END, waiting.step, waiting.epoch, waiting.metrics, self._validated(waiting))
        self._look(Event.RUN_END, step, epoch)
        return step + 1, epochs

    def _end_epoch(self, row: Epoch, *, due: bool) -> bool:
        """Take in an epoch; returns whether the detectors were asked."""
        for name, value in row.metrics.items():
            self.history.epoch_series(name).append(row.epoch, value)
        if "loss" not in self.history.steps:
            self.loss = row.metrics.get("train_loss", self.loss)
        if self.history.monitor in row.metrics:
            self.history.improvement.update(row.metrics[self.history.monitor], epoch=row.epoch, step=row.step)
        bad = not all(map(math.isfinite, row.metrics.values()))
        if due or (bad and self._may_look_at_once()):
            self._look(Event.EPOCH_END, row.step, row.epoch, row.metrics, self._validated(row))
            return True
        return False

    def _validated(self, row: Epoch) -> bool:
        return self.history.monitor in row.metrics or any(name.startswith("val") for name in row.metrics)

    def _may_look_at_once(self) -> bool:
        self.bad_looks += 1
        return self.bad_looks <= MOST_LOOKS_AT_ONCE

    def _look(
        self, event: Event, step: int, epoch: int, values: Mapping[str, float] | None = None, validated: bool = False
    ) -> None:
        # A step that only counts epochs or rows says nothing of how many updates there were.
        updates = step + 1 if step > epoch else 0
        observation = Observation(event, step, updates, epoch, values or {}, validated)
        found = look(self.detectors[event], observation, self.history, self.containment)
        for finding in self.episodes.take_in(found):
            self.recorder.add(finding)


def _facts(config: Mapping[str, Any], course: Course | None) -> Facts:
    """What the configuration and the log say about the optimizer and the batches."""
    facts = facts_of(config)
    if facts.optimizer.learning_rate is None and course is not None:
        facts.optimizer.learning_rate = course.learning_rate
    return facts
