"""The flight recorder: keeps what happened in one run and makes the report that sinks deliver."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter, time
from typing import Any, ClassVar

from failguard.accounting import Accounting
from failguard.core.containment import Containment
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Status
from failguard.core.history import History
from failguard.core.log import logger
from failguard.core.observation import ExceptionFacts
from failguard.core.redaction import redact, redact_text
from failguard.core.run_info import RunInfo
from failguard.diagnosis import diagnose, fingerprint
from failguard.diagnosis.exceptions import classify
from failguard.episodes import root_of
from failguard.report.advice import advice
from failguard.report.run_report import ActionTaken, Compute, Progress, RunReport
from failguard.resources import RunWatch, environment
from failguard.resources.bill import bill
from failguard.runs.memory import Memory
from failguard.runs.memory_sink import MemorySink
from failguard.runs.recall import CODE as REPEAT
from failguard.runs.recall import Recollection
from failguard.settings import Settings
from failguard.sinks.base import Sink
from failguard.sinks.enclosing import Deliverer, delivery_of
from failguard.sinks.files import LocalRecord
from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.rank_errors import first_error, leave_error

__all__ = ["Recorder"]


class Recorder:
    """Collects findings, actions and remarks of one run.

    Attributes:
        exception: What training raised.
        resumed_at_step: The step at which the run goes on from a checkpoint, ``None`` for a new run.
        stop_code: Code of the finding that ended the run, ``None`` while it runs.
    """

    is_experiment: ClassVar[bool] = False

    def __init__(
        self,
        settings: Settings,
        framework: str,
        history: History,
        containment: Containment,
        accounting: Accounting,
        resources: RunWatch,
    ) -> None:
        self._settings = settings
        self._framework = framework
        self._history = history
        self._containment = containment
        self._accounting = accounting
        self._resources = resources
        self._findings: list[Finding] = []
        self._seen_after_s: dict[str, float] = {}
        self._actions: list[ActionTaken] = []
        self._notes: list[str] = []
        self._delivery: Deliverer | None = None
        self._memory: Memory | None = None
        self._started_at = perf_counter()
        self._started_wall_s = time()
        self._ended_at: float | None = None
        self._final: RunReport | None = None
        self._run = RunInfo(record_id="", started_at="", framework=framework)
        self._environment: dict[str, object] = {}
        self.exception: ExceptionFacts | None = None
        self.resumed_at_step: int | None = None
        self.stop_code: str | None = None
        self.snapshot_bytes = 0

    def start(self, facts: Facts, *, writes: bool, mlflow_run_id: str | None, mlflow_tracking_uri: str | None) -> None:
        """The run begins: name it, start delivery."""
        settings = self._settings
        now = datetime.now(UTC).astimezone()
        facts.config = config = self._copied("config", facts.config if settings.config is None else settings.config)
        facts.patience = settings.patience
        self._started_at = perf_counter()
        self._run = RunInfo(
            record_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
            started_at=now.isoformat(timespec="milliseconds"),
            framework=self._framework,
            experiment=redact(settings.experiment),
            run_name=redact(settings.run_name),
            hypothesis=redact(settings.hypothesis),
            approach=redact(settings.approach),
            line=redact(settings.line),
            parent=redact(settings.parent),
            tags={k: str(v) for k, v in self._copied("tags", settings.tags).items()},
            config=config,
            mlflow_run_id=mlflow_run_id,
            mlflow_tracking_uri=redact(mlflow_tracking_uri),
            resumed=self.resumed_at_step is not None,
            is_experiment=self.is_experiment,
        )
        self._environment = self._containment.run("environment", environment) or {}
        if writes:
            self._delivery = self._deliverer()
            first = self.report(Status.RUNNING, Progress(planned_steps=facts.planned_steps))
            # Only the sink that connects gets the address with user info, if there is any in it.
            first.run = replace(self._run, mlflow_tracking_uri=mlflow_tracking_uri)
            self._delivery.start(first)
            if self._memory is not None:
                self._containment.run("memory", self._memory.start, first, self._announce)

    @property
    def is_settling(self) -> bool:
        """Whether what delivers the record is still being set up, so that memory grows for that."""
        return bool(getattr(self._delivery, "is_settling", False))

    @property
    def duration_s(self) -> float:
        """Seconds since the start, or from start to end."""
        return (self._ended_at or perf_counter()) - self._started_at

    def add(self, finding: Finding) -> None:
        """Record a finding. One that confirms an earlier suspicion takes its place."""
        self._seen_after_s.setdefault(finding.code, self.duration_s)
        for i, earlier in enumerate(self._findings):
            if earlier.code == finding.code:
                evidence = {**finding.evidence, "first_seen_step": float(earlier.step)}
                self._findings[i] = replace(finding, evidence=evidence)
                return
        self._findings.append(finding)

    def has(self, codes: Collection[str]) -> bool:
        """Whether one of these was found."""
        return any(f.code in codes for f in self._findings)

    def act(self, what: str, step: int, epoch: int, reason: str) -> None:
        """Record something that was done to the run."""
        self._actions.append(ActionTaken(what, step, epoch, redact_text(reason)))

    def note(self, remark: str) -> bool:
        """Record a remark.

        Returns:
            Whether it is new.
        """
        remark = redact_text(remark)
        if remark in self._notes:
            return False
        self._notes.append(remark)
        return True

    def raised(self, exception: ExceptionFacts) -> ExceptionFacts:
        """Training raised. A rank that lost the others looks for the error of the one that failed first.

        Returns:
            The exception that explains the end of the run.
        """
        self.exception = exception
        writes_files = not (isinstance(self._settings.sinks, Sequence) and not self._settings.sinks)
        if self._history.facts.world_size > 1 and writes_files and not exception.interrupt:
            if self._delivery is None:
                leave_error(self._settings.record_dir, exception)
            elif classify(exception)[0].cause == "network_or_collective_failure":
                first = first_error(self._settings.record_dir, self._started_wall_s)
                if first is not None:
                    rank, self.exception = first
                    self.note(f"Rank {rank} failed first; this rank then raised {exception.type_name}.")
        return self.exception

    def recall(self) -> None:
        """Give what is known of configurations like this one a moment to come before training begins."""
        if self._memory is not None:
            self._memory.wait()

    def progress(self, numbers: Progress) -> None:
        """Hand the report so far to the sinks."""
        if self._delivery is not None:
            self._delivery.progress(self.report(Status.RUNNING, numbers))

    def finish(
        self,
        status: Status,
        numbers: Progress,
        before_delivery: Callable[[RunReport], None] | None = None,
    ) -> None:
        """The run is over: stop sampling, make the final report, deliver it.

        Args:
            status: How it ended.
            numbers: How far it came.
            before_delivery: Completes the report.
        """
        self._ended_at = perf_counter()
        self._containment.run("stopping the sampler", self._resources.stop)
        for exceeded in self._resource_summary().get("limits_exceeded", ()):
            if self.note(exceeded):
                logger.warning("failguard: %s", exceeded)
        report = self.report(status, numbers)
        if self._memory is not None:
            self._containment.run("memory", self._recall_failure, self._memory, report)
        if before_delivery is not None:
            self._containment.run("verifying remedies", before_delivery, report)
            report.part_errors = list(self._containment.errors)
        self._final = report
        if self._delivery is not None:
            self._delivery.finish(report)

    def report(self, status: Status, numbers: Progress) -> RunReport:
        """The report so far, or the final one."""
        if self._final is not None:
            return self._final
        facts = self._history.facts
        facts = replace(facts, notes=[*map(redact_text, facts.notes)])  # the adapter goes on filling in the original
        findings = list(self._findings)
        root = root_of(findings)
        best = self._history.improvement
        report = RunReport(
            run=self._run,
            status=status,
            findings=findings,
            root=root,
            seen_after_s=dict(self._seen_after_s),
            actions=list(self._actions),
            progress=numbers,
            compute=self._compute(status, numbers),
            overhead=self._accounting.overhead(self.duration_s, self.snapshot_bytes),
            resources=self._resource_summary(),
            facts=facts,
            exception=self.exception,
            environment={**self._environment, "packages": dict(facts.versions)},
            best={}
            if best.best_value is None
            else {
                "monitor": self._history.monitor,
                "mode": best.mode,
                "value": best.best_value,
                "epoch": best.best_epoch,
                "step": best.best_step,
            },
            notes=[*self._notes, *facts.notes],
            history=list(self._history.rows()),
            locations={} if self._delivery is None else self._delivery.locations(),
        )
        diagnosis = self._containment.run(
            "diagnosis", diagnose, findings, root, self._history, self.exception, report.resources
        )
        if diagnosis is not None:
            report.diagnosis = diagnosis
        if report.resources:
            self._containment.run("the bill", self._add_bill, report)
        if report.failing:
            report.fingerprint = self._containment.run(
                "fingerprint", fingerprint, root, report.diagnosis, self.exception, facts
            )
        report.part_errors = list(self._containment.errors)
        return report

    def _deliverer(self) -> Deliverer:
        """Where the reports of this run go."""
        return delivery_of(self._settings, self._containment, self._remembering)

    def _remembering(self, sinks: Sequence[Sink]) -> list[Sink]:
        """Make the memory of this run, where there is a record of runs to remember."""
        options = self._settings.failure_memory
        mlflow = next((s for s in sinks if isinstance(s, MlflowSink)), None)
        local = next((s for s in sinks if isinstance(s, LocalRecord)), None)
        if options is None or (mlflow is None and local is None):
            return []
        self._memory = Memory(options, mlflow, local, self._containment)
        return [MemorySink(mlflow, local, self._containment)]

    def _announce(self, found: Recollection) -> None:
        """Configurations like this one failed before. On a thread of the memory's, perhaps after training began."""
        if self._final is None and REPEAT not in self._settings.ignore:
            logger.warning("failguard: %s", found.message)
            self.add(Finding(REPEAT, Severity.INFO, -1, 0, redact_text(found.message), evidence=found.evidence))

    def _recall_failure(self, memory: Memory, report: RunReport) -> None:
        """Say so where a failure is one that was seen before. It explains nothing, so it comes after the root."""
        if memory.problem is not None:
            report.notes.append(redact_text(memory.problem))
        if not report.failing:
            return
        found, root = memory.seen_before(report), report.root
        rows = [] if found is None else list(found.runs)
        if memory.announced is not None and root is not None:
            known = {row["run_id"] for row in rows}
            why = {root.code, report.diagnosis.likely_cause} - {None}
            alike = [row for row in memory.announced.runs if not why.isdisjoint((row["finding"], row["cause"]))]
            rows += [row for row in alike if row["run_id"] not in known]
        report.similar_runs = rows
        if found is not None and REPEAT not in self._settings.ignore:
            step, epoch = (report.progress.steps - 1, 0) if root is None else (root.step, root.epoch)
            message = redact_text(found.message)
            repeat = Finding(REPEAT, Severity.WARNING, step, epoch, message, evidence=found.evidence)
            self.add(repeat)
            # The report may hold more findings than these: those of the guards in an experiment.
            report.findings = [*(f for f in report.findings if f.code != REPEAT), repeat]
            report.seen_after_s = {**report.seen_after_s, **self._seen_after_s}

    def _add_bill(self, report: RunReport) -> None:
        """What the run cost, and what would make it cost less."""
        limits, compute = self._resources.limits, report.compute
        wasted_h, used_h = compute.wasted_h, compute.used_h
        report.resources["bill"] = bill(
            report.resources,
            report.progress.duration_s,
            wasted_share=None if wasted_h is None or used_h <= 0 else wasted_h / used_h,
            saved_s=None if compute.saved_h is None else compute.saved_h * 3600.0,
            price_per_gpu_hour=None if limits is None else limits.price_per_gpu_hour,
            flops_per_step=None if limits is None else limits.flops_per_step,
            emissions_country=None if limits is None else limits.emissions_country,
        )
        report.resources["advice"] = advice(report)

    def _resource_summary(self) -> dict[str, Any]:
        watch = self._resources
        failguard_s = self._accounting.total_s
        found = self._containment.run("resource summary", watch.summary, self.duration_s, failguard_s) or {}
        if watch.sampler is not None and watch.sampler.error is not None:  # what was sampled before stays
            self._containment.record("resource sampling", watch.sampler.error)
        return found

    def _copied(self, name: str, values: Mapping[str, Any] | None) -> dict[str, Any]:
        """A plain copy of a mapping of the user's, without secrets."""
        copied = redact(values if values is not None else {})
        if isinstance(copied, dict):
            return copied
        self.note(f"{name} could not be read and was left out: {type(values).__name__} raised.")
        return {}

    def _compute(self, status: Status, numbers: Progress) -> Compute:
        """Hours used, wasted (after the last weights worth keeping) and saved (the rest of the plan, at this pace)."""
        used_h = numbers.duration_s / 3600.0
        saved_h = wasted_h = None
        steps = numbers.steps - (self.resumed_at_step or 0)  # of this session
        if steps > 0:
            h_per_step = used_h / steps
            if status is Status.STOPPED and numbers.steps_saved is not None:
                saved_h = numbers.steps_saved * h_per_step
            if status in (Status.STOPPED, Status.FAILED):
                best_step = self._history.improvement.best_step
                kept_steps = 0 if best_step is None else best_step + 1
                wasted_h = min(max(numbers.steps - kept_steps, 0), steps) * h_per_step
            elif status is Status.COMPLETED:
                wasted_h = 0.0
        return Compute(used_h=used_h, wasted_h=wasted_h, saved_h=saved_h)
