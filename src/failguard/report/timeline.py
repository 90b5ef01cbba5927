"""What happened, in order: findings and actions on one line of time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from failguard.core.finding import Finding, Severity
from failguard.diagnosis.wording import count
from failguard.report.run_report import RunReport
from failguard.report.summary import one_line

__all__ = ["TimelineEvent", "marked", "timeline"]

MAX_EVENTS = 200
MAX_MARKED = 20


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One line.

    Attributes:
        step, epoch: When, as text; ``""`` for a step before the first.
        kind: A severity, or ``"action"``.
        label: Code of the finding, or what was done.
        text: One sentence.
        root: It is the finding that explains the others.
        mark: Its number in the pictures, ``""`` for what is not drawn.
    """

    step: str
    epoch: str
    kind: str
    label: str
    text: str
    root: bool = False
    mark: str = ""


def marked(report: RunReport) -> list[Finding]:
    """The findings that are drawn over the curves, in the order of their numbers: at most 20, from ``warning`` up."""
    shown = [f for f in report.findings if f.severity is not Severity.INFO]
    return sorted(shown, key=lambda f: f.step)[:MAX_MARKED]


def timeline(report: RunReport) -> list[TimelineEvent]:
    """Findings and actions, oldest first, at most 200. At the same step the finding comes first."""
    entries: list[tuple[int, int, TimelineEvent]] = []
    numbers = {id(finding): str(i) for i, finding in enumerate(marked(report), start=1)}
    for finding in report.findings:
        event = _event(finding.step, finding.epoch, finding.severity, finding.code, finding.message)
        event = replace(event, root=finding == report.root, mark=numbers.get(id(finding), ""))
        entries.append((finding.step, 0, event))
    for action in report.actions:
        label = action.what.replace("_", " ")
        entries.append((action.step, 1, _event(action.step, action.epoch, None, label, action.reason)))
    entries.sort(key=lambda e: e[:2])
    return [event for _, _, event in entries[:MAX_EVENTS]]


def _event(step: int, epoch: int, severity: Severity | None, label: str, text: str) -> TimelineEvent:
    return TimelineEvent(
        step=count(step) if step >= 0 else "",
        epoch=count(epoch),
        kind="action" if severity is None else severity.value,
        label=one_line(label, 80),
        text=one_line(text),
    )
