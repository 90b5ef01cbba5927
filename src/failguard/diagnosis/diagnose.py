"""The diagnosis of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.finding import Finding
from failguard.core.history import History
from failguard.core.observation import ExceptionFacts
from failguard.diagnosis.case import Case
from failguard.diagnosis.config_lint import config_issues
from failguard.diagnosis.ranking import rank
from failguard.diagnosis.wording import count, number

__all__ = ["diagnose"]


def diagnose(
    findings: Sequence[Finding],
    root: Finding | None,
    history: History,
    exception: ExceptionFacts | None,
    resources: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Explain what was found in a run.

    Args:
        findings: Everything that was found, in order.
        root: The finding that explains the others, ``None`` when nothing is wrong.
        history: What was measured, with the facts of the run.
        exception: What training raised.
        resources: Summary of memory and devices, as in the report.

    Returns:
        A summary for a reader who sees nothing else, at most three causes, and configuration values that look wrong. A
        healthy run and an ordinary early stop get a calm sentence and no causes.
    """
    issues = tuple(issue.text for issue in config_issues(history.facts))
    if root is None:
        return Diagnosis(_healthy(history), (), issues)
    if root.code == "metric.no_improvement":
        return Diagnosis(_sentence(root.message), (), issues)
    causes = rank(Case(findings, root, history, exception, resources))
    return Diagnosis(_failure(root, causes), causes, issues)


def _healthy(history: History) -> str:
    return f"Nothing went wrong.{_best(history)}"


def _failure(root: Finding, causes: Sequence[Cause]) -> str:
    what = _sentence(root.message)
    if not causes or causes[0].code == "interrupted":
        return what
    best = causes[0]
    name = best.code.replace("_", " ")
    reason = next((e for e in best.evidence if not e.startswith("against: ")), "")
    return f"{what} Likely cause: {name}{f' ({reason})' if reason else ''}."


def _best(history: History) -> str:
    best = history.improvement
    if best.best_value is None or best.best_epoch is None:
        return ""
    return f" The best {history.monitor[:80]} is {number(best.best_value)}, of epoch {count(best.best_epoch)}."


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
