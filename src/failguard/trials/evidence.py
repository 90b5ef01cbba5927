"""What trials gave, told in the report of their run."""

from __future__ import annotations

from dataclasses import replace

from failguard.core.redaction import redact_text
from failguard.report.run_report import RunReport
from failguard.trials.results import Outcome, Trial, Verification

__all__ = ["add_evidence"]

VERIFIED = "verified: "
TRIED = "against: tried "
PREFIX = "Trials of remedies: "


def add_evidence(report: RunReport, found: Verification) -> None:
    """Add the trials to the causes, first among their evidence, and what was not found out to the remarks.

    Args:
        report: Changed. What earlier trials had added is replaced.
        found: The trials.
    """
    causes = []
    for cause in report.diagnosis.causes:
        trial = next((t for t in found.trials if t.cause == cause.code and t.removed is not None), None)
        evidence = tuple(e for e in cause.evidence if not e.startswith((VERIFIED, TRIED)))
        if trial is not None:
            evidence = (redact_text(_text(trial)), *evidence)
        causes.append(replace(cause, evidence=evidence, verified=None if trial is None else trial.removed))
    report.diagnosis = replace(report.diagnosis, causes=tuple(causes))
    report.notes = [n for n in report.notes if not n.startswith(PREFIX)]
    reasons = [] if found.outcome is Outcome.VERIFIED else [found.reason]
    report.notes += [redact_text(f"{PREFIX}{text}") for text in (*reasons, *found.remarks) if text]


def _text(trial: Trial) -> str:
    return f"{VERIFIED if trial.removed else TRIED}{trial.sentence}"
