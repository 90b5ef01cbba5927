"""What becomes of the reports of several guards, without training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from failguard.core.finding import Finding, Severity, Status
from failguard.core.observation import ExceptionFacts
from failguard.core.run_info import RunInfo
from failguard.experiment.guards import merged
from failguard.report.run_report import Compute, Progress, RunReport


def own(status: Status = Status.COMPLETED, **more: Any) -> RunReport:
    run = RunInfo("own", "2026-01-01T10:00:00+00:00", "python", config={"lr": 1}, is_experiment=True)
    return RunReport(run, status, progress=Progress(duration_s=10.0), compute=Compute(used_h=2.0), **more)


def guard(record_id: str, *codes: str, severity: Severity = Severity.ERROR, **more: Any) -> RunReport:
    findings = [Finding(code, severity, 5, 0, code) for code in codes]
    root = findings[0] if findings else None
    run = RunInfo(record_id, "", "torch", hypothesis="of the guard")
    usual = {"findings": findings, "root": root, "progress": Progress(steps=10, duration_s=4.0), "history": [{"a": 1}]}
    return RunReport(run, **{"status": Status.COMPLETED, **usual, **more})


def test_without_a_guard_it_is_the_experiments_own() -> None:
    report = own()
    assert merged(report, []) is report


def test_one_guard() -> None:
    report = merged(own(), [guard("g", "loss.divergence", status=Status.STOPPED, compute=Compute(1.0, 0.5))])
    assert (report.status, report.root.code if report.root else "") == (Status.STOPPED, "loss.divergence")
    assert (report.run.record_id, report.run.framework, report.run.hypothesis) == ("own", "torch", "of the guard")
    assert (report.progress, report.compute) == (Progress(steps=10, duration_s=10.0), Compute(2.0, 0.5))
    assert report.history


def test_the_worst_of_several_counts_and_keeps_its_curves() -> None:
    guards = [guard("a"), guard("b", "loss.spike", severity=Severity.WARNING), guard("c", "loss.divergence")]
    report = merged(own(), guards)
    assert report.root is not None
    assert (report.root.code, report.history) == ("loss.divergence", [])
    assert "3 guarded trainings" in report.notes[-1]
    assert merged(own(), [guard("a"), guard("b")]).history  # the first of equals


def test_an_error_that_was_caught_does_not_count_where_a_later_training_went_well() -> None:
    caught = guard("a", "run.exception", status=Status.FAILED, exception=ExceptionFacts("E", "x"))
    assert not merged(own(), [caught, guard("b")]).failing
    assert merged(own(), [caught]).failing
    assert merged(own(Status.FAILED, exception=ExceptionFacts("E", "x")), [caught, guard("b")]).failing


def test_the_experiments_own_end_goes_before_the_guards() -> None:
    raised = Finding("run.exception", Severity.FATAL, 9, 0, "Training raised KeyError")
    mine = own(Status.FAILED, findings=[raised], root=raised, exception=ExceptionFacts("KeyError", "x"))
    report = merged(mine, [guard("a", "loss.spike", severity=Severity.WARNING)])
    assert (report.status, report.root) == (Status.FAILED, raised)
    assert report.diagnosis is mine.diagnosis
    assert [f.code for f in report.findings] == ["loss.spike", "run.exception"]
    running = replace(guard("a"), status=Status.RUNNING)
    assert merged(own(), [running]).status is Status.COMPLETED
    assert merged(own(Status.RUNNING), [guard("a")]).status is Status.RUNNING
