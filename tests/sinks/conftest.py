"""Reports made by hand: sinks do not care where a report comes from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.finding import Finding, Severity, Status
from failguard.core.history import History
from failguard.core.observation import ExceptionFacts
from failguard.core.run_info import RunInfo
from failguard.report.run_report import Progress, RunReport

MakeReport = Callable[..., RunReport]


@pytest.fixture
def make_report() -> MakeReport:
    """A report with curves of ``steps`` losses; ``failing`` adds a divergence with its cause."""

    def make(
        status: Status = Status.RUNNING,
        *,
        record_id: str = "20260101-100000-torch-abc123",
        steps: int = 20,
        failing: bool = False,
        exception: ExceptionFacts | None = None,
    ) -> RunReport:
        history = History()
        for i in range(steps):
            history.step_series("loss").append(i, 1.0 / (i + 1))
        report = RunReport(
            run=RunInfo(record_id, "2026-01-01T10:00:00+00:00", "torch", config={"lr": 0.1, "model": {"width": 3}}),
            status=status,
            exception=exception,
            history=list(history.rows()),
            progress=Progress(steps=steps, optimizer_steps=steps, epochs=1, duration_s=2.0),
            resources={"cpu_mean_percent": 12.5},
        )
        if failing:
            finding = Finding(
                "loss.divergence", Severity.ERROR, 10, 0, "The loss rose.", evidence={"loss": float("nan")}
            )
            report.findings, report.root = [finding], finding
            report.diagnosis = Diagnosis(
                "The loss diverged.", (Cause("learning_rate_too_high", 0.8, ("e",), "Lower it."),)
            )
        return report

    return make
