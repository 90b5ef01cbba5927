from __future__ import annotations

import pytest
from typer.testing import CliRunner, Result

from failguard.cli.app import app
from failguard.cli.reference import pages
from failguard.core.codes import CAUSES, FINDINGS
from failguard.detectors.presets import detectors_for
from failguard.settings import Settings


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["explain", *arguments])


def test_without_a_code_it_lists_all() -> None:
    result = explain()
    assert result.exit_code == 0
    assert all(code in result.stdout for code in [*FINDINGS, *CAUSES])


@pytest.mark.parametrize("code", sorted(FINDINGS))
def test_every_finding(code: str) -> None:
    result = explain(code)
    assert result.exit_code == 0
    assert FINDINGS[code].meaning in result.stdout
    assert f"severity {FINDINGS[code].severity}" in result.stdout


@pytest.mark.parametrize("code", sorted(CAUSES))
def test_every_cause(code: str) -> None:
    result = explain(code)
    assert result.exit_code == 0
    assert CAUSES[code].meaning in result.stdout


def test_a_finding_comes_with_its_formula_and_source() -> None:
    for detector in detectors_for(Settings(detectors="full", patience=1, sinks=[])):
        output = explain(detector.code).stdout
        assert "does not look for it" not in output
        assert "``" not in output
        assert ":class:" not in output
        assert "Source" in output or detector.code in ("run.exception", "run.interrupted", "metric.no_improvement")


def test_a_cause_comes_with_its_remedy() -> None:
    output = explain("learning_rate_too_high").stdout
    assert "What to try: Lower the learning rate" in output
    assert "loss.divergence" in output


@pytest.mark.parametrize(
    ("code", "near"), [("loss.diverge", "loss.divergence"), ("learning_rate_high", "learning_rate_too_high")]
)
def test_an_unknown_code_names_the_nearest(code: str, near: str) -> None:
    result = explain(code)
    assert result.exit_code == 2
    assert near in result.stderr


def test_a_long_unknown_code_is_cut() -> None:
    assert len(explain("x" * 5000).stderr) < 300


def test_a_finding_comes_with_an_example_and_remedies() -> None:
    output = explain("loss.divergence").stdout
    assert "Example (" in output
    assert "learning_rate_too_high: Lower the learning rate to a tenth." in output
    assert "Defaults: known_factor" in output


def test_every_detector_has_an_example() -> None:
    detectors = {d.code for d in detectors_for(Settings(detectors="full", patience=1, sinks=[]))}
    for page in pages():
        if page.code in detectors:
            assert page.example[1], page.code


def test_a_finding_about_a_dataset_says_who_looks_for_it_and_by_which_thresholds() -> None:
    output = explain("data.nulls").stdout
    assert "failguard data check" in output
    assert "null_share_warning = 0.05" in output
    missing = {page.code for page in pages() if page.kind == "finding" and not page.document}
    assert missing == {"run.replica_mismatch"}


def test_what_earlier_runs_say_is_explained() -> None:
    output = explain("run.repeat_of_failure").stdout
    assert "fingerprint" in output
    assert "similar_share = 0.8" in output
    assert "FailGuard(memory=False)" in output


def test_every_cause_is_known_to_the_table() -> None:
    for page in pages():
        if page.kind == "cause":
            assert page.related, page.code
            assert page.remedies[0][1].endswith("."), page.code
            assert page.evidence, page.code
