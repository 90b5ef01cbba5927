"""The MLflow sink with a real tracking server: one that is well, dead, hung, and killed while a run trains."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from failguard.core.containment import Containment
from failguard.core.finding import Status
from failguard.sinks import mlflow as sink_module
from failguard.sinks.delivery import Delivery
from failguard.sinks.files import ARTIFACTS, LocalRecord, load_record
from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.sync import publish_record, sync

pytestmark = [pytest.mark.framework, pytest.mark.slow]

ID = "20260101-100000-torch-abc123"
WAIT_S = 120.0


@pytest.fixture(autouse=True)
def _send_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "SEND_EVERY_S", 0.0)


class Reached(MlflowSink):
    """Tells when a call is over."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.started, self.progressed = threading.Event(), threading.Event()

    def start(self, report: Any) -> None:
        try:
            super().start(report)
        finally:
            self.started.set()

    def progress(self, report: Any) -> None:
        try:
            super().progress(report)
        finally:
            self.progressed.set()


def steps_of(uri: str, run_id: str) -> list[int]:
    return sorted(p.step for p in MlflowClient(uri).get_metric_history(run_id, "failguard/loss"))


def test_a_run_on_a_server(make_report: Any, server: Any) -> None:
    delivery = Delivery([LocalRecord(), MlflowSink(experiment="on a server", tracking_uri=server.uri)], Containment())
    delivery.start(make_report(steps=0))
    delivery.progress(make_report(steps=5))
    report = make_report(Status.FAILED, failing=True)
    delivery.finish(report, wait_s=WAIT_S)
    assert not report.part_errors
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("on a server")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    address = f"{server.uri}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}"
    assert report.locations["mlflow"] == f"{address}?workflowType=machine_learning"
    assert run.info.status == "FAILED"
    assert steps_of(server.uri, run.info.run_id) == list(range(20))
    uploaded = {
        a.path for a in [*client.list_artifacts(run.info.run_id), *client.list_artifacts(run.info.run_id, "failguard")]
    }
    assert uploaded == {*ARTIFACTS, "failguard"} - {"error_trace.txt"}
    assert not sync("failguard_runs").sent  # nothing is left to do


def test_a_server_that_is_killed_while_a_run_trains(
    make_report: Any, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Reached(experiment="killed", tracking_uri=server.uri)
    delivery = Delivery([LocalRecord(), sink], Containment())
    delivery.start(make_report(steps=0))
    delivery.progress(make_report(steps=10))
    assert sink.progressed.wait(60)
    run_id = sink.delivery_state()["run_id"]
    assert steps_of(server.uri, run_id) == list(range(10))
    server.kill()
    sink.progressed.clear()
    delivery.progress(make_report(steps=15))
    assert sink.progressed.wait(60)
    assert f"{server.uri} does not answer" in caplog.text
    assert "Training goes on" in caplog.text
    report = make_report(Status.STOPPED, failing=True)
    delivery.finish(report)
    assert "mlflow" not in report.locations
    assert server.uri in report.part_errors[0].message
    record = load_record(report.locations["local"])
    assert record.status is Status.STOPPED
    assert record.part_errors[0].message == report.part_errors[0].message

    failed = sync("failguard_runs")  # it is still down
    assert list(failed.failed) == [ID]
    assert server.uri in failed.failed[ID]

    server.start()
    assert list(sync("failguard_runs").sent) == [ID]
    run = MlflowClient(server.uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["failguard.status"] == "stopped"
    assert steps_of(server.uri, run_id) == list(range(20))  # each once
    assert run_id in load_record(report.locations["local"]).locations["mlflow"]
    again = sync("failguard_runs")
    assert (again.sent, again.failed, again.running) == ({}, {}, [])
    assert (
        publish_record(Path("failguard_runs", ID)) is not None
    )  # asked for by name it goes again, and changes nothing
    assert steps_of(server.uri, run_id) == list(range(20))
    system = MlflowClient(server.uri).get_metric_history(run_id, "system/cpu_mean_percent")
    assert len(system) == 1
    assert len(MlflowClient(server.uri).search_runs([run.info.experiment_id])) == 1


def test_a_server_that_comes_up_while_a_run_trains(make_report: Any, server: Any) -> None:
    server.kill()
    sink = Reached(experiment="comes up", tracking_uri=server.uri)
    delivery = Delivery([sink], Containment())
    delivery.start(make_report(steps=0))
    assert sink.started.wait(60)
    server.start()
    report = make_report(Status.COMPLETED)
    delivery.finish(report, wait_s=WAIT_S)
    assert not report.part_errors
    experiment = MlflowClient(server.uri).get_experiment_by_name("comes up")
    assert experiment is not None
    (run,) = MlflowClient(server.uri).search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert steps_of(server.uri, run.info.run_id) == list(range(20))


@pytest.mark.parametrize("trouble", ["hung_server", "dead_server"])
def test_a_server_that_does_not_answer(make_report: Any, trouble: str, request: pytest.FixtureRequest) -> None:
    uri = request.getfixturevalue(trouble)
    delivery = Delivery([LocalRecord(), MlflowSink(tracking_uri=uri)], Containment())
    delivery.start(make_report())
    for steps in range(50):
        delivery.progress(make_report(steps=steps))
    report = make_report(Status.COMPLETED)
    delivery.finish(report, wait_s=WAIT_S)  # comes back by itself, long before
    assert f"{uri} does not answer" in report.part_errors[0].message
    assert not [t for t in threading.enumerate() if t.name == "failguard delivery"]
    assert list(sync("failguard_runs").failed) == [ID]


def test_a_process_ends_although_the_server_hangs(tmp_path: Path) -> None:
    # MLflow alone would keep it for minutes: it retries seven times with a timeout of 120 s each.
    code = """
import socket
from failguard.core.containment import Containment
from failguard.core.run_info import RunInfo
from failguard.core.finding import Status
from failguard.report.run_report import RunReport
from failguard.sinks import mlflow_session
from failguard.sinks.delivery import Delivery
from failguard.sinks.files import LocalRecord
from failguard.sinks.mlflow import MlflowSink
mlflow_session.probe = lambda uri: None  # the server was well when it was asked, and hangs after that
listening = socket.create_server(("127.0.0.1", 0))
uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
report = lambda status: RunReport(RunInfo("id", "2026-01-01T00:00:00+00:00", "torch"), status)
delivery = Delivery([LocalRecord(), MlflowSink(tracking_uri=uri)], Containment())
delivery.start(report(Status.RUNNING))
connection, _ = listening.accept()  # MLflow is in a call that will not be answered
final = report(Status.COMPLETED)
delivery.finish(final, wait_s=0.5)
print(final.notes)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "has not taken this run" in done.stdout, done.stderr
    assert load_record(tmp_path / "failguard_runs" / "id").status is Status.COMPLETED
