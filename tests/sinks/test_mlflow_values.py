from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.finding import Finding, Severity, Status
from failguard.core.history import History
from failguard.runs.entry import entry_from_values
from failguard.sinks.mlflow_values import (
    course_rows,
    flat_config,
    metric_rows,
    note,
    params,
    resource_rows,
    run_status,
    summary_rows,
    tags,
    valid_name,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("failguard/val_loss", "failguard/val_loss"),
        ("failguard/loss (a)=b?", "failguard/loss _a__b_"),
        ("failguard//x", "failguard/x"),
        ("/a/../b/./c/", "a/b/c"),
        ("a:b-c.d e", "a:b-c.d e"),
        ("f1@0.5%", "f1_0.5_"),
        ("..", "_"),
        ("", "_"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert valid_name(name) == expected


def test_names_are_ones_that_mlflow_takes() -> None:
    validation = pytest.importorskip("mlflow.utils.validation")
    for name in (
        "loss (a)=b?",
        "//",
        "a//b/",
        "x" * 300,
        "x" * 249 + "/y",
        "é",
        "日本",
        "..",
        "./a",
        " a ",
        "a\nb",
        "a\\b",
    ):
        validation._validate_metric_name(valid_name(f"failguard/{name}"))
        validation._validate_param_name(valid_name(name))
        assert len(valid_name(f"failguard/{name}")) <= 250


def take(history: History, sent: dict[str, int], *, final: bool = False) -> list[tuple[str, float, int]]:
    """What a session does with the rows."""
    rows = metric_rows(list(history.rows()), sent, final=final)
    for name, _, start in rows:
        sent[name] = max(start, sent.get(name, -1))
    return rows


def test_only_new_completed_blocks() -> None:
    history, sent = History(), dict[str, int]()
    loss = history.step_series("loss")
    loss.append(0, 4.0)
    loss.append(1, 3.0)
    assert take(history, sent) == [("failguard/loss", 4.0, 0), ("failguard/loss", 3.0, 1)]
    assert take(history, sent) == []
    loss.append(2, 2.0)
    assert take(history, sent) == [("failguard/loss", 2.0, 2)]


def test_each_step_is_sent_once_also_when_blocks_merge() -> None:
    history, sent = History(), dict[str, int]()
    loss = history.step_series("loss")
    rows = []
    for step in range(5_001):
        loss.append(step, float(step))
        if step % 700 == 0:
            rows += take(history, sent)
    rows += take(history, sent, final=True)
    steps = [step for _, _, step in rows]
    assert steps == sorted(set(steps))
    assert len(steps) <= 3_000
    assert steps[-1] >= 4_990  # the last block is sent at the end, complete or not
    assert take(history, sent, final=True) == []


def test_blocks_without_a_finite_value_are_left_out() -> None:
    history = History()
    for step, value in enumerate([1.0, math.nan, math.inf, 2.0]):
        history.step_series("loss").append(step, value)
    assert take(history, {}) == [("failguard/loss", 1.0, 0), ("failguard/loss", 2.0, 3)]


def test_a_name_that_is_both_a_step_and_an_epoch_quantity() -> None:
    history = History()
    history.step_series("loss").append(0, 1.0)
    history.epoch_series("loss").append(0, 2.0)
    history.epoch_series("val_loss").append(0, 3.0)
    assert take(history, {}) == [
        ("failguard/loss", 1.0, 0),
        ("failguard/loss_epoch", 2.0, 0),
        ("failguard/val_loss", 3.0, 0),
    ]


def test_resources_are_flat_and_finite(make_report: Any) -> None:
    report = make_report(steps=5)
    report.resources = {
        "rss_bytes": 10,
        "gpu": {"0": {"utilization_percent": 50.0}},
        "x": math.nan,
        "ok": True,
        "s": "t",
    }
    assert resource_rows(report) == [("system/rss_bytes", 10.0, 4), ("system/gpu/0/utilization_percent", 50.0, 4)]


def test_params(make_report: Any) -> None:
    report = make_report()
    config = {
        "lr": 0.1,
        "model": {"width": 3, "acts": ["relu", 1]},
        "none": None,
        "a b?": 1,
        "a b!": 2,
        "long": "x" * 9000,
    }
    report.run = replace(report.run, hypothesis="wider is better", config=config)
    found = params(report)
    assert found["hypothesis"] == "wider is better"
    assert found["lr"] == "0.1"
    assert found["model.width"] == "3"
    assert found["model.acts"] == '["relu", 1]'
    assert found["none"] == "None"
    assert found["a b_"] == "1"
    assert found["a b__2"] == "2"
    assert len(found["long"]) == 6000
    report.run = replace(report.run, config={f"k{i}": i for i in range(2_000)})
    assert len(params(report)) == 501  # the hypothesis is none of the config


def test_tags(make_report: Any) -> None:
    healthy = tags(make_report(Status.COMPLETED))
    assert healthy["failguard.status"] == "completed"
    assert healthy["failguard.framework"] == "torch"
    assert "failguard.finding" not in healthy
    report = make_report(Status.STOPPED, failing=True)
    report.fingerprint = "f" * 9000
    failing = tags(report)
    assert failing["failguard.finding"] == "loss.divergence"
    assert failing["failguard.cause"] == "learning_rate_too_high"
    assert len(failing["failguard.fingerprint"]) == 8000


def test_note(make_report: Any) -> None:
    text = note(make_report(Status.STOPPED, failing=True))
    for word in ("stopped", "loss.divergence", "learning_rate_too_high", "Lower it."):
        assert word in text
    report = make_report(Status.STOPPED, failing=True)
    report.diagnosis = Diagnosis("s" * 9000, (Cause("x", 0.5),))
    assert len(note(report)) == 8000
    assert "completed" in note(make_report(Status.COMPLETED))
    assert "Seen before" not in note(make_report(Status.COMPLETED))
    report = make_report(Status.COMPLETED)
    report.findings = [Finding("run.repeat_of_failure", Severity.INFO, -1, 0, "1 earlier run <b>did</b>\nso.")]
    assert "- Seen before: 1 earlier run \\<b\\>did\\</b\\> so." in note(report)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.FAILED, "FAILED"),
        (Status.INTERRUPTED, "KILLED"),
        (Status.STOPPED, "FINISHED"),
        (Status.COMPLETED, "FINISHED"),
        (Status.RECOVERED, "FINISHED"),
    ],
)
def test_terminal_status(make_report: Any, status: Status, expected: str) -> None:
    assert run_status(make_report(status)) == expected


