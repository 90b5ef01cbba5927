"""What a failed experiment teaches: four methods that are made to be overridden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from failguard.core.exceptions import exception_facts
from failguard.core.log import logger
from failguard.core.redaction import redact
from failguard.diagnosis import advice
from failguard.report.run_report import RunReport

__all__ = ["FailureAnalysis", "learnings_of"]

# The failed experiment that is asked about, and how to add a remark to its report.
_failed: ContextVar[tuple[RunReport, Callable[[str], None]] | None] = ContextVar("failguard_failed", default=None)


class FailureAnalysis:
    """Explains failures from the diagnosis of the run, or, outside of an experiment, of the error alone."""

    def analyze_failure(self, error: BaseException, config: Any) -> dict[str, Any]:
        """The learnings of a failed experiment.

        Args:
            error: What ``train_func`` raised; a :class:`~failguard.TrainingFailure` with the ``report`` where a guard
                found the run failing.
            config: As it was given.
        """
        report = _failed_report()
        raised = report.exception if report is not None else exception_facts(error)
        return {
            "error_type": None if raised is None else raised.type_name,
            "likely_cause": asked(self, "diagnose_error", error),
            "config_issues": asked(self, "check_config", config),
            "recommendations": asked(self, "suggest_fixes", error, config),
        }

    def diagnose_error(self, error: BaseException) -> str | None:
        """The likely cause; by default the code of the diagnosis, such as ``"learning_rate_too_high"``."""
        report = _failed_report()
        return report.diagnosis.likely_cause if report is not None else advice.diagnose_error(error).likely_cause

    def check_config(self, config: Any) -> list[str]:
        """Values of the configuration that look wrong, one sentence each."""
        report = _failed_report()
        return list(report.diagnosis.config_issues) if report is not None else advice.check_config(_mapping(config))

    def suggest_fixes(self, error: BaseException, config: Any) -> list[str]:
        """What to try, best first."""
        report = _failed_report()
        if report is None:
            return advice.suggest_fixes(error, _mapping(config))
        fixes = [cause.remedy for cause in report.diagnosis.causes if cause.remedy]
        return fixes or advice.suggest_fixes(None, report.facts)


def learnings_of(
    analysis: FailureAnalysis, error: BaseException, config: Any, report: RunReport, note: Callable[[str], None]
) -> dict[str, Any]:
    """What an analysis says of a failed experiment.

    Args:
        analysis: Has ``analyze_failure``.
        error: What it failed with.
        config: As the user gave it.
        report: The report of the run.
        note: Adds a remark to it.
    """
    token = _failed.set((report, note))
    try:
        learnings = asked(analysis, "analyze_failure", error, config)
        if isinstance(learnings, Mapping):
            return dict(learnings)
        note(f"analyze_failure returned {type(learnings).__name__}, which is no mapping, and is not used.")
        return FailureAnalysis().analyze_failure(error, config)
    finally:
        _failed.reset(token)


def asked(analysis: FailureAnalysis, part: str, *args: Any) -> Any:
    """One part of an analysis. Where the user's own raises, that is noted, and the usual one is used."""
    try:
        return getattr(analysis, part)(*args)
    except Exception as error:  # noqa: BLE001 - the failure of the experiment is what matters
        remark = f"{part} raised {type(error).__name__} and is not used: {exception_facts(error).message}"
        logger.warning("failguard: %s", remark)
        failed = _failed.get()
        if failed is not None:
            failed[1](remark)
        return getattr(FailureAnalysis(), part)(*args)


def _failed_report() -> RunReport | None:
    failed = _failed.get()
    return None if failed is None else failed[0]


def _mapping(config: Any) -> Mapping[str, Any]:
    copied = redact({} if config is None else config)
    return copied if isinstance(copied, dict) else {}
