"""The diagnosis of one run."""

from __future__ import annotations

from collections.abc import Sequence

from failguard.core.diagnosis import Diagnosis
from failguard.core.finding import Finding
from failguard.core.history import History
from failguard.core.observation import ExceptionFacts

__all__ = ["diagnose"]


def diagnose(
    findings: Sequence[Finding], root: Finding | None, history: History, exception: ExceptionFacts | None
) -> Diagnosis:
    """Explain what was found."""
    return Diagnosis(root.message if root else "Nothing to report.")
