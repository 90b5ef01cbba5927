"""The words for a run: console, Markdown, HTML and the MLflow note all say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from failguard.core.finding import Finding, Severity, Status
from failguard.diagnosis.wording import count, number
from failguard.report.run_report import RunReport
from failguard.report.text import block, duration, one_line, percent

__all__ = ["Summary", "block", "cause_title", "duration", "one_line", "percent", "place", "summarize"]

SHARE_FROM_S = 10.0  # of a shorter run the share says more about its shortness than about the cost of watching

EARLY_STOP = "metric.no_improvement"
_ACTIONS = {
    "stop": "training was stopped",
    "drop_update": "the bad update was dropped",
    "restore_best_weights": "the best weights were put back",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reader needs who reads nothing else. Empty text: there is nothing to say.

    Attributes:
        tone: ``"calm"``, ``"warning"`` or ``"failing"``.
        headline: How the run ended, in a few words.
        what: What was seen.
        where: Place, step and epoch.
        why: The likely cause with its best evidence.
        done: What failguard did to the run.
        remedy: What to try.
        numbers: Labelled figures: steps, time, best value.
        remarks: Notes, and parts of failguard that were switched off.
    """

    tone: str
    headline: str
    what: str
    where: str
    why: str
    done: str
    remedy: str
    numbers: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]

    def answers(self) -> Iterator[tuple[str, str]]:
        """The questions that have an answer: what, where, why, what was done, what to try."""
        for label, text in (
            ("What", self.what),
            ("Where", self.where),
            ("Why", self.why),
            ("Done", self.done),
            ("What to try", self.remedy),
        ):
            if text:
                yield label, text


def summarize(report: RunReport) -> Summary:
    """Put a report into words. Each text is one line without control characters."""
    root, causes = report.root, report.diagnosis.causes
    switched_off = [f"{e.part} was switched off: {e.message}" for e in report.part_errors]
    return Summary(
        tone="failing" if report.failing else "calm" if _is_calm(report) else "warning",
        headline=_headline(report),
        what=one_line(root.message if root is not None else report.diagnosis.summary),
        where="" if root is None else one_line(_where(report, root)),
        why=_why(report),
        done=_done(report),
        remedy=one_line(causes[0].remedy) if causes else "",
        numbers=tuple(_numbers(report)),
        remarks=tuple(one_line(r) for r in (*report.notes, *switched_off)),
    )


def cause_title(code: str) -> str:
    """``"learning_rate_too_high"`` -> ``"Learning rate too high"``."""
    words = one_line(code, 80).replace("_", " ")
    return words[:1].upper() + words[1:]


def place(finding: Finding) -> str:
    """Where a finding was seen: ``"input at batch 57, epoch 3"``, ``"step 57, epoch 3"``."""
    parts = [str(finding.where)] if str(finding.where) else []
    if finding.step >= 0 and finding.step != finding.where.batch:  # a step is a batch; saying both says nothing
        parts.append(f"step {count(finding.step)}")
    parts.append(f"epoch {count(finding.epoch)}")
    return one_line(", ".join(parts), 300)


def _is_calm(report: RunReport) -> bool:
    calm_status = report.status in (Status.COMPLETED, Status.STOPPED, Status.RUNNING, Status.RECOVERED)
    return calm_status and all(f.severity is Severity.INFO for f in report.findings)


def _headline(report: RunReport) -> str:
    root, progress, status = report.root, report.progress, report.status
    ended_in = report.exception is not None and root is not None and root.code.startswith("run.")
    at = f" at step {count(max(root.step if ended_in and root is not None else progress.steps - 1, 0))}"
    if progress.planned_steps is not None:
        at += f" of {count(progress.planned_steps)} planned"
    if report.run.is_experiment and not progress.steps:  # there are no steps to speak of
        at = ""
    code = f": {one_line(root.code, 80)}" if root is not None else ""
    if status is Status.STOPPED:
        if root is not None and root.code == EARLY_STOP:
            metric = report.best.get("monitor") or root.where.tensor or "the metric"
            return f"Stopped early: {one_line(str(metric), 80)} no longer improved"
        return f"Stopped{at}{code}"
    if status is Status.FAILED:
        if report.exception is not None:
            return f"Failed{at}: {one_line(report.exception.type_name, 80)}"
        return f"Failed{at}{code}"
    if status is Status.INTERRUPTED:
        return f"Interrupted{at}"
    word = {Status.RUNNING: "Running", Status.RECOVERED: "Recovered"}.get(status, "Completed")
    if report.failing:
        return f"{word}, but failing{code}"
    warnings = sum(f.severity.rank >= Severity.WARNING.rank for f in report.findings)
    if warnings:
        return f"{word} with {warnings} warning{'s' if warnings > 1 else ''}"
    return f"{word}, nothing wrong"


def _where(report: RunReport, root: Finding) -> str:
    frame = report.exception.frame if report.exception is not None and not report.exception.interrupt else None
    if report.run.is_experiment and not report.progress.steps:
        return f"in {frame}" if frame else ""
    return f"{place(root)}, in {frame}" if frame and root.code == "run.exception" else place(root)


def _why(report: RunReport) -> str:
    causes = report.diagnosis.causes
    if not causes:
        return "No known cause fits what was measured." if report.failing else ""
    best = causes[0]
    reasons = [e for e in best.evidence if not e.startswith("against: ")][:2]
    return one_line(f"{cause_title(best.code)} ({percent(best.confidence)}): {'; '.join(reasons)}.".replace(": .", "."))


def _done(report: RunReport) -> str:
    """What failguard did, each thing with its first step."""
    first: dict[str, int] = {}
    for action in report.actions:
        first.setdefault(action.what, action.step)
    times = [sum(a.what == what for a in report.actions) for what in first]
    done = [
        f"{_ACTIONS.get(what, one_line(what, 80).replace('_', ' '))} at step {count(max(step, 0))}"
        + (f" and {count(n - 1)} more times" if n > 1 else "")
        for (what, step), n in zip(first.items(), times, strict=True)
    ]
    text = "; ".join(done[:5])
    return one_line(f"{text[:1].upper()}{text[1:]}.") if text else ""


def _numbers(report: RunReport) -> Iterator[tuple[str, str]]:
    progress, compute, best = report.progress, report.compute, report.best
    stopped = report.status is Status.STOPPED
    if progress.steps:
        steps = count(progress.steps)
        if progress.planned_steps is not None:
            steps += f" of {count(progress.planned_steps)} planned"
        if stopped and progress.steps_saved:
            steps += f", {count(progress.steps_saved)} saved"
        yield "Steps", steps
    if progress.duration_s > 0:
        times = f"{duration(progress.duration_s)} used"
        if compute.wasted_h:
            times += f", {duration(compute.wasted_h * 3600)} wasted"
        if stopped and compute.saved_h:
            times += f", {duration(compute.saved_h * 3600)} saved"
        yield "Time", times
    value = best.get("value")
    if isinstance(value, int | float):
        text = f"{one_line(str(best.get('monitor', 'value')), 60)} {number(value)} in epoch {best.get('epoch')}"
        if any(a.what == "restore_best_weights" for a in report.actions):
            text += ", weights restored"
        yield "Best", text
    if report.overhead.total_s > 0:
        overhead = report.overhead
        if report.progress.duration_s < SHARE_FROM_S:
            yield "Watching", f"{duration(overhead.total_s)} in all"
        else:
            yield "Watching", f"{percent(overhead.share)} of the time, and {duration(overhead.once_s)} at the start"