def test_the_course_of_a_quantity_goes_to_the_page_of_system_metrics(make_report: Any) -> None:
    report = make_report()
    times = [0.0, 1.0, 9.5, 10.5, 21.0]
    report.resources = {
        "series": {
            "elapsed_s": times,
            "process_rss_bytes": [1.0, 2.0, 3.0, 4.0, 5.0],
            "tree": [None, 7.0, 8.0, 9.0, 1.0],
        },
        "process_rss_bytes": {"mean": 3.0},
        "bill": {"hours": 2.0},
    }
    rows = course_rows(report, {"system/tree": 10})
    began = rows[0][3]
    assert [(name, value, step, at - began) for name, value, step, at in rows] == [
        ("system/process_rss_bytes", 1.0, 0, 0),
        ("system/process_rss_bytes", 4.0, 10, 10_500),
        ("system/process_rss_bytes", 5.0, 21, 21_000),
        ("system/tree", 1.0, 21, 21_000),
    ]
    assert resource_rows(report) == [("system/bill/hours", 2.0, 19)], "no dot beside a curve"


def test_the_registry_reads_a_run_from_its_tags_and_metrics(make_report: Any) -> None:
    report = make_report(Status.STOPPED, failing=True)
    report.seen_after_s = {report.root.code: 2.5}
    entry = entry_from_values(
        run_id="r",
        experiment_id="1",
        experiment="e",
        name="n",
        mlflow_status="FINISHED",
        started_ms=1,
        ended_ms=2,
        tags=tags(report),
        params=params(report),
        metrics={name: value for name, value, _ in summary_rows(report)},
    )
    assert entry.status == report.status.value
    assert entry.failed
    assert entry.finding == report.root.code
    assert entry.cause == report.diagnosis.likely_cause
    assert entry.fingerprint == report.fingerprint
    assert entry.config == flat_config(report.run.config)
    assert entry.used_h == pytest.approx(report.compute.used_h)
    assert (entry.steps, entry.detected_after_s) == (report.progress.steps, 2.5)


def test_a_config_that_is_too_long_for_a_tag_loses_its_longest_values(make_report: Any) -> None:
    report = make_report()
    config = {"lr": 0.1, "words": "x" * 9_000, "deep": {"rates": [0.1] * 3_000, "width": 7}}
    report.run = replace(report.run, config=config)
    assert json.loads(tags(report)["failguard.config"]) == {"lr": 0.1, "deep.width": 7}
