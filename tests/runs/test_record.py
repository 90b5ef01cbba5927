from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Status
from failguard.core.run_info import RunInfo
from failguard.errors import InputError
from failguard.report.outcome import Outcome
from failguard.report.run_report import Progress, RunReport
from failguard.runs import ExperimentRecord, Note, RunEntry


def test_as_in_the_source() -> None:
    record = ExperimentRecord()
    assert (record.hypothesis, record.approach, record.metrics, record.duration) == ("", "", {}, 0)
    assert (record.outcome, record.lessons, record.next_steps) == ("", [], [])
    record.hypothesis = "Combine simple models with selective deep learning"
    record.approach = "Hybrid"
    record.metrics = {"ctr": 0.68, "latency_ms": 50}
    record.duration = 3
    record.outcome = "Success"
    record.lessons = ["Pragmatic solutions beat pure approaches", "Two\nlines"]
    record.next_steps = ["Real-time personalization"]
    record.date = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (
        record.to_markdown()
        == """
## Experiment: Combine simple models with selective deep learning
**Date**: 2026-01-02 03:04:05+00:00
**Duration**: 3 days
**Outcome**: Success

### Approach
Hybrid

### Results
{
  "ctr": 0.68,
  "latency_ms": 50
}

### Lessons Learned
- Pragmatic solutions beat pure approaches
- Two
  lines

### Next Steps
- Real-time personalization
"""
    )


def test_an_empty_one_is_dated_today() -> None:
    text = ExperimentRecord().to_markdown()
    assert f"**Date**: {datetime.now(UTC):%Y-}" in text
    assert "**Duration**: 0 days" in text


@pytest.mark.parametrize(
    ("duration", "text"),
    [(timedelta(hours=12), "0.5 days (12.0 h)"), (1.5, "1.5 days"), (timedelta(days=2), "2 days"),
     (3 / 86_400, "3.472e-05 days (3 s)")],
)  # fmt: skip
def test_durations(duration: Any, text: str) -> None:
    record = ExperimentRecord(duration=duration)
    assert f"**Duration**: {text}\n" in record.to_markdown()
    days = json.loads(record.to_json())["duration_days"]
    assert days == (duration.total_seconds() / 86_400 if isinstance(duration, timedelta) else duration)


@given(
    st.builds(
        ExperimentRecord,
        hypothesis=st.text(),
        approach=st.text(),
        metrics=st.dictionaries(st.text(), st.floats(allow_nan=False) | st.integers() | st.lists(st.floats(0, 1))),
        duration=st.floats(0, 1e6),
        outcome=st.sampled_from(["", "Success", "Failure", "Partial"]),
        lessons=st.lists(st.text()),
        next_steps=st.lists(st.text()),
        date=st.none() | st.datetimes(timezones=st.just(UTC)),
        name=st.text(),
        run_id=st.text(),
    )
)
def test_there_and_back(record: ExperimentRecord) -> None:
    assert ExperimentRecord.from_json(record.to_json()) == record
    assert record.to_markdown().startswith("\n## Experiment: ")


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", '{"lessons": "one"}', '{"date": "soon"}', '{"duration_days": "x"}', '{"metrics": []}',
             '{"metrics": [1]}', '{"hypothesis": {}}', '{"hypothesis": 3}', '{"next_steps": [3]}', b"\xff"],
)  # fmt: skip
def test_what_is_no_record(text: Any) -> None:
    if text in ('{"metrics": []}', '{"hypothesis": {}}'):  # as empty as it gets
        assert ExperimentRecord.from_json(text) == ExperimentRecord()
        return
    with pytest.raises(InputError):
        ExperimentRecord.from_json(text)
    assert ExperimentRecord.from_json('{"new_field": 1}') == ExperimentRecord()


def report(**more: Any) -> RunReport:
    finding = Finding("loss.divergence", Severity.ERROR, 10, 0, "The loss rose.")
    facts = Facts()
    facts.model.name, facts.model.parameters = "MLP", 4810
    facts.optimizer.name, facts.optimizer.learning_rate = "SGD", 10.0
    run = RunInfo("id", "2026-01-02T03:04:05+01:00", hypothesis="width helps", run_name="wider")
    usual: dict[str, Any] = {
        "status": Status.STOPPED,
        "findings": [finding],
        "root": finding,
        "diagnosis": Diagnosis(
            "The loss diverged.", (Cause("learning_rate_too_high", 0.8, (), "Lower it."),), ("lr 10.",)
        ),
        "progress": Progress(steps=20, duration_s=8_640.0),
        "facts": facts,
        "metrics": {"accuracy": [(0, 0.5), (1, 0.6)]},
        "history": [
            {"per": "epoch", "name": "val_loss", "mean": 2.0},
            {"per": "epoch", "name": "val_loss", "mean": 3.0},
            {"per": "step", "name": "loss", "mean": 9.0},
            {"per": "epoch", "name": "accuracy", "mean": 0.1},
        ],
    }
    return RunReport(run, **{**usual, **more})


def test_from_a_report() -> None:
    record = ExperimentRecord.from_report(report())
    assert (record.hypothesis, record.outcome, record.duration) == ("width helps", "Failure", 0.1)
    assert record.approach == "model MLP, parameters 4,810, optimizer SGD, learning rate 10.0"
    assert record.metrics == {"accuracy": 0.6, "val_loss": 3.0}
    assert (record.lessons, record.next_steps) == (["The loss diverged.", "lr 10."], ["Lower it."])
    assert record.date is not None
    assert record.date.isoformat() == "2026-01-02T03:04:05+01:00"
    healthy = ExperimentRecord.from_report(RunReport(RunInfo("id", ""), Status.COMPLETED))
    assert (healthy.outcome, healthy.lessons, healthy.next_steps, healthy.date) == ("Success", [], [], None)
    assert healthy.to_markdown().startswith("\n## Experiment: id\n")


def test_from_the_registry() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    notes = (
        Note("1", "lesson", "warm up", "ada", at),
        Note("2", "next_step", "try 0.03", "ada", at),
        Note("3", "lesson", "warm up first", "ada", at, replaces="1"),
    )
    entry = RunEntry(
        "r", "1", "churn", "wider", "failed", at, at + timedelta(hours=12), Outcome.FAILURE, finding="loss.divergence",
        cause="learning_rate_too_high", hypothesis="width helps", notes=notes, metrics={"acc": 0.5},
        setup={"optimizer": "SGD"},
    )  # fmt: skip
    record = ExperimentRecord.from_entry(entry)
    assert record.lessons == ["warm up first", "It ended with loss.divergence, likely cause: learning rate too high."]
    assert (record.next_steps, record.outcome, record.duration) == (["try 0.03"], "Failure", 0.5)
    assert (record.approach, record.metrics, record.run_id) == ("optimizer SGD", {"acc": 0.5}, "r")
    unknown = ExperimentRecord.from_entry(RunEntry("r", "1", "churn", "wider", "completed", at))
    assert (unknown.outcome, unknown.lessons, unknown.duration) == ("", [], 0.0)
