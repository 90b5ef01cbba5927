from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from failguard.report.outcome import Outcome
from failguard.runs.entry import Note, RunEntry, entry_from_values, note_from_tag


def make(**changes: Any) -> RunEntry:
    values: dict[str, Any] = {
        "run_id": "a" * 32,
        "experiment_id": "1",
        "experiment": "churn",
        "name": "wider",
        "mlflow_status": "FINISHED",
        "started_ms": 1_700_000_000_000,
        "ended_ms": 1_700_000_360_000,
        "tags": {},
        "params": {},
        "metrics": {},
    }
    return entry_from_values(**{**values, **changes})


def test_a_watched_run() -> None:
    entry = make(
        tags={
            "failguard.status": "stopped",
            "failguard.outcome": "failure",
            "failguard.finding": "loss.divergence",
            "failguard.findings": "gradient.exploding loss.divergence",
            "failguard.cause": "learning_rate_too_high",
            "failguard.fingerprint": "0123456789abcdef",
            "failguard.config": json.dumps({"lr": 0.3, "layers": [1, 2], "limit": "Infinity"}),
            "failguard.setup": json.dumps({"optimizer": "SGD", "learning_rate": 0.3}),
            "failguard.parent": "b" * 32,
            "failguard.tag.member": "ada",
            "mlflow.user": "ada",
            "team": "vision",
        },
        params={"hypothesis": "width helps", "lr": "0.3", "width": "512", "flag": "True", "name": "x"},
        metrics={
            "failguard/run/used_h": 0.1,
            "failguard/run/wasted_h": 0.05,
            "failguard/run/steps": 140.0,
            "failguard/run/detected_after_s": 12.5,
            "failguard/loss": 3.0,
            "val_loss": 2.0,
            "failguard/val_loss": 2.5,
            "system/cpu": 1.0,
        },
    )
    assert (entry.status, entry.outcome, entry.failed, entry.watched) == ("stopped", Outcome.FAILURE, True, True)
    assert entry.findings == ("gradient.exploding", "loss.divergence")
    assert entry.config == {
        "lr": 0.3, "width": 512, "flag": True, "name": "x", "layers": [1, 2], "limit": float("inf")
    }  # fmt: skip
    assert entry.setup["optimizer"] == "SGD"
    assert (entry.hypothesis, entry.user, entry.line, entry.parent) == ("width helps", "ada", "churn", "b" * 32)
    assert (entry.used_h, entry.wasted_h, entry.saved_h, entry.steps) == (0.1, 0.05, None, 140)
    assert entry.metrics == {"val_loss": 2.0, "loss": 3.0}
    assert entry.tags == {"failguard.tag.member": "ada", "mlflow.user": "ada", "team": "vision"}
    assert entry.duration_h == pytest.approx(0.1)
    assert json.loads(json.dumps(entry.to_dict(), allow_nan=False))["started_at"] == "2023-11-14T22:13:20+00:00"


@pytest.mark.parametrize(
    ("mlflow_status", "status", "outcome"),
    [
        ("FINISHED", "completed", None),  # MLflow says so of a run that an exception ended, too
        ("FAILED", "failed", Outcome.FAILURE),
        ("KILLED", "interrupted", Outcome.PARTIAL),
        ("RUNNING", "running", None),
        ("SCHEDULED", "running", None),
    ],
)
def test_a_run_that_was_not_watched(mlflow_status: str, status: str, outcome: Outcome | None) -> None:
    entry = make(mlflow_status=mlflow_status)
    assert (entry.status, entry.outcome, entry.watched) == (status, outcome, False)
    assert (entry.finding, entry.fingerprint, entry.used_h, entry.findings) == (None, None, None, ())


def test_the_param_of_an_experiment_manager_is_its_outcome() -> None:
    assert make(params={"outcome": "success"}).outcome is Outcome.SUCCESS
    assert make(params={"outcome": "failed", "error_type": "ValueError"}).error_type == "ValueError"
    assert make(params={"outcome": "failed"}).outcome is Outcome.FAILURE
    assert make(params={"outcome": "blue"}, mlflow_status="FAILED").outcome is Outcome.FAILURE


def test_a_run_left_running_takes_the_status_that_mlflow_was_told_later() -> None:
    assert make(tags={"failguard.status": "running"}, mlflow_status="KILLED").status == "interrupted"
    assert make(tags={"failguard.status": "running"}, mlflow_status="RUNNING").status == "running"


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "NaN"])
def test_other_peoples_tags_cost_nothing(text: str) -> None:
    entry = make(tags={"failguard.config": text, "failguard.setup": text, "failguard.note.x": text}, params={"a": "1"})
    assert (entry.config, dict(entry.setup), entry.notes) == ({"a": 1}, {}, ())


def test_times_that_cannot_be() -> None:
    entry = make(started_ms=None, ended_ms=10**20)
    assert (entry.started_at, entry.ended_at) == (datetime(1970, 1, 1, tzinfo=UTC), None)


def note(number: str, text: str, replaces: str | None = None, kind: str = "lesson") -> dict[str, str]:
    value = {"kind": kind, "text": text, "author": "ada", "written_at": f"2026-01-0{number}T00:00:00+01:00"}
    return {f"failguard.note.{number}": json.dumps({**value, **({"replaces": replaces} if replaces else {})})}


def test_notes_have_versions() -> None:
    tags = {
        **note("3", "warm-up helps", replaces="1"),
        **note("1", "warm-up is useless"),
        **note("2", "lower the rate"),
        **note("4", "", replaces="2"),
        **note("5", "try 0.01", kind="next_step"),
    }
    entry = make(tags=tags)
    assert entry.lessons == ("warm-up helps",)
    assert entry.next_steps == ("try 0.01",)
    assert [n.id for n in entry.notes] == ["1", "2", "3", "4", "5"]
    assert entry.notes[0] == Note("1", "lesson", "warm-up is useless", "ada", datetime(2025, 12, 31, 23, tzinfo=UTC))
    assert note_from_tag("failguard.note.1", '{"kind": "lesson"}') is None
