"""What trials gave is told in every form of the report."""

from __future__ import annotations

import json
from pathlib import Path

import failguard.report
from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.finding import Finding, Severity, Status
from failguard.core.run_info import RunInfo
from failguard.report.analysis import failure_analysis
from failguard.report.run_report import RunReport
from failguard.report.summary import summarize
from failguard.trials.evidence import add_evidence
from failguard.trials.results import Outcome, Trial, Verification


def report() -> RunReport:
    finding = Finding("loss.divergence", Severity.ERROR, 10, 0, "The loss rose.")
    causes = (
        Cause("learning_rate_too_high", 0.6, ("the rate is high",), "Lower the rate."),
        Cause("unscaled_targets", 0.3, ("targets are large",), "Scale the targets."),
        Cause("bad_labels", 0.1, (), "Check the labels."),
    )
    return RunReport(
        RunInfo("20260101-100000-abc123", "2026-01-01T10:00:00+00:00", "torch"),
        Status.STOPPED,
        [finding],
        finding,
        Diagnosis("The loss rose.", causes),
        notes=["kept"],
    )


def trials(helped: str | None) -> Verification:
    return Verification(
        Outcome.VERIFIED if helped else Outcome.NOT_REMOVED,
        "" if helped else "No remedy that was tried removed the symptom.",
        trials=[
            Trial(code, "w", helped == code, f"with {code} the loss fell from 1 to 0.5 in 48 updates")
            for code in ("learning_rate_too_high", "unscaled_targets")
        ]
        + [Trial("bad_labels", sentence="needs another program")],
        remarks=["Only some batches."],
    )


def test_the_remedy_that_helped_is_the_one_to_try() -> None:
    found = report()
    add_evidence(found, trials("unscaled_targets"))
    rate, targets, labels = found.diagnosis.causes
    assert (rate.verified, targets.verified, labels.verified) == (False, True, None)
    assert rate.evidence[0].startswith("against: tried with learning_rate_too_high")
    assert targets.evidence[0].startswith("verified: with unscaled_targets the loss fell")
    assert labels.evidence == ()
    assert summarize(found).remedy == "Scale the targets. (tried: it helped)"
    assert failure_analysis(found)["recommendations"][0] == "Scale the targets."
    for page in (found.to_markdown(), found.to_html()):
        assert "verified: with" in page.replace("\\", "")
    assert found.notes == ["kept", "Trials of remedies: Only some batches."]


def test_trials_again_replace_those_before() -> None:
    found = report()
    add_evidence(found, trials("unscaled_targets"))
    add_evidence(found, trials(None))
    assert [c.verified for c in found.diagnosis.causes] == [False, False, None]
    assert [len(c.evidence) for c in found.diagnosis.causes] == [2, 2, 0]
    assert summarize(found).remedy == "Lower the rate."
    assert "Trials of remedies: No remedy that was tried removed the symptom." in found.notes


def test_the_record_and_the_schema_know_it() -> None:
    import jsonschema

    found = report()
    add_evidence(found, trials("unscaled_targets"))
    assert RunReport.from_dict(found.to_dict()).diagnosis == found.diagnosis
    schema = Path(failguard.report.__file__).with_name("failure_analysis.schema.json").read_text()
    jsonschema.validate(failure_analysis(found), json.loads(schema))
