"""What came of a run, in one word."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from failguard.core.finding import Severity, Status

if TYPE_CHECKING:
    from failguard.report.run_report import RunReport

__all__ = ["Outcome", "outcome_of"]


class Outcome(str, Enum):
    """What came of a run, for the registry and the learning metrics."""

    SUCCESS = "success"  # it ended as planned, or stopped early, with nothing to look at
    PARTIAL = "partial"  # it gave something, with a warning, a recovery or an interruption
    FAILURE = "failure"  # it raised, or something was found at error

    def __str__(self) -> str:
        return self.value


def outcome_of(report: RunReport) -> Outcome | None:
    """The outcome of a finished run; ``None`` while it runs."""
    if report.status is Status.RUNNING:
        return None
    if report.failing:
        return Outcome.FAILURE
    is_partial = report.status in (Status.RECOVERED, Status.INTERRUPTED)
    if is_partial or any(f.severity is Severity.WARNING for f in report.findings):
        return Outcome.PARTIAL
    return Outcome.SUCCESS
