from __future__ import annotations

import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from failguard.core.run_info import RunInfo
from failguard.report.analysis import failure_analysis
from failguard.report.run_report import RunReport

KEYS = {
    "schema_version", "status", "error_type", "likely_cause", "config_issues", "recommendations", "findings", "causes",
    "root", "where", "compute", "environment", "fingerprint", "similar_runs",
}  # fmt: skip


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads((files("failguard.report") / "failure_analysis.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", ["failing", "healthy", "early_stop", "crashed"])
def test_it_has_the_promised_keys_and_fits_the_schema(name, request, validator):
    analysis = failure_analysis(request.getfixturevalue(name))
    assert set(analysis) == KEYS
    validator.validate(json.loads(json.dumps(analysis, allow_nan=False)))


def test_a_failing_run(failing):
    analysis = failure_analysis(failing)
    assert analysis["status"] == "stopped"
    assert analysis["likely_cause"] == "learning_rate_too_high"
    assert analysis["recommendations"] == ["Lower the learning rate from 8 to 0.01."]
    assert analysis["where"] == {"module": None, "tensor": "loss", "batch": 40, "rows": []}
    assert analysis["root"]["code"] == "loss.divergence"
    assert analysis["compute"]["saved_h"] == pytest.approx(22 / 3600)
    assert analysis["config_issues"]


def test_an_exception(crashed):
    analysis = failure_analysis(crashed)
    assert analysis["error_type"] == "RuntimeError"
    assert analysis["likely_cause"] == "shape_mismatch"


def test_a_healthy_run_is_written_too(healthy):
    analysis = failure_analysis(healthy)
    assert analysis["findings"] == analysis["causes"] == analysis["recommendations"] == []
    assert analysis["root"] is analysis["likely_cause"] is analysis["fingerprint"] is analysis["error_type"] is None


def test_the_least_report_fits(validator):
    validator.validate(failure_analysis(RunReport(RunInfo("a", "b"))))


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"status": "melted"},
        {"fingerprint": "xyz"},
        {"likely_cause": "Not A Code"},
        {"compute": {"used_h": -1, "wasted_h": None, "saved_h": None}},
        {"findings": [{"code": "loss.divergence"}]},
        {"where": {}},
        {"schema_version": 2},
    ],
)
def test_the_schema_is_strict(failing, validator, change):
    assert not validator.is_valid({**failure_analysis(failing), **change})


def test_a_missing_key_is_noticed(failing, validator):
    for key in KEYS:
        analysis = failure_analysis(failing)
        del analysis[key]
        assert not validator.is_valid(analysis)
