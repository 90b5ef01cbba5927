"""The orchestrator of one run: measured numbers in, decisions out, everything recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from failguard.accounting import Accounting
from failguard.core.codes import NON_FINITE_CODES
from failguard.core.containment import Containment
from failguard.core.decision import Action, Decision
from failguard.core.event import Event
from failguard.core.exceptions import exception_facts
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Status
from failguard.core.history import LEARNING_RATES, History
from failguard.core.host import Host, WritesCapsule
from failguard.core.improvement import Improvement
from failguard.core.internals import Internals
from failguard.core.log import logger
from failguard.core.observation import ExceptionFacts, Observation
from failguard.core.outcome import learning_is_bad, learning_is_poor
from failguard.detectors.look import by_event, look
from failguard.detectors.presets import detectors_for
from failguard.episodes import GATED, Episodes
from failguard.errors import TrainingFailure
from failguard.recorder import Recorder
from failguard.report.run_report import Progress, RunReport
from failguard.resources import RunWatch, available_memory_bytes
from failguard.settings import Settings
from failguard.verification import keep_and_verify

__all__ = ["Guard"]

PROGRESS_EVERY_S = 10.0
MEMORY_SHARE = 0.1  # of free memory that a copy of the weights may take
# After a stop for one of these the best epoch's weights are the ones worth having.
RESTORE_CODES = frozenset({"metric.no_improvement", "metric.overfitting"})


class Guard:
    """Watches one run. An adapter makes one for each ``fit`` and calls, in this order::

        start(facts)
        for each epoch:
            start_epoch(epoch)
            for each batch:
                record_loss(loss)
                if gradient_due: record_gradient(norm)   # or a sentinel's, see check_gradient
                if internals_due: record_internals(reading)
                if not allow_update(): drop the update
                end_batch()
            end_epoch(metrics, validated)
        fail(error)                                      # only when training raised
        finish()

    Where the step is compiled, ``record_rows`` takes many batches at once in place of the four calls.
    Nothing here knows a framework; what must be done to the training goes through the ``host``.

    Attributes:
        step: Index of the batch in progress, from 0 over the whole run.
        epoch: The epoch in progress, from 0.
        optimizer_steps: Updates applied so far.
        should_stop: failguard wants the run to end.
        failed_at: Step of the first finding at error or above.
        finished: The report is final.
        history, containment, accounting: What was measured, what failed, what it cost.
        resources: What the run uses. Adapters give it probes, folders and times.
    """

    def __init__(self, settings: Settings, host: Host, framework: str) -> None:
        self.settings = settings
        self.host = host
        self.containment = Containment()
        self.accounting = Accounting(settings.overhead_budget)
        self.history = History(monitor=settings.monitor, improvement=Improvement(settings.mode, settings.min_delta))
        self.step = 0
        self.epoch = 0
        self.optimizer_steps = 0
        self.should_stop = False
        self.failed_at: int | None = None
        self.finished = False
        self.resources = RunWatch(settings.resources, self.history)
        self._policy = settings.resolved_policy
        self._episodes = Episodes(settings.ignore)
        self._recorder = Recorder(settings, framework, self.history, self.containment, self.accounting, self.resources)
        self._detectors = by_event(detectors_for(settings))
        self._looks_inside = settings.detectors != "minimal"
        self._losses = self.history.step_series("loss")
        self._norms = self.history.step_series("gradient_norm")
        self._step_s = self.history.step_series("step_s")
        self._bad_value = False  # a value of the batch in progress is not finite
        self._said_monitor_missing = False
        self._ending = False  # too late to act
        self._hung: list[Finding] = []  # found by the watch, not decided on yet
        self._quiet_until: float = 0  # the step at whose end something is due
        self._drop = False  # the pending update must not be applied
        self._drops = 0
        self._loss_sum = 0.0
        self._loss_count = 0
        self._epochs_seen = 0
        self._keeps_weights = settings.keeps_best_weights
        self._has_saved_weights = False
        self._weights_check_s = 0.0
        self._weights_are_bad = False
        self._epoch_started_at = perf_counter()
        self._batch_ended_at = perf_counter()
        self._next_progress_at = perf_counter() + PROGRESS_EVERY_S

    # What happens, in the order of a run

    def start(
        self,
        facts: Facts,
        *,
        writes: bool = True,
        mlflow_run_id: str | None = None,
        mlflow_tracking_uri: str | None = None,
    ) -> None:
        """The run begins.

        Args:
            facts: What the adapter knows of the run. It may go on filling it in.
            writes: Whether this process writes records (rank 0).
            mlflow_run_id: Run of the framework's own MLflow logger.
            mlflow_tracking_uri: Its store.
        """
        started = perf_counter()
        self.history.facts = facts
        self._recorder.start(facts, writes=writes, mlflow_run_id=mlflow_run_id, mlflow_tracking_uri=mlflow_tracking_uri)
        folders = [self.settings.record_dir]
        self.containment.run("resource sampler", self.resources.start, folders, lambda: self.step, self._is_settling)
        if self._detectors[Event.IDLE]:
            self.containment.run(
                "watch for hangs", self.resources.watch_for_hangs, lambda: self._batch_ended_at, self._pause
            )
        if facts.model.trainable_parameters == 0:
            self.note("The model has no trainable parameters: nothing can be learned. Unfreeze or add parameters.")
        self._look(Event.RUN_START)
        self._recorder.recall()
        self._batch_ended_at = perf_counter()
        self.accounting.once_s += self._batch_ended_at - started

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins."""
        self.epoch = epoch
        self._loss_sum, self._loss_count = 0.0, 0
        self._epoch_started_at = self._batch_ended_at = perf_counter()

    def spent(self, phase: str, seconds: float | None = None) -> None:
        """Time between two batches that is no part of a step.

        Args:
            phase: ``"validation"``, ``"checkpoint"`` or ``"startup"``.
            seconds: How long; ``None``: since the end of the last batch.
        """
        now = perf_counter()
        seconds = now - self._batch_ended_at if seconds is None else seconds
        self.resources.times.add(phase, seconds)
        self._batch_ended_at = min(self._batch_ended_at + seconds, now)

    @property
    def gradient_due(self) -> bool:
        """Whether the norm over all gradients should be taken for the batch in progress."""
        return self.accounting.gradients.due(self.step)

    def record_loss(self, loss: float) -> None:
        """The training loss of the batch in progress, undivided by accumulation. Once per batch."""
        self._losses.append(self.step, loss)
        if math.isfinite(loss):
            self._loss_sum += loss
            self._loss_count += 1
        else:
            self._bad_value = True

    def record_gradient(self, norm: float, cost_s: float = 0.0) -> None:
        """The global L2 norm over all gradients of the pending update, unclipped and unscaled.

        Args:
            norm: NaN or Inf where a gradient really is not finite (an overflow of the norm itself is the adapter's to
                tell apart).
            cost_s: What taking it cost, for the cadence.
        """
        self._norms.append(self.step, norm)
        self.accounting.gradients.ran(self.step, cost_s, self.typical_step_s)
        if not math.isfinite(norm):
            self._bad_value = True

    def check_gradient(self, norm: float) -> None:
        """The norm of a sentinel gradient: recorded only if it is not finite."""
        if not math.isfinite(norm):
            self._norms.append(self.step, norm)
            self._bad_value = True

    def allow_update(self) -> bool:
        """Whether the pending update may be applied. Call after the loss and gradients were recorded.

        Returns:
            ``False``: drop it (gradients to None). :meth:`Host.apply` was called with the decision before.
        """
        if self._bad_value:
            self._bad_value = False
            self._look(Event.STEP)
            # A framework may take some steps to stop (min_epochs, ranks that agree): bad updates stay out till then.
            self._drop = self._drop or (self.should_stop and self._policy.acts)
        if self._drop:
            self._drop = False
            self._count_drops(1, "The update of this step was kept from the weights.")
            return False
        self.optimizer_steps += 1
        return True

    def record_fine_batch(self, loss: float) -> None:
        """As :meth:`record_loss` and :meth:`allow_update`, for a loss and gradients that are known to be finite.

        Nearly every step is like that, and this is the shortest way through it. Not where the run is to stop.
        """
        self._losses.append(self.step, loss)
        self._loss_sum += loss
        self._loss_count += 1
        self.optimizer_steps += 1

    def end_quiet_batch(self) -> bool:
        """As :meth:`end_batch`, for a batch at whose end nothing is due.

        Returns:
            ``False``: something is; nothing was done, and :meth:`end_batch` must be called.
        """
        step = self.step
        if step >= self._quiet_until or self._hung or self._bad_value:
            return False
        now = perf_counter()
        self._step_s.append(step, now - self._batch_ended_at)
        self._batch_ended_at = now
        self.step = step + 1
        return True

    def end_batch(self, step_s: float | None = None) -> None:
        """The batch in progress is over. Runs the per-step detectors when they are due.

        Args:
            step_s: What it took, in seconds; ``None``: the time since the last.
        """
        now = perf_counter()
        self._step_s.append(self.step, now - self._batch_ended_at if step_s is None else step_s)
        self._batch_ended_at = now
        step = self.step
        if step >= self.resources.next_step:
            self.containment.run("memory at steps", self.resources.end_step, step)
        if self._bad_value:  # a loss that no update followed, as under accumulation
            self._bad_value = False
            self._look(Event.STEP)
        elif self.accounting.detectors.due(step) or self._hung:
            self._look(Event.STEP)
            self.accounting.detectors.ran(step, perf_counter() - now, self.typical_step_s)
            if now > self._next_progress_at:
                self._tick()
        self._quiet_until = min(self.resources.next_step, self.accounting.detectors.next_step)
        self.step = step + 1

    def record_rows(self, losses: Sequence[float], norms: Sequence[float], *, dropped: int = 0) -> None:
        """Take in batches that a compiled step has already run, oldest first, and look at them.

        Args:
            losses: One loss a batch, shape (n,).
            norms: One global gradient norm a batch, shape (n,); empty where there is none.
            dropped: Updates among them that the step kept from the weights.
        """
        n = len(losses)
        if n == 0:
            return
        now = perf_counter()
        step_s = (now - self._batch_ended_at) / n
        self._batch_ended_at = now
        first = self.step
        total = sum(losses)
        if math.isfinite(total + sum(norms)):
            self._losses.extend(first, losses)
            self._norms.extend(first, norms)
            self._step_s.extend(first, [step_s] * n)
            self._loss_sum += total
            self._loss_count += n
            self.step = first + n - 1
        else:
            self._record_bad_rows(losses, norms, step_s)
        if self.step >= self.resources.next_step:
            self.containment.run("memory at steps", self.resources.end_step, self.step)
        self.optimizer_steps += n - dropped
        if dropped:
            self._count_drops(dropped, f"The compiled step kept {dropped} update(s) from the weights.")
        if self.accounting.detectors.due(self.step) or self._hung:
            self._look(Event.STEP)
            self.accounting.detectors.ran(self.step, perf_counter() - now, self.typical_step_s)
            if now > self._next_progress_at:
                self._tick()
        self.step = first + n

    def _record_bad_rows(self, losses: Sequence[float], norms: Sequence[float], step_s: float) -> None:
        """Rows of which some are not finite: each is looked at with its own step number."""
        first = self.step
        for i in range(len(losses)):
            self.step = first + i
            self.record_loss(float(losses[i]))
            if i < len(norms):
                self._norms.append(self.step, norms[i])
                self._bad_value = self._bad_value or not math.isfinite(norms[i])
            self._step_s.append(self.step, step_s)
            if self._bad_value:
                self._bad_value = False
                self._look(Event.STEP)
                self._drop = False

    @property
    def internals_due(self) -> bool:
        """Whether the adapter should look inside the model at the batch in progress."""
        return self._looks_inside and self.accounting.internals.due(self.step)

    def record_internals(self, reading: Internals, cost_s: float = 0.0) -> None:
        """Take in one sample of what goes on inside. The per-step detectors look at it when they are due next.

        Args:
            reading: The sample.
            cost_s: What taking it cost, for the cadence.
        """
        self.history.add_internals(reading)
        self.accounting.internals.ran(self.step, cost_s, self.typical_step_s)

    def record_loss_scale(self, scale: float) -> None:
        """The factor of a mixed-precision loss scaler at the batch in progress. Now and then is enough."""
        self.history.step_series("loss_scale").append(self.step, scale)

    def report_data(self, finding: Finding) -> None:
        """Take in a finding about the data that the adapter has read from a batch."""
        self._raise_findings([finding])

    def end_epoch(self, metrics: Mapping[str, float], *, validated: bool) -> None:
        """The epoch is over, its validation included.

        Args:
            metrics: Everything that was logged for the epoch, plain floats.
            validated: Whether there was a validation.
        """
        named = {name: float(value) for name, value in metrics.items()}
        if self._loss_count:
            named["train_loss"] = self._loss_sum / self._loss_count
        for name, value in named.items():
            self.history.epoch_series(name).append(self.epoch, value)
        if not any(name in named for name in LEARNING_RATES):
            rate = self.containment.run("learning rate", self.host.learning_rate)
            if rate is not None:
                self.history.epoch_series("learning_rate").append(self.epoch, rate)
        last_step = self.step - 1
        monitor = self.settings.monitor
        if monitor in named and (validated or not monitor.startswith("val")):
            if self.history.improvement.update(named[monitor], epoch=self.epoch, step=last_step):
                self._save_weights()
        elif monitor not in named and self._monitor_is_due(validated):
            self._say_monitor_missing(named, validated)
        values = dict(named)
        bad_weights = self._count_bad_weights()
        if bad_weights is not None:
            values["non_finite_weights"] = float(bad_weights)
        self._epochs_seen += 1
        if self.history.first_epoch_end is None:
            self.history.first_epoch_end = self.step
        self._look(Event.EPOCH_END, values=values, validated=validated, step=last_step)
        if perf_counter() > self._next_progress_at:
            self._progress()

    def fail(self, error: BaseException) -> None:
        """Training raised, or was interrupted. The caller re-raises."""
        if self.finished or isinstance(error, TrainingFailure):
            return
        self._ending = True
        facts = self._recorder.raised(exception_facts(error))
        self._look(Event.EXCEPTION, exception=facts)

    def finish(self) -> None:
        """The run is over: verify and restore weights, write the report. Further calls do nothing."""
        if self.finished:
            return
        self._ending = True
        # Each part by itself, so that the record is written and the threads end whatever else fails.
        self.containment.run("last look", self._look, Event.RUN_END, step=self.step - 1)
        self.finished = True
        self.containment.run("settling the weights", self._settle_weights)
        if self._drops > 1:
            self._recorder.note(f"{self._drops:,} updates in all were kept from the weights.")
        self._recorder.finish(self._status(), self._progress_numbers(), before_delivery=self._verify)

    # What others may ask

    @property
    def report(self) -> RunReport:
        """The report so far, or the final one."""
        return self._recorder.report(self._status() if self.finished else Status.RUNNING, self._progress_numbers())

    @property
    def typical_step_s(self) -> float:
        """Median time of the newest steps in seconds, 0 before the first."""
        recent = self._step_s.recent(32)
        return float(sorted(recent)[len(recent) // 2]) if len(recent) else 0.0

    def failure(self) -> TrainingFailure | None:
        """The error that ``raise_on_failure`` asks for, if the run failed and nothing else was raised."""
        report = self.report
        is_asked_for = any(f.code in self.settings.raising for f in report.findings)
        if not (self.settings.raise_on_failure or is_asked_for):
            return None
        if report.exception is not None or not report.failing:
            return None
        return TrainingFailure(report.diagnosis.summary, report)

    def note(self, remark: str) -> None:
        """Add a remark to the report, and say it once in the log."""
        if self._recorder.note(remark):
            logger.warning("failguard: %s", remark)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "version": 1,
            "step": self.step,
            "epoch": self.epoch,
            "optimizer_steps": self.optimizer_steps,
            "epochs_seen": self._epochs_seen,
            "monitor": [self.settings.monitor, self.settings.mode],
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint. Call before :meth:`start`.

        Findings are not carried over: a symptom that is still there is found again, in the report of this run.
        """
        self.step = int(state["step"])
        self.epoch = int(state["epoch"])
        self.optimizer_steps = int(state["optimizer_steps"])
        self._epochs_seen = int(state["epochs_seen"])
        self.history.load_state_dict(state["history"])
        if list(state["monitor"]) != [self.settings.monitor, self.settings.mode]:
            self.history.improvement = Improvement(self.settings.mode, self.settings.min_delta)
        self._losses = self.history.step_series("loss")
        self._norms = self.history.step_series("gradient_norm")
        self._step_s = self.history.step_series("step_s")
        self.accounting.gradients.restart(self.step)
        self.accounting.detectors.restart(self.step)
        self.accounting.internals.restart(self.step)
        self._quiet_until = self.step
        self._recorder.resumed_at_step = self.step

    # How it is done

    def _look(
        self,
        event: Event,
        *,
        values: Mapping[str, float] | None = None,
        validated: bool = False,
        step: int | None = None,
        exception: ExceptionFacts | None = None,
    ) -> None:
        """Run the detectors of an event, record what is new, decide, act."""
        self.containment.run("resource readings", self.resources.take_in)
        if self._hung:  # it goes on after all
            hung, self._hung = self._hung, []
            self._decide(hung)
        observation = Observation(
            event=event,
            step=self.step if step is None else step,
            optimizer_step=self.optimizer_steps,
            epoch=self.epoch,
            values=values or {},
            validated=validated,
            exception=exception,
        )
        found = look(self._detectors[event], observation, self.history, self.containment)
        if found:
            # Asked only where it matters: nearly every look finds nothing.
            gated = any(f.code in GATED for f in found)
            is_bad = gated and self.containment.run("outcome", learning_is_bad, observation, self.history)
            is_poor = gated and self.containment.run("outcome", learning_is_poor, observation, self.history)
            self._raise_findings(found, learning_is_bad=bool(is_bad), learning_is_poor=bool(is_poor))

    def _is_settling(self) -> bool:
        return self._recorder.is_settling

    def _pause(self, values: Mapping[str, float]) -> bool:
        """Nothing moves. On the thread of the watch, so it records and tells, and leaves the training alone.

        Returns:
            Whether it was found to hang. What the policy says is done at the next step, if there is one.
        """
        limits = self.resources.limits
        more = {"steps": float(self.step), "ranks": float(self.history.facts.world_size)}
        if limits is not None and limits.hang_after_s is not None:
            more["hang_after_s"] = limits.hang_after_s
        observation = Observation(Event.IDLE, self.step, self.optimizer_steps, self.epoch, values={**values, **more})
        found = look(self._detectors[Event.IDLE], observation, self.history, self.containment)
        if not found or self.finished:
            return False
        place = self.containment.run("stacks", self.resources.note_hang, self.step, values["idle_s"])
        if place is not None:
            found = [replace(f, message=f"{f.message} The training thread is in {place}.") for f in found]
        for finding in self._episodes.take_in(found):
            self._recorder.add(finding)
            self._hung.append(finding)
        self._recorder.progress(self._progress_numbers())
        return True

    def _raise_findings(self, found: list[Finding], **outcome: bool) -> None:
        """Record what is new among findings, decide on it, act."""
        raised = [self._located(f) for f in self._episodes.take_in(found, **outcome)]
        if not raised:
            return
        for finding in raised:
            self._recorder.add(finding)
            if self.failed_at is None and finding.severity.rank >= Severity.ERROR.rank:
                self.failed_at = max(finding.step, 0)
        self._decide(raised)
        self._progress()

    def _decide(self, raised: Sequence[Finding]) -> None:
        if not self.should_stop and not self._ending:
            decision = self._policy.decide(raised)
            if decision.action is Action.STOP:
                self._stop(decision)

    def _located(self, finding: Finding) -> Finding:
        """The finding with its place, where looking again at the failing batch gives one."""
        if finding.code.startswith("resource."):
            return self._explained(finding)
        if finding.code not in NON_FINITE_CODES or finding.code == "metric.non_finite":
            return finding
        where = self.containment.run("locating the value", self.host.locate, finding)
        return finding if where is None else replace(finding, where=where)

    def _explained(self, finding: Finding) -> Finding:
        """The finding with what the framework knows of its reasons."""
        explain = getattr(self.host, "explain", None)
        more = None if explain is None else self.containment.run("explaining a finding", explain, finding)
        return replace(finding, evidence={**finding.evidence, **more}) if more else finding

    def _stop(self, decision: Decision) -> None:
        self.should_stop = True
        finding = decision.finding
        self._drop = finding is not None and finding.code in NON_FINITE_CODES
        self._recorder.stop_code = None if finding is None else finding.code
        self._recorder.act("stop", self.step, self.epoch, decision.reason)
        self.containment.run("stopping the run", self.host.apply, decision)

    def _count_drops(self, updates: int, reason: str) -> None:
        """Updates were kept from the weights. One action stands for all of them; a run may drop every one."""
        if self._drops == 0:
            self._recorder.act("drop_update", self.step, self.epoch, reason)
        self._drops += updates

    def _save_weights(self) -> None:
        """Keep the weights of the best epoch, if they are wanted and memory allows."""
        if not self._keeps_weights:
            return
        if not self._has_saved_weights:
            needed = self.containment.run("best weights", self.host.weights_bytes) or 0
            free = available_memory_bytes()
            if free is not None and needed > MEMORY_SHARE * free:
                self._keeps_weights = False
                self.note(
                    f"The best weights are not kept: a copy takes {needed / 1e6:,.0f} MB, more than "
                    f"{MEMORY_SHARE:.0%} of the {free / 1e6:,.0f} MB of free memory. Use a checkpoint callback instead."
                )
                return
            self._recorder.snapshot_bytes = needed
        self.containment.run("best weights", self.host.save_weights)
        self._has_saved_weights = not self.containment.retired("best weights")

    def _count_bad_weights(self) -> int | None:
        """Number of parameters that are not finite; ``None`` when looking would exceed the budget."""
        now = perf_counter()
        epoch_s = now - self._epoch_started_at
        if self._weights_check_s > self.accounting.budget * epoch_s:
            return None
        names = self.containment.run("weights check", self.host.non_finite_weights)
        self._weights_check_s = perf_counter() - now
        return None if names is None else len(names)

    def _settle_weights(self) -> None:
        """Put the best weights back where that was asked for, and never leave bad ones unnamed."""
        stopped_on = self._recorder.stop_code
        wanted = self.should_stop and self._keeps_weights and stopped_on in RESTORE_CODES
        if self.should_stop or self._recorder.has(NON_FINITE_CODES):
            names = self.containment.run("weights check", self.host.non_finite_weights) or []
        else:
            names = []
        may_act = self._policy.acts
        if (wanted or (names and may_act)) and self._has_saved_weights:
            best = self.history.improvement
            self.containment.run("restoring the best weights", self.host.restore_weights)
            if not self.containment.retired("restoring the best weights"):
                reason = f"Weights of epoch {best.best_epoch} ({self.settings.monitor} {best.best_value:.6g}) are back."
                self._recorder.act("restore_best_weights", self.step - 1, self.epoch, reason)
                names = []
        elif wanted and self._recorder.resumed_at_step is not None:
            self.note(
                f"The best weights, of epoch {self.history.improvement.best_epoch}, are from before this run was "
                "resumed: take them from its checkpoint."
            )
        self._weights_are_bad = bool(names)
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            self.note(f"The weights are not finite: {shown}. Go back to a checkpoint.")

    def _verify(self, report: RunReport) -> None:
        """Keep what it takes to train some steps of a failed run again, and try the remedies on it."""
        how, host = self.settings.verify_remedies, self.host
        if how and report.failing and isinstance(host, WritesCapsule):
            keep_and_verify(report, host, self.failed_at, runs_trials=how is True)

    def _status(self) -> Status:
        exception = self._recorder.exception
        if exception is not None:
            return Status.INTERRUPTED if exception.interrupt else Status.FAILED
        if self._weights_are_bad:
            return Status.FAILED
        return Status.STOPPED if self.should_stop else Status.COMPLETED

    def _monitor_is_due(self, validated: bool) -> bool:
        """Whether the monitored metric should have been seen by now, and its absence was not said yet."""
        if not self.settings.monitor_is_named or self._said_monitor_missing:
            return False
        waits = self.settings.monitor.startswith("val") and not validated and self.history.facts.validates
        self._said_monitor_missing = not waits
        return not waits and self.settings.monitor not in self.history.epochs

    def _say_monitor_missing(self, named: Mapping[str, float], validated: bool) -> None:
        exist = ", ".join(sorted(named)) or "none"
        remedy = "Log it, or name one of these" if named else "Log it"
        if self.settings.monitor.startswith("val") and not validated:
            remedy = "There was no validation in this epoch: pass validation data, or name a training metric"
        self.note(
            f"monitor={self.settings.monitor!r} is not among the metrics of epoch {self.epoch} ({exist}). {remedy}; "
            "until it appears, early stopping and overfitting checks rest."
        )

    def _progress(self) -> None:
        self._next_progress_at = perf_counter() + PROGRESS_EVERY_S
        self._recorder.progress(self._progress_numbers())

    def _tick(self) -> None:
        """What need not be done more often."""
        self._progress()
        self._look(Event.TICK)

    def _progress_numbers(self) -> Progress:
        return Progress(
            steps=self.step,
            optimizer_steps=self.optimizer_steps,
            epochs=self._epochs_seen,
            planned_steps=self.history.facts.planned_steps,
            duration_s=self._recorder.duration_s,
        )
