"""The report of one run: everything that sinks write and people read, as plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from failguard.core.containment import PartError
from failguard.core.diagnosis import Diagnosis
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Status
from failguard.core.observation import ExceptionFacts
from failguard.core.run_info import RunInfo

__all__ = ["ActionTaken", "Compute", "Overhead", "Progress", "RunReport"]


@dataclass(frozen=True, slots=True)
class ActionTaken:
    """Something failguard did to the run.

    Attributes:
        what: ``"stop"``, ``"drop_update"``, ``"restore_best_weights"``, ...
        step, epoch: When.
        reason: Why, in one sentence.
    """

    what: str
    step: int
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run came. ``planned_steps`` is ``None`` for an open-ended run."""

    steps: int = 0
    optimizer_steps: int = 0
    epochs: int = 0
    planned_steps: int | None = None
    duration_s: float = 0.0

    @property
    def steps_saved(self) -> int | None:
        """Planned steps that were not run."""
        return None if self.planned_steps is None else max(self.planned_steps - self.steps, 0)


@dataclass(frozen=True, slots=True)
class Compute:
    """Time on the machine, in hours. ``None`` where it cannot be known.

    Attributes:
        used_h: From start to end.
        wasted_h: Spent after the last weights worth keeping.
        saved_h: What the rest of the plan would have taken at the run's own pace.
    """

    used_h: float = 0.0
    wasted_h: float | None = None
    saved_h: float | None = None


@dataclass(frozen=True, slots=True)
class Overhead:
    """What watching cost, measured by the guard itself.

    Attributes:
        total_s: Seconds in failguard's code on the training thread.
        share: Of the run's duration, 0 to 1, without ``once_s``.
        once_s: The part of ``total_s`` that falls at the start of the run: facts, environment, record, sampler.
        parts_s: The same by hook or part.
        cadence_steps: Every how many steps each sampled check ran at the end of the run.
        snapshot_bytes: Host memory held for weights.
    """

    total_s: float = 0.0
    share: float = 0.0
    parts_s: Mapping[str, float] = field(default_factory=dict)
    cadence_steps: Mapping[str, int] = field(default_factory=dict)
    snapshot_bytes: int = 0
    once_s: float = 0.0


@dataclass(slots=True)
class RunReport:
    """What is known of a run, at any time during and after it.

    Attributes:
        run: Who the run is.
        status: How it ended, or ``running``.
        findings: Symptoms, in the order they were seen, one an episode.
        root: The finding that explains the others.
        diagnosis: Summary and ranked causes.
        actions: What failguard did.
        progress, compute, overhead: See there.
        resources: Summary of CPU, memory, disk and GPU, with units in the names; a field without a reading is absent.
        facts: Model, optimizer, plan, data.
        exception: What training raised.
        environment: Python, platform, hardware and package versions.
        fingerprint: Identity of the failure across runs; ``None`` for a healthy run.
        similar_runs: Earlier runs that failed alike: ``{"run", "date", "finding", "cause", "fixed_by", "lessons",
            "run_id", "match", "fixed_by_run_id"}``, as far as it is known; ``match`` is ``"failure"`` or
            ``"configuration"``.
        best: Best value of the monitored metric: ``{"monitor", "mode", "value", "epoch", "step"}``, or empty.
        part_errors: Parts of failguard that failed and were switched off.
        notes: Remarks, such as why something could not be measured.
        history: The run's curves in blocks, as :meth:`History.rows` gives them.
        locations: Where the record is: ``{"local": path, "mlflow": address}``.
        seen_after_s: When each finding was first seen, in seconds since the start, by code.
        metrics: What an experiment measured, by name: ``[step, value]`` in the order of measuring.
        learnings: What ``analyze_failure`` of an experiment's manager said of its failure.
    """

    run: RunInfo
    status: Status = Status.RUNNING
    findings: list[Finding] = field(default_factory=list)
    root: Finding | None = None
    diagnosis: Diagnosis = field(default_factory=lambda: Diagnosis("Nothing to report."))
    actions: list[ActionTaken] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    compute: Compute = field(default_factory=Compute)
    overhead: Overhead = field(default_factory=Overhead)
    resources: dict[str, Any] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    exception: ExceptionFacts | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None
    similar_runs: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    part_errors: list[PartError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    locations: dict[str, str] = field(default_factory=dict)
    seen_after_s: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    learnings: dict[str, Any] = field(default_factory=dict)

    @property
    def failing(self) -> bool:
        """Whether there is something a person must look at: a finding at error or above, or a failed run."""
        return self.status is Status.FAILED or any(f.severity.rank >= Severity.ERROR.rank for f in self.findings)

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to look at: the run ended as planned, or stopped early, without a warning."""
        calm = self.status in (Status.COMPLETED, Status.STOPPED, Status.RUNNING)
        return calm and not self.part_errors and all(f.severity is Severity.INFO for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The whole report as values of strict JSON, with a ``schema_version``.

        Floats that are not finite are written as ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
        """
        from failguard.report.record import to_dict

        return to_dict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> RunReport:
        """The inverse of :meth:`to_dict`. Unknown keys are ignored and missing parts get their defaults.

        Raises:
            InputError: A part cannot be read; the message names it.
        """
        from failguard.report.record import from_dict

        return from_dict(d)

    def dump(self, path: str | os.PathLike[str]) -> None:
        """Write the report to a file as strict JSON.

        Raises:
            OSError: The file cannot be written.
        """
        from failguard.report.record import dump

        dump(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunReport:
        """Read a report that :meth:`dump` wrote.

        Raises:
            InputError: The file cannot be read, or is no record; the message names it.
        """
        from failguard.report.record import load

        return load(path)

    def to_markdown(self) -> str:
        """The report as Markdown."""
        from failguard.report.markdown import to_markdown

        return to_markdown(self)

    def to_html(self) -> str:
        """The report as one self-contained HTML page: no network, no script."""
        from failguard.report.html import to_html

        return to_html(self)

    def _repr_html_(self) -> str:
        """The report in notebooks."""
        from failguard.report.html import to_fragment

        return to_fragment(self)
