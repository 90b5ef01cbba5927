"""One experiment from its start to its record."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from time import monotonic
from typing import Any, Literal

from failguard.core.containment import Containment
from failguard.core.event import Event
from failguard.core.exceptions import exception_facts
from failguard.core.finding import Finding, Severity, Status
from failguard.core.log import logger
from failguard.core.observation import ExceptionFacts, Observation
from failguard.core.redaction import redact
from failguard.core.statistics import TRAIN_LOSS_NAMES
from failguard.detectors.metric_non_finite import MetricNonFinite
from failguard.detectors.run_exception import RunException
from failguard.diagnosis.configuration import facts_of
from failguard.errors import TrainingFailure
from failguard.experiment.active_run import active_run, enclosing_run_id
from failguard.experiment.guards import GuardReports
from failguard.experiment.plan import Plan
from failguard.experiment.recorder import ExperimentRecorder, ExperimentSink
from failguard.experiment.returned import Returned, read_metrics
from failguard.experiment.seeds import set_seed
from failguard.report.run_report import Progress, RunReport
from failguard.resources.limits import MB
from failguard.sinks.base import Sink
from failguard.sinks.console import Console
from failguard.sinks.delivery import Delivery
from failguard.sinks.enclosing import enclosed_by
from failguard.sinks.files import LocalRecord
from failguard.sinks.mlflow_session import Session

__all__ = ["ExperimentRun"]

PROGRESS_EVERY_S = 10.0


class ExperimentRun:
    """One experiment while it runs: what ``with manager.experiment(...) as run`` gives.

    Attributes:
        config: As it was given.
        run_id: The MLflow run; ``None`` where the store cannot be reached, or nothing is to be written there.
    """

    def __init__(self, plan: Plan) -> None:
        self.config = plan.config
        self.run_id: str | None = None
        self._plan = plan
        self._guards = GuardReports(self._progress, self._nested)
        self._session: Session | None = None
        tags = dict(plan.tags)
        parent = enclosing_run_id(plan.tracking_uri)
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        settings = plan.settings(sinks=self._sinks(), tags=tags)
        self._recorder = ExperimentRecorder(settings, facts_of(plan.recorded_config()), lambda: self._guards.reports)
        self._monitor = plan.monitor()
        self._block = ExitStack()
        self._raised = False
        self._status = Status.RUNNING
        self._next_progress_at = monotonic() + PROGRESS_EVERY_S

    @property
    def report(self) -> RunReport:
        """The report so far, or the final one."""
        return self._recorder.report(Status.RUNNING, self._numbers())

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics. They are in the record and, under their own names, in MLflow.

        Args:
            metrics: Numbers by name; see :meth:`ExperimentManager.run_experiment` for what else.
            step: The step of single numbers; ``None``: one after the last of that name.
        """
        found = read_metrics(metrics)
        self._remark(found)
        for name, points in found.points.items():
            kept = self._recorder.metrics.setdefault(name, [])
            if len(points) == 1:
                at = step if step is not None else (kept[-1][0] + 1 if kept else 0)
                points = [(int(at), points[0][1])]
            kept.extend(points)
        if monotonic() > self._next_progress_at:
            self._progress()

    def log_metric(self, name: str, value: Any, step: int | None = None) -> None:
        """Record one metric; see :meth:`log_metrics`."""
        self.log_metrics({name: value}, step)

    def last_metrics(self) -> dict[str, float]:
        """The last value of each metric that was logged."""
        return {name: points[-1][1] for name, points in self._recorder.metrics.items()}

    def note(self, remark: str) -> None:
        """Add a remark to the report."""
        self._recorder.note(str(remark))

    # The life of an experiment. An error of failguard's own is contained: training goes on.

    def start(self) -> None:
        """Open the record and the MLflow run, and make the run the active one."""
        run, plan = self._recorder.containment.run, self._plan
        run("starting the record", self._start_record, _is_first_rank())
        run("memory", self._recorder.recall)
        self._recorder.training_begins()
        self._block.enter_context(self._monitor)
        self._block.enter_context(enclosed_by(self._guards))
        session = self._session
        if session is not None and session.run_id is not None:
            block = active_run(session.client, session.run_id, session.uri, has_failed=lambda: self._raised)
            run("the active run", self._block.enter_context, block)
        if plan.seed is not None:
            run("the seed", set_seed, plan.seed)
            if self._recorder.history.facts.config.get("seed") != plan.seed:
                self._recorder.note(f"The seed is {plan.seed}; that of the configuration was not set.")

    def finish(self, error: BaseException | None = None, returned: Returned | None = None) -> RunReport:
        """The experiment is over; the block in which guards and MLflow see it ends here.

        Args:
            error: What ended it.
            returned: What ``train_func`` returned.

        Returns:
            The final report, delivered.
        """
        run = self._recorder.containment.run
        run("the active run's end", self._leave, error)
        run("the resources", self._take_resources)
        if returned is not None:
            run("the metrics", self._take_metrics, returned)
        status = Status.COMPLETED
        if error is not None:
            status = run("the exception", self._take_error, error) or Status.FAILED
        self._status = status
        return self._recorder.report(status, self._numbers())

    def deliver(self, learnings: Mapping[str, Any]) -> RunReport:
        """Write the record. After :meth:`finish`.

        Args:
            learnings: What :meth:`ExperimentManager.analyze_failure` made of a failure.
        """
        recorder = self._recorder
        recorder.learnings = dict(redact(learnings))
        recorder.containment.run("the guards' records", self._guards.split)
        recorder.containment.run("the end of the record", recorder.finish, self._status, self._numbers())
        return recorder.report(self._status, self._numbers())

    def is_passed_through(self, error: BaseException) -> bool:
        """Whether an exception only ends the experiment, and is raised again: an interrupt, Optuna's pruning, or what
        the user has named.
        """
        pruned = getattr(sys.modules.get("optuna"), "TrialPruned", None)
        kinds = (*self._plan.pass_through, *((pruned,) if pruned is not None else ()))
        return isinstance(error, kinds) or exception_facts(error).interrupt

    # How it is done

    def _sinks(self) -> Literal["auto"] | Sequence[Sink]:
        plan = self._plan
        if plan.sinks != "auto":
            return plan.sinks
        sink = ExperimentSink(plan.project, plan.name, plan.tracking_uri, self._opened)
        return [LocalRecord(plan.record_dir), sink, Console()]

    def _opened(self, session: Session) -> None:
        self._session, self.run_id = session, session.run_id

    def _start_record(self, writes: bool) -> None:
        facts = self._recorder.history.facts
        self._recorder.start(facts, writes=writes, mlflow_run_id=None, mlflow_tracking_uri=self._plan.tracking_uri)

    def _leave(self, error: BaseException | None) -> None:
        self._raised = error is not None
        self._block.close()

    def _take_resources(self) -> None:
        monitor = self._monitor
        measured = dict(monitor.summary)
        increase_mb = monitor.peak_increase_mb
        if increase_mb is not None:
            measured["process_peak_increase_bytes"] = increase_mb * MB
        self._recorder.measured = measured
        for exceeded in monitor.exceeded:
            self._recorder.note(f"{exceeded[0].upper()}{exceeded[1:]}.")

    def _take_metrics(self, returned: Returned) -> None:
        self._remark(returned)
        self._recorder.metrics.update(returned.points)
        last = {name: points[-1][1] for name, points in self._recorder.metrics.items()}
        step, epoch = self._where()
        # The detector leaves a training loss to one that watches its course; here the last value is all there is.
        values = {f"final {name}" if name in TRAIN_LOSS_NAMES else name: value for name, value in last.items()}
        finding = MetricNonFinite().check(
            Observation(Event.EPOCH_END, step, epoch=epoch, values=values), self._recorder.history
        )
        if finding is not None:
            name = str(finding.where.tensor)
            message = f"The last value of the metric {name} is {values[name]}."
            self._recorder.add(replace(finding, message=message))

    def _take_error(self, error: BaseException) -> Status:
        facts = exception_facts(error)
        if isinstance(error, TrainingFailure):  # a guard's own word, whose report says why
            self._recorder.exception = facts
            self._guards.add(error.report)
            return Status.COMPLETED
        if self.is_passed_through(error):
            facts = replace(facts, interrupt=True)
        self._recorder.raised(facts)
        finding = self._finding(facts)
        if finding is not None:
            self._recorder.add(finding)
        return Status.INTERRUPTED if facts.interrupt else Status.FAILED

    def _finding(self, facts: ExceptionFacts) -> Finding | None:
        step, epoch = self._where()
        if not facts.interrupt:
            observation = Observation(Event.EXCEPTION, step, epoch=epoch, exception=facts)
            return RunException().check(observation, self._recorder.history)
        text = " ".join(facts.message.split())[:100]
        how = facts.type_name + (f" ({text})" if text else "")
        return Finding("run.interrupted", Severity.WARNING, step, epoch, f"The experiment was ended by {how}.")

    def _where(self) -> tuple[int, int]:
        """Step and epoch that training has come to, as far as a guard knows."""
        reports = self._guards.reports
        if not reports:
            return -1, 0
        return reports[-1].progress.steps - 1, max(reports[-1].progress.epochs - 1, 0)

    def _remark(self, found: Returned) -> None:
        for remark in found.remarks:
            if self._recorder.note(remark):
                logger.warning("failguard: %s", remark)

    def _numbers(self) -> Progress:
        return Progress(duration_s=self._recorder.duration_s)

    def _progress(self) -> None:
        self._next_progress_at = monotonic() + PROGRESS_EVERY_S
        self._recorder.containment.run("progress", self._recorder.progress, self._numbers())

    def _nested(self, report: RunReport, number: int) -> tuple[Delivery, RunReport]:
        """Where a guard's report goes that is not the experiment's only one."""
        plan = self._plan
        name = report.run.run_name or f"{plan.name}: training {number}"
        tags = {**plan.tags, **report.run.tags}
        if self.run_id is not None:
            tags["mlflow.parentRunId"] = self.run_id
        own = report.run
        run = replace(own, experiment=plan.project, run_name=name, tags={k: str(v) for k, v in tags.items()})
        run = replace(run, line=own.line or plan.line, parent=own.parent or plan.parent, config=own.config)
        sinks: list[Sink] = []
        if plan.sinks == "auto":
            sink = ExperimentSink(plan.project, name, plan.tracking_uri, lambda session: None)
            sinks = [LocalRecord(plan.record_dir), sink]
        delivery = Delivery(sinks, Containment())
        return delivery, replace(report, run=run)


def _is_first_rank() -> bool:
    """Whether this process writes. Launchers of several processes a run, such as torchrun's, number them like this."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))
