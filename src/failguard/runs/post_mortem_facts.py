"""The facts of a post-mortem, section by section, as plain lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from failguard.core.finding import Severity
from failguard.diagnosis.wording import count, number
from failguard.report.outcome import Outcome
from failguard.report.run_report import RunReport
from failguard.report.summary import cause_title, duration, percent, summarize
from failguard.runs.classification import earlier_failures
from failguard.runs.entry import RunEntry
from failguard.runs.judged import end_of, start_of
from failguard.runs.prevention import preventions
from failguard.runs.regions import changed_values

__all__ = [
    "Similar",
    "new_actions",
    "new_lessons",
    "next_success",
    "root_cause",
    "similar_failures",
    "what_happened",
    "what_went_well",
]

# Causes that lie in the values that a diagnosis names. For others those are beside the point: a corrupted batch has a
# size, too.
_IN_VALUES = frozenset(
    {"learning_rate_too_high", "learning_rate_too_low", "batch_size_too_large", "too_few_updates"}
    | {"missing_gradient_clipping", "mixed_precision_overflow", "too_much_regularization", "too_little_regularization"}
)
MOST_SIMILAR = 5
MOST_EVENTS = 12
MOST_CHANGES = 6
MAX_VALUE = 60


@dataclass(frozen=True, slots=True)
class Similar:
    """An earlier failure like this one.

    Attributes:
        failure: The run.
        fixed_by: The next success of its line of work, by now.
        changes: What that run had changed.
    """

    failure: RunEntry
    fixed_by: RunEntry | None
    changes: str


def similar_failures(entry: RunEntry, others: Sequence[RunEntry]) -> list[Similar]:
    """Earlier failures like this one, newest first, at most five, with what fixed them."""
    found = []
    for failure in earlier_failures(entry, others)[:MOST_SIMILAR]:
        fixed = next_success(failure, others)
        found.append(Similar(failure, fixed, "" if fixed is None else _changes(failure, fixed)))
    return found


def next_success(failure: RunEntry, others: Sequence[RunEntry]) -> RunEntry | None:
    """The success of the same line of work that ended first, of those that started when the failure had ended."""
    after = [
        e for e in others if e.line == failure.line and e.outcome is Outcome.SUCCESS and start_of(e) >= end_of(failure)
    ]
    return min(after, key=lambda e: (end_of(e), e.run_id), default=None)


def what_happened(entry: RunEntry, report: RunReport | None) -> Iterator[str]:
    """Who the run is, what was planned, the timeline and what it took."""
    if report is not None:
        yield f"{summarize(report).headline}."
    elif entry.status == "running":
        yield "The run has not ended."
    elif not entry.watched:
        yield f"MLflow calls the run {entry.status}. failguard did not watch it: all that is said here is from MLflow."
    else:
        yield f"The run ended as {entry.status}. Its report is not at hand; what is said here is from its tags."
    line = f", line of work {entry.line}" if entry.line and entry.line != entry.experiment else ""
    yield f"Experiment {entry.experiment}{line}, run {entry.run_id}."
    if entry.hypothesis:
        yield f"Hypothesis: {entry.hypothesis}"
    if entry.approach:
        yield f"Approach: {entry.approach}"
    yield from _timeline(entry, report)
    hours = _hours(entry)
    if hours:
        yield f"Compute: {hours}."


def root_cause(entry: RunEntry, report: RunReport | None, similar: Sequence[Similar]) -> Iterator[str]:
    """What was found and why, the values involved, and the same failure before."""
    if entry.outcome is Outcome.SUCCESS:
        yield "Nothing failed: there is nothing to mourn."
        return
    if entry.status == "running":
        yield "It is too early to say: the run has not ended."
        return
    if report is not None and report.root is not None:
        yield f"{report.root.code}: {report.root.message}"
        yield from _causes(report)
        yield from report.diagnosis.config_issues
    elif entry.finding:
        cause = f", likely by {entry.cause}" if entry.cause else ""
        yield f"{entry.finding}{cause}."
    elif entry.outcome is None:
        yield "Not known: failguard did not watch the run. MLflow calls a run finished that an exception ended, too."
    elif entry.error_type:
        yield f"Training raised {entry.error_type}; more is not known."
    elif entry.status == "interrupted":
        yield "The run was interrupted; nothing else was found."
    else:
        yield "Not known: nothing was recorded about the reason."
    if report is not None and report.exception is not None and not report.exception.interrupt:
        where = f", in {report.exception.frame}" if report.exception.frame else ""
        yield f"Raised: {report.exception.type_name}: {report.exception.message}{where}"
    for s in similar:
        yield _told(s, entry)


def what_went_well(entry: RunEntry, report: RunReport | None) -> Iterator[str]:
    """What was noticed, done and spared."""
    told = False
    if entry.finding and entry.failed and entry.detected_after_s is not None:
        told = True
        at = _seen_at_step(entry, report)
        yield f"The check {entry.finding} noticed it {duration(entry.detected_after_s)} after the start{at}."
    if report is not None:
        done = summarize(report).done
        if done:
            told = True
            yield done
        best = report.best.get("value")
        if isinstance(best, int | float) and entry.outcome is not Outcome.SUCCESS:
            told = True
            yield f"Until then {report.best.get('monitor', 'the metric')} reached {number(best)}, in epoch " + (
                f"{report.best.get('epoch')}."
            )
    if entry.saved_h:
        told = True
        yield f"Stopping spared {duration(entry.saved_h * 3600)} of the plan."
    if entry.status == "recovered":
        told = True
        yield "The run recovered and went on to its end."
    if entry.outcome is Outcome.SUCCESS:
        told = True
        yield "The run ended as planned."
    if entry.outcome is Outcome.FAILURE and entry.watched:
        told = True
        kept = "its report, curves and fingerprint" if entry.fingerprint else "its report and curves"
        yield f"The failure is recorded, with {kept}, so that it is known when it comes again."
    if not told:
        yield "Nothing is recorded that went well."


def new_actions(entry: RunEntry, report: RunReport | None, similar: Sequence[Similar]) -> Iterator[str]:
    """What to do: remedies, what fixed it before, and which check would have shown it sooner."""
    if entry.outcome is Outcome.SUCCESS or entry.status == "running":
        return
    if report is not None and report.diagnosis.causes:
        best = report.diagnosis.causes[0]
        if best.remedy:
            yield best.remedy
    fixed = next((s for s in similar if s.fixed_by is not None and s.changes), None)
    if fixed is not None and fixed.fixed_by is not None:
        yield f"Look at run {fixed.fixed_by.run_id[:8]}, which fixed the same failure: {fixed.changes}."
    if entry.failed:
        yield from preventions(entry, report)
    if similar:
        which = f"--cause {entry.cause}" if entry.cause else "--outcome failure"
        yield f"Look for earlier failures before the next run: failguard runs list {which}"


def new_lessons(
    entry: RunEntry, report: RunReport | None, similar: Sequence[Similar], others: Sequence[RunEntry]
) -> Iterator[str]:
    """What the run, its successor and earlier failures like it taught, with the values that made the difference."""
    if not entry.failed:
        return
    taught = next((s.failure for s in similar if s.failure.lessons), None)
    if taught is not None:
        yield f"Known from run {taught.run_id[:8]}, and true again: {taught.lessons[-1]}"
    success = next_success(entry, others)
    values = _values_of_cause(report)
    if values and entry.finding:
        step = (
            ""
            if report is None or report.root is None or report.root.step < 0
            else (f" by step {count(report.root.step)}")
        )
        yield f"{', '.join(f'{n}={_short(v)}' for n, v in values.items())} led to {entry.finding}{step}" + (
            f" ({cause_title(entry.cause).lower()})." if entry.cause else "."
        )
    if success is not None:
        changes = _changes(entry, success)
        if changes:
            yield f"Run {success.run_id[:8]} of the same line of work then succeeded with {changes}."


def _timeline(entry: RunEntry, report: RunReport | None) -> Iterator[str]:
    start = start_of(entry)
    yield f"{_clock(start)}: the run started."
    events: list[tuple[float, str]] = []
    if report is not None:
        for finding in report.findings:
            seen_s = report.seen_after_s.get(finding.code)
            is_root = finding == report.root
            if seen_s is not None and (is_root or finding.severity is not Severity.INFO):
                root = ", the root of what followed" if is_root else ""
                step = f" at step {count(finding.step)}" if finding.step >= 0 else ""
                events.append((seen_s, f"{finding.code} was seen{step} ({finding.severity}{root})."))
    elif entry.finding and entry.detected_after_s is not None:
        events.append((entry.detected_after_s, f"{entry.finding} was seen."))
    if not events and entry.finding and entry.detected_after_s is not None:
        events.append((entry.detected_after_s, f"{entry.finding} was seen."))
    for seen_s, text in sorted(events)[:MOST_EVENTS]:
        yield f"{_clock(start + timedelta(seconds=seen_s))} (+{duration(seen_s)}): {text}"
    if len(events) > MOST_EVENTS:
        yield f"{count(len(events) - MOST_EVENTS)} more findings are in the report."
    for action in () if report is None else report.actions[:MOST_EVENTS]:
        yield f"Step {count(max(action.step, 0))}: {action.what.replace('_', ' ')}: {action.reason}"
    if entry.ended_at is not None:
        yield f"{_clock(end_of(entry))} (+{duration((end_of(entry) - start).total_seconds())}): the run ended."


def _hours(entry: RunEntry) -> str:
    parts = []
    if entry.used_h is not None:
        parts.append(f"{duration(entry.used_h * 3600)} used")
    if entry.wasted_h:
        parts.append(f"{duration(entry.wasted_h * 3600)} wasted after the last weights worth keeping")
    if entry.saved_h:
        parts.append(f"{duration(entry.saved_h * 3600)} of the plan saved")
    if entry.gpu_h:
        gpu = f"{number(entry.gpu_h)} GPU-hours"
        parts.append(gpu + (f", {number(entry.wasted_gpu_h)} of them wasted" if entry.wasted_gpu_h else ""))
    return ", ".join(parts)


def _causes(report: RunReport) -> Iterator[str]:
    for i, cause in enumerate(report.diagnosis.causes[:3]):
        word = "Likely cause" if i == 0 else "Or"
        evidence = "; ".join(cause.evidence[:3])
        yield f"{word}: {cause.code} (confidence {percent(cause.confidence)})" + (f": {evidence}." if evidence else ".")
        if i == 0 and cause.config_values:
            yield f"Values involved: {', '.join(f'{n} = {_short(v)}' for n, v in cause.config_values.items())}."


def _told(similar: Similar, entry: RunEntry) -> str:
    failure, fixed = similar.failure, similar.fixed_by
    same = (
        "the same fingerprint" if failure.fingerprint == entry.fingerprint and entry.fingerprint else "the same cause"
    )
    text = f"It happened before, with {same}: run {failure.run_id[:8]} on {start_of(failure).date()}"
    if fixed is not None:
        text += f"; run {fixed.run_id[:8]} of that line of work then succeeded"
        text += f" with {similar.changes}" if similar.changes else " with the same configuration"
    else:
        text += "; no later run of that line of work succeeded"
    if failure.lessons:
        text += f". Lesson: {failure.lessons[-1].rstrip('.')}"
    return f"{text}."


def _seen_at_step(entry: RunEntry, report: RunReport | None) -> str:
    if report is None or report.root is None or report.root.step < 0:
        return ""
    step, planned = report.root.step, entry.planned_steps
    of = f" of {count(planned)} planned" if planned else ""
    return f", at step {count(step)}{of}"


def _values_of_cause(report: RunReport | None) -> dict[str, Any]:
    if report is None or report.diagnosis.likely_cause not in _IN_VALUES:
        return {}
    values = report.diagnosis.causes[0].config_values.items()
    # A setting that is off, or a name, is not what was too high or too low.
    numbers = [(n, v) for n, v in values if isinstance(v, int | float) and not isinstance(v, bool) and v]
    return dict(numbers[:3])


def _changes(before: RunEntry, after: RunEntry) -> str:
    """``"lr=0.03 (before: 0.3)"`` for each value that differs."""
    parts = []
    for change in changed_values(before, after)[:MOST_CHANGES]:
        old, new = (text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…" for text in change.texts)
        if not change.in_after:
            parts.append(f"without {change.name} (before: {old})")
        else:
            parts.append(f"{change.name}={new}" + (f" (before: {old})" if change.in_before else " (before: not set)"))
    return ", ".join(parts)


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = number(value) if isinstance(value, float) else str(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"


def _clock(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if time.utcoffset() == timedelta(0) else time.strftime(" %z"))
