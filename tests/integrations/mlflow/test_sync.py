"""Records that MLflow does not have, with real sqlite stores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from failguard.core.containment import Containment
from failguard.core.finding import Status
from failguard.errors import InputError
from failguard.sinks.delivery import Delivery
from failguard.sinks.files import ARTIFACTS, LocalRecord, write_json
from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.records import DELIVERY, read_delivery
from failguard.sinks.sync import sync

pytestmark = pytest.mark.framework


def record(make_report: Any, name: str, status: Status = Status.COMPLETED, **mlflow: Any) -> Path:
    """A record that MLflow was to get and did not."""
    local = LocalRecord("runs")
    report = make_report(record_id=name)
    report.run = replace(report.run, experiment="late")
    local.start(report)
    if status is not Status.RUNNING:
        report.status = status
        local.finish(report)
    local.write_delivery({"sinks": {"mlflow": {"state": "undelivered", **mlflow}}})
    return Path("runs", name)


def runs(store: str) -> dict[str, Any]:
    client = MlflowClient(store)
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return {r.info.run_name: r for r in found}


def test_what_is_undelivered_is_sent_once(make_report: Any, store: str) -> None:
    record(make_report, "a", tracking_uri=store)
    record(make_report, "b", Status.FAILED, tracking_uri=store)
    result = sync("runs")
    assert list(result.sent) == ["a", "b"]
    assert not result.failed
    found = runs(store)
    assert {name: r.info.status for name, r in found.items()} == {"a": "FINISHED", "b": "FAILED"}
    assert found["a"].data.params["lr"] == "0.1"
    assert found["a"].data.tags["failguard.line"] == "late"
    assert found["a"].info.start_time == 1767261600000
    assert found["a"].info.run_id in result.sent["a"]
    client = MlflowClient(store)
    names = {
        f.path
        for f in [
            *client.list_artifacts(found["a"].info.run_id),
            *client.list_artifacts(found["a"].info.run_id, "failguard"),
        ]
    }
    assert names >= set(ARTIFACTS) - {"error_trace.txt"}
    assert sync("runs").sent == {}
    assert len(runs(store)) == 2


def test_a_run_made_before_the_trouble_is_gone_on_with(make_report: Any, store: str) -> None:
    folder = record(make_report, "a", tracking_uri=store)
    sync("runs")
    run_id = runs(store)["a"].info.run_id
    # The process died before it could write that the record had arrived.
    record_state = read_delivery(folder)
    record_state["sinks"]["mlflow"] = {"state": "pending", "tracking_uri": store, "run_id": None}
    write_json(folder / DELIVERY, record_state)
    assert run_id in sync("runs").sent["a"]
    assert len(runs(store)) == 1
    assert len(MlflowClient(store).get_metric_history(run_id, "failguard/loss")) == 20


def test_a_run_of_the_users_stays_theirs(make_report: Any, store: str) -> None:
    client = MlflowClient(store)
    run_id = client.create_run("0").info.run_id
    record(make_report, "a", Status.FAILED, tracking_uri=store, run_id=run_id, owned=False)
    sync("runs")
    run = client.get_run(run_id)
    assert run.data.tags["failguard.status"] == "failed"
    assert run.data.params == {}
    assert run.info.status == "RUNNING"


def test_a_run_that_still_trains_is_left_alone(make_report: Any, store: str) -> None:
    delivery = Delivery([LocalRecord("runs"), MlflowSink(tracking_uri=store)], Containment())
    delivery.start(make_report(record_id="a"))
    assert sync("runs").running == ["a"]
    delivery.finish(make_report(Status.COMPLETED, record_id="a"), wait_s=120)


def test_a_run_whose_process_was_killed(make_report: Any, store: str) -> None:
    import os
    import socket

    folder = record(make_report, "a", Status.RUNNING, tracking_uri=store)
    gone = {"pid": os.getpid(), "host": socket.gethostname(), "created_s": 1.0}  # the number was given to another
    write_json(folder / DELIVERY, {**read_delivery(folder), "process": gone})
    assert list(sync("runs").sent) == ["a"]
    run = runs(store)["a"]
    assert run.info.status == "KILLED"
    assert run.data.tags["failguard.status"] == "interrupted"
    text = MlflowClient(store).download_artifacts(run.info.run_id, "failure_analysis.json", ".")
    assert json.loads(Path(text).read_text())["status"] == "interrupted"


def test_another_store_and_an_address_whose_user_info_is_not_kept(
    make_report: Any, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(make_report, "a", tracking_uri="http://[redacted]@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert list(sync("runs").sent) == ["a"]
    record(make_report, "b", tracking_uri="http://127.0.0.1:9")
    assert list(sync("runs").failed) == ["b"]
    assert list(sync("runs", tracking_uri=store).sent) == ["b"]


def test_a_broken_record_does_not_stop_the_others(make_report: Any, store: str) -> None:
    for name in ("a", "c"):
        (record(make_report, name, tracking_uri=store) / "failguard" / "report.json").write_text("{")
    Path("runs", "a", "failure_analysis.json").write_text("{")
    record(make_report, "b", tracking_uri=store)
    result = sync("runs")
    assert list(result.sent) == ["b", "c"], "of a report that is damaged the rest of the record is sent"
    assert "report.json" in result.failed["a"]


def test_records_that_mlflow_was_not_to_get(make_report: Any) -> None:
    local = LocalRecord("runs")
    local.start(make_report())
    local.finish(make_report(Status.COMPLETED))
    assert sync("runs").sent == {}


def test_no_directory() -> None:
    with pytest.raises(InputError, match="'nowhere'"):
        sync("nowhere")
