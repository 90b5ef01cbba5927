"""The guards that watch training inside an experiment, and what their reports make of the experiment's own.

The first guard's curves go to the experiment's run while it trains, and its report becomes the experiment's. Where more
than one guard runs, as in cross-validation, each has a record and a nested MLflow run of its own; the experiment's
report is then that of the worst one, so that one failing fold is a failed experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock

from failguard.core.finding import Severity, Status
from failguard.episodes import root_of
from failguard.report.run_report import RunReport
from failguard.sinks.delivery import Delivery
from failguard.sinks.enclosing import Deliverer

__all__ = ["GuardReports", "merged"]

# Gives a guard's report, as a nested run of the experiment: where to deliver it, and under which names.
Nested = Callable[[RunReport, int], tuple[Delivery, RunReport]]


class GuardReports:
    """Collects the reports of the guards of one experiment. Guards may run in several threads.

    Args:
        on_news: Called with the newest report of the first guard.
        nested: Makes the delivery of a guard that gets a run of its own.
    """

    def __init__(self, on_news: Callable[[], None], nested: Nested) -> None:
        self._on_news = on_news
        self._nested = nested
        self._lock = Lock()
        self._guards: list[_Guard] = []
        self._given: list[RunReport] = []
        self.is_over = False

    def join(self, own: Delivery, *, leaves_record: bool) -> Deliverer:
        """A guard starts; see :class:`failguard.sinks.enclosing.Enclosing`."""
        with self._lock:
            guard = _Guard(self, own, number=len(self._guards) + 1, leaves_record=leaves_record)
            self._guards.append(guard)
        return guard

    def add(self, report: RunReport) -> None:
        """A report that no guard of this experiment has delivered."""
        if all(r.run.record_id != report.run.record_id or not report.run.record_id for r in self.reports):
            self._given.append(report)

    @property
    def reports(self) -> list[RunReport]:
        """The newest report of each guard, in the order they started."""
        return [*(g.report for g in self._guards if g.report is not None), *self._given]

    def split(self) -> None:
        """The experiment is over. Of several guards the first gets a run of its own too."""
        self.is_over = True
        first = self._guards[0] if len(self._guards) > 1 else None
        if first is not None and first.report is not None and first.leaves_record:
            first.deliver_alone(first.report)

    def news_of(self, guard: _Guard) -> None:
        """A guard has something new. Only the first one's goes to the experiment's run while it trains."""
        if not self.is_over and guard is self._guards[0]:
            self._on_news()

    def open_nested(self, report: RunReport, number: int) -> tuple[Delivery, RunReport]:
        """Where the report of a guard is to be delivered alone."""
        return self._nested(report, number)


class _Guard:
    """Takes one guard's reports in the place of its delivery."""

    def __init__(self, group: GuardReports, own: Delivery, *, number: int, leaves_record: bool) -> None:
        self._group = group
        self._own = own
        self._number = number
        self._alone: Delivery | None = None
        self.leaves_record = leaves_record
        self.report: RunReport | None = None

    def start(self, report: RunReport) -> None:
        self.report = report
        self._own.start(report)
        if self._number > 1 and self.leaves_record:
            self._start_alone(report)
        self._group.news_of(self)

    def progress(self, report: RunReport) -> None:
        self.report = report
        self._own.progress(report)
        if self._alone is not None:
            self._alone.progress(self._named(report))
        self._group.news_of(self)

    def finish(self, report: RunReport) -> None:
        self.report = report
        self._own.finish(report)
        if self._alone is not None:
            named = self._named(report)
            self._alone.finish(named)
            report.locations = {**report.locations, **named.locations}
        elif self._group.is_over and self.leaves_record:  # closed after the end of the experiment
            self.deliver_alone(report)
        self._group.news_of(self)

    def locations(self) -> dict[str, str]:
        return {**self._own.locations(), **({} if self._alone is None else self._alone.locations())}

    def deliver_alone(self, report: RunReport) -> None:
        """Give a whole report a record and a run of its own."""
        if self._alone is None:
            self._start_alone(report).finish(self._named(report))

    def _start_alone(self, report: RunReport) -> Delivery:
        delivery, named = self._group.open_nested(report, self._number)
        self._alone, self._run = delivery, named.run
        delivery.start(replace(named, status=Status.RUNNING))
        return delivery

    def _named(self, report: RunReport) -> RunReport:
        return replace(report, run=self._run)


def merged(own: RunReport, guards: Sequence[RunReport]) -> RunReport:
    """The report of an experiment.

    Args:
        own: What the manager knows: names, configuration, what ``train_func`` raised, metrics, resources.
        guards: Of the guards that watched training in it, in the order they started.
    """
    counted = [
        report
        for i, report in enumerate(guards)
        # What train_func caught, and went on after, is no failure of the experiment.
        if not (report.exception is not None and own.exception is None and i < len(guards) - 1)
    ]
    if not counted:
        return own
    worst = max(counted, key=_badness)  # the first of equals
    seen = {f.code for f in worst.findings}
    more = [f for f in own.findings if f.code not in seen]
    findings = [*worst.findings, *more]
    root = root_of(findings) if more else worst.root
    is_explained = not more or (root is not None and root.code in seen)
    status = own.status if own.status is not Status.COMPLETED or worst.status is Status.RUNNING else worst.status
    is_first = worst is guards[0]
    report = replace(
        worst,
        run=replace(
            own.run,
            framework=worst.run.framework if worst.run.framework != "log" else own.run.framework,
            hypothesis=own.run.hypothesis or worst.run.hypothesis,
            approach=own.run.approach or worst.run.approach,
            line=own.run.line or worst.run.line,
            parent=own.run.parent or worst.run.parent,
            tags={**worst.run.tags, **own.run.tags},
            config=own.run.config or (worst.run.config if len(guards) == 1 else {}),
            resumed=worst.run.resumed,
        ),
        status=status,
        findings=findings,
        root=root,
        seen_after_s={**own.seen_after_s, **worst.seen_after_s},
        diagnosis=worst.diagnosis if is_explained else own.diagnosis,
        progress=replace(worst.progress, duration_s=own.progress.duration_s),
        compute=replace(worst.compute, used_h=own.compute.used_h),
        resources={**own.resources, **worst.resources},
        exception=own.exception if own.exception is not None else worst.exception,
        environment={**own.environment, **worst.environment},
        fingerprint=worst.fingerprint if is_explained else own.fingerprint,
        part_errors=[*own.part_errors, *(e for e in worst.part_errors if e not in own.part_errors)],
        notes=list(dict.fromkeys([*own.notes, *worst.notes])),
        history=worst.history if is_first else [],
        locations=own.locations,
        metrics=own.metrics,
        learnings=own.learnings,
    )
    if len(guards) > 1:
        number = next(i for i, r in enumerate(guards, 1) if r is worst)
        report.notes.append(
            f"{len(guards)} guarded trainings ran in this experiment, each with a nested run of its own; this is the "
            f"report of number {number}" + ("." if is_first else ", whose curves are in its own run.")
        )
    return report


def _badness(report: RunReport) -> tuple[bool, int]:
    ranks = [f.severity.rank for f in report.findings if f.severity is not Severity.INFO]
    return report.failing, max(ranks, default=0)
