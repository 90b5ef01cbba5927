"""What happened, in order: findings and actions on one line of time."""

from __future__ import annotations

from dataclasses import dataclass

from failguard.core.finding import Severity
from failguard.diagnosis.wording import count
from failguard.report.run_report import RunReport
from failguard.report.summary import one_line

__all__ = ["TimelineEvent", "timeline"]

MAX_EVENTS = 200


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One line.

    Attributes:
        step, epoch: When, as text; ``""`` for a step before the first.
        kind: A severity, or ``"action"``.
        label: Code of the finding, or what was done.
        text: One sentence.
        root: It is the finding that explains the others.
    """

    step: str
    epoch: str
    kind: str
    label: str
    text: str
    root: bool = False


def timeline(report: RunReport) -> list[TimelineEvent]:
    """Findings and actions, oldest first, at most 200. At the same step the finding comes first."""
    entries: list[tuple[int, int, TimelineEvent]] = []
    for finding in report.findings:
        is_root = finding == report.root
        entries.append(
            (
                finding.step,
                0,
                _event(finding.step, finding.epoch, finding.severity, finding.code, finding.message, is_root),
            )
        )
    for action in report.actions:
        label = action.what.replace("_", " ")
        entries.append((action.step, 1, _event(action.step, action.epoch, None, label, action.reason, False)))
    entries.sort(key=lambda e: e[:2])
    return [event for _, _, event in entries[:MAX_EVENTS]]


def _event(step: int, epoch: int, severity: Severity | None, label: str, text: str, root: bool) -> TimelineEvent:
    return TimelineEvent(
        step=count(step) if step >= 0 else "",
        epoch=count(epoch),
        kind="action" if severity is None else severity.value,
        label=one_line(label, 80),
        text=one_line(text),
        root=root,
    )
