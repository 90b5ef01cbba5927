"""What an experiment gives back."""

from __future__ import annotations

from typing import Any

from failguard.report.run_report import RunReport

__all__ = ["ExperimentResult"]


class ExperimentResult(dict[str, Any]):
    """A plain dictionary, with the whole record at hand.

    ``{"status": "success", "metrics": {...}}``, or ``{"status": "failed", "error": "...", "learnings": {...}}``, with
    the ``error_type``, ``likely_cause``, ``config_issues`` and ``recommendations`` of the failure as learnings.

    Attributes:
        report: The report of the run.
        run_id: The MLflow run; ``None`` where the store could not be reached.
        metrics: What ``train_func`` returned, also where the guard found the run failing.
        attempts: How many times it was tried.
    """

    def __init__(
        self, values: dict[str, Any], *, report: RunReport, run_id: str | None, metrics: Any, attempts: int = 1
    ) -> None:
        super().__init__(values)
        self.report = report
        self.run_id = run_id
        self.metrics = metrics
        self.attempts = attempts
