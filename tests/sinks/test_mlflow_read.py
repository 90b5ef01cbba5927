"""A report read back from a real MLflow store. How a store is checked is in ``tests/cli/test_cli_doctor.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

import failguard
from failguard.core.containment import Containment
from failguard.core.finding import Status
from failguard.errors import FailGuardError, InputError
from failguard.report.run_report import RunReport
from failguard.sinks.delivery import Delivery
from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.mlflow_read import read_report

pytestmark = pytest.mark.slow

STORE = "sqlite:///store.db"


def sent() -> tuple[str, RunReport]:
    """A run in the store: its id and its report."""
    columns = {"loss": [1.0, 0.5, float("nan")]}
    report = failguard.analyze(columns, per="step", config={"lr": 50.0, "optimizer": "SGD"})
    sink = MlflowSink(experiment="digits", run_name="wide", tracking_uri=STORE)
    delivery = Delivery([sink], Containment())
    delivery.start(report)
    delivery.finish(report, wait_s=60)
    run_id = sink.delivery_state()["run_id"]
    assert isinstance(run_id, str)
    return run_id, report


def test_what_mlflow_holds_comes_back() -> None:
    run_id, report = sent()
    found = read_report(run_id, STORE)
    assert found.status is Status.FAILED
    assert found.root == report.root
    assert found.findings == report.findings
    assert found.diagnosis.causes == report.diagnosis.causes
    assert found.fingerprint == report.fingerprint
    assert found.history == report.history
    assert found.progress.steps == 3
    assert (found.run.run_name, found.run.experiment, found.run.record_id) == ("wide", "digits", report.run.record_id)
    assert found.run.mlflow_run_id == run_id
    assert run_id in found.locations["mlflow"]
    assert any("local record" in note for note in found.notes)
    assert "loss.non" in found.to_markdown()

    with pytest.raises(InputError, match=r"'0000' cannot be read .*store\.db"):
        read_report("0000", STORE)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(STORE)
    bare = client.create_run("0").info.run_id
    with pytest.raises(InputError, match="failguard did not watch it"):
        read_report(bare, STORE)


def test_reading_makes_no_store() -> None:
    with pytest.raises(InputError, match="does not exist yet"):
        read_report("0" * 32, STORE)
    assert not Path("store.db").exists()


def test_a_dead_server_is_named() -> None:
    with pytest.raises(FailGuardError, match=r"127\.0\.0\.1:9.*does not answer"):
        read_report("0" * 32, "http://127.0.0.1:9")
