"""The learnings of a failure, and managers with an analysis of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import failguard
from failguard import ExperimentManager
from failguard.report.analysis import failure_analysis
from failguard.sinks.files import LocalRecord

SCHEMA = json.loads((Path(failguard.__file__).parent / "report" / "failure_analysis.schema.json").read_text())
CONFIG = {"learning_rate": 100.0, "optimizer": "Adam"}


def fails(config: Any) -> None:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)")


def failed(manager: ExperimentManager) -> tuple[Any, dict[str, Any]]:
    result = manager.run_experiment("wider", "width helps", CONFIG, fails)
    assert result["status"] == "failed"
    assert result["error"].startswith("mat1 and mat2")
    analysis = failure_analysis(result.report)
    Draft202012Validator(SCHEMA).validate(analysis)
    assert analysis["findings"][0]["code"] == "run.exception"
    return result, analysis


def test_what_is_known_of_a_failure() -> None:
    manager = ExperimentManager("churn", sinks=[])
    result, analysis = failed(manager)
    learnings = result["learnings"]
    assert set(result) == {"status", "error", "learnings"}
    assert set(learnings) == {"error_type", "likely_cause", "config_issues", "recommendations"}
    assert (learnings["error_type"], learnings["likely_cause"]) == ("RuntimeError", "shape_mismatch")
    assert "learning rate 100" in learnings["config_issues"][0]
    assert "5 features" in learnings["recommendations"][0]
    assert {name: analysis[name] for name in learnings} == learnings
    assert "learnings" not in analysis
    # The same without an experiment, as in the source.
    assert manager.diagnose_error(ValueError("x")) == "user_code_error"
    assert manager.check_config(CONFIG) == learnings["config_issues"]
    assert manager.suggest_fixes(ValueError("x"), CONFIG)


def test_an_analysis_of_the_users_own() -> None:
    class Own(ExperimentManager):
        def diagnose_error(self, error: BaseException) -> str:
            return "Our loader again"

        def check_config(self, config: Any) -> list[str]:
            return [*super().check_config(config), f"ours: {config['optimizer']}"]

        def analyze_failure(self, error: BaseException, config: Any) -> dict[str, Any]:
            return {**super().analyze_failure(error, config), "owner": "ada"}

    result, analysis = failed(Own("churn", sinks=[]))
    learnings = result["learnings"]
    assert (learnings["likely_cause"], learnings["owner"]) == ("Our loader again", "ada")
    assert learnings["config_issues"][-1] == "ours: Adam" == analysis["config_issues"][-1]
    assert analysis["likely_cause"] == "shape_mismatch"  # the schema knows codes only
    assert analysis["learnings"]["likely_cause"] == "Our loader again"


@pytest.mark.parametrize("part", ["analyze_failure", "diagnose_error", "check_config", "suggest_fixes"])
def test_an_error_of_the_users_analysis_hides_nothing(part: str) -> None:
    def broken(self: Any, *args: Any) -> Any:
        raise ZeroDivisionError("in my analysis")

    manager = type("Own", (ExperimentManager,), {part: broken})("churn", sinks=[])
    result, _ = failed(manager)
    assert result["learnings"]["likely_cause"] == "shape_mismatch"
    assert result["learnings"]["recommendations"]
    assert [n for n in result.report.notes if part in n and "ZeroDivisionError" in n]


def test_an_analysis_that_returns_nothing() -> None:
    class Own(ExperimentManager):
        def analyze_failure(self, error: BaseException, config: Any) -> Any:
            return None

    result, _ = failed(Own("churn", sinks=[]))
    assert result["learnings"]["error_type"] == "RuntimeError"
    assert any("NoneType" in note for note in result.report.notes)


def test_the_record_of_a_failure(tmp_path: Path) -> None:
    result, analysis = failed(ExperimentManager("churn", sinks=[LocalRecord("runs")]))
    folder = tmp_path / "runs" / result.report.run.record_id
    assert json.loads((folder / "failure_analysis.json").read_text()) == json.loads(json.dumps(analysis))
    assert "in fails" in (folder / "error_trace.txt").read_text()
    record = json.loads((folder / "failguard" / "experiment_record.json").read_text())
    assert (record["hypothesis"], record["outcome"]) == ("width helps", "Failure")
    assert record["next_steps"] == analysis["recommendations"]
    markdown = (folder / "failguard" / "experiment_record.md").read_text()
    assert markdown.startswith("## Experiment: width helps\n**Date**: ")


def test_an_error_whose_text_cannot_be_made() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def raises(config: Any) -> None:
        raise Odd

    result = ExperimentManager("churn", sinks=[]).run_experiment("a", "b", {}, raises)
    assert result["status"] == "failed"
    assert "RuntimeError" in result["error"]
    assert result["learnings"]["error_type"] == "Odd"
