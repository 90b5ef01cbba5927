"""The MLflow sink with real sqlite stores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from failguard.core.containment import Containment
from failguard.core.finding import Status
from failguard.core.observation import ExceptionFacts
from failguard.errors import ConfigurationError
from failguard.report.run_report import RunReport
from failguard.sinks.base import Sink
from failguard.sinks.delivery import Delivery
from failguard.sinks.files import ARTIFACTS, LocalRecord, load_record
from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.mlflow_session import Target, connect

pytestmark = pytest.mark.framework

WAIT_S = 120.0  # these tests are about what arrives, not when


@pytest.fixture(autouse=True)
def _no_store_of_an_earlier_test() -> Any:
    yield
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    mlflow.tracking.fluent._active_experiment_id = None


def deliver(sink: MlflowSink, first: RunReport, last: RunReport, *, local: bool = True) -> RunReport:
    sinks: list[Sink] = [LocalRecord(), sink] if local else [sink]
    delivery = Delivery(sinks, Containment())
    delivery.start(first)
    delivery.progress(first)
    last.run = first.run
    delivery.finish(last, wait_s=WAIT_S)
    return last


def the_run(store: str, experiment_ids: list[str] | None = None) -> Any:
    runs = MlflowClient(store).search_runs(experiment_ids or ["0"])
    assert len(runs) == 1
    return runs[0]


def artifacts(store: str, run_id: str) -> set[str]:
    client = MlflowClient(store)
    found = set()
    for entry in [*client.list_artifacts(run_id), *client.list_artifacts(run_id, "failguard")]:
        if not entry.is_dir:
            found.add(entry.path)
    return found


def named(report: RunReport, **values: Any) -> RunReport:
    report.run = replace(report.run, **values)
    return report


@pytest.mark.parametrize("local", [True, False])
def test_a_run_of_our_own(make_report: Any, store: str, local: bool) -> None:
    first = named(make_report(steps=5), hypothesis="wider is better", tags={"team": "vision"}, approach="try")
    error = ExceptionFacts("RuntimeError", "bad", "Traceback...\n")
    last = make_report(Status.FAILED, steps=20, failing=True, exception=error)
    report = deliver(MlflowSink(), first, last, local=local)
    assert not report.part_errors
    run = the_run(store)
    assert run.info.run_name == report.run.record_id
    assert run.info.status == "FAILED"
    assert run.data.params == {"hypothesis": "wider is better", "lr": "0.1", "model.width": "3"}
    expected = {
        "failguard.status": "failed",
        "failguard.finding": "loss.divergence",
        "failguard.cause": "learning_rate_too_high",
        "failguard.framework": "torch",
        "failguard.line": "Default",
        "failguard.approach": "try",
        "team": "vision",
    }
    assert expected.items() <= run.data.tags.items()
    assert "Lower it." in run.data.tags["mlflow.note.content"]
    client = MlflowClient(store)
    points = client.get_metric_history(run.info.run_id, "failguard/loss")
    assert sorted((p.step, p.value) for p in points) == [(i, 1.0 / (i + 1)) for i in range(20)]
    assert run.data.metrics["system/cpu_mean_percent"] == 12.5
    assert artifacts(store, run.info.run_id) == set(ARTIFACTS)
    analysis = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/failure_analysis.json")
    assert analysis["status"] == "failed"
    assert report.locations["mlflow"] == f"run {run.info.run_id} (mlflow ui --backend-store-uri {store})"
    assert run.info.end_time - run.info.start_time == 2000


@pytest.mark.parametrize(
    ("status", "expected"),
    [(Status.COMPLETED, "FINISHED"), (Status.STOPPED, "FINISHED"), (Status.INTERRUPTED, "KILLED")],
)
def test_terminal_status_of_our_own_runs(make_report: Any, store: str, status: Status, expected: str) -> None:
    deliver(MlflowSink(tracking_uri=store), make_report(), make_report(status))
    assert the_run(store).info.status == expected


def test_names_of_the_guard_and_of_the_sink(make_report: Any, store: str) -> None:
    first = named(make_report(), experiment="churn", run_name="wider")
    deliver(MlflowSink(), first, make_report(Status.COMPLETED))
    deliver(
        MlflowSink(experiment="other", run_name="mine"), named(first, record_id="r2"), make_report(Status.COMPLETED)
    )
    client = MlflowClient(store)
    for experiment, name in (("churn", "wider"), ("other", "mine")):
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        run = the_run(store, [found.experiment_id])
        assert run.info.run_name == name
        assert run.data.tags["failguard.line"] == "churn"


def test_the_users_experiment(make_report: Any, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = mlflow.set_experiment("of the user")
    deliver(MlflowSink(), make_report(), make_report(Status.COMPLETED))
    assert the_run(store, [experiment.experiment_id]).data.tags["failguard.line"] == "of the user"


def test_the_active_run_stays_the_users(make_report: Any, store: str) -> None:
    before = dict(os.environ)
    with mlflow.start_run() as active:
        mlflow.set_tag("mlflow.note.content", "my own note")
        first = named(make_report(), tags={"team": "vision"}, hypothesis="h")
        report = deliver(MlflowSink(), first, make_report(Status.FAILED, failing=True))
        mlflow.log_param("lr", 0.5)  # would raise, had failguard logged it
        assert MlflowClient(store).get_run(active.info.run_id).info.status == "RUNNING"
    run = the_run(store)
    assert run.info.run_id == active.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.5"}
    assert run.data.tags["mlflow.note.content"] == "my own note"
    ours = {k for k in run.data.tags if not k.startswith("mlflow.")}
    assert all(k.startswith("failguard.") for k in ours)
    assert run.data.tags["failguard.tag.team"] == "vision"
    assert all(k.startswith(("failguard/", "system/")) for k in run.data.metrics)
    assert artifacts(store, active.info.run_id) == set(ARTIFACTS) - {"error_trace.txt"}
    assert active.info.run_id in report.locations["mlflow"]
    changed = {k for k in {*before, *os.environ} if before.get(k) != os.environ.get(k) and "MLFLOW" in k}
    assert not changed


def test_an_empty_note_is_filled(make_report: Any, store: str) -> None:
    with mlflow.start_run():
        deliver(MlflowSink(), make_report(), make_report(Status.STOPPED, failing=True))
    assert "loss.divergence" in the_run(store).data.tags["mlflow.note.content"]


def test_lightnings_logger_before_the_active_run(make_report: Any, store: str) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.MLFlowLogger(experiment_name="of the trainer", tracking_uri=store)
    run_id = logger.run_id
    with mlflow.start_run() as active:
        first = named(make_report(), mlflow_run_id=run_id, mlflow_tracking_uri=store)
        report = deliver(MlflowSink(), first, make_report(Status.FAILED, failing=True))
    client = MlflowClient(store)
    assert "failguard.status" not in client.get_run(active.info.run_id).data.tags
    run = client.get_run(run_id)
    assert run_id in report.locations["mlflow"]
    assert run.data.tags["failguard.status"] == "failed"
    assert run.data.tags["failguard.line"] == "of the trainer"
    assert run.data.params == {}
    assert run.info.status == "RUNNING"  # the logger's to end
    logger.log_hyperparams({"lr": 0.5})
    logger.finalize("success")
    assert client.get_run(run_id).info.status == "FINISHED"


def test_an_explicit_run_comes_first(make_report: Any, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(store)
    by_keyword, by_environment = (client.create_run("0").info.run_id for _ in range(2))
    monkeypatch.setenv("MLFLOW_RUN_ID", by_environment)
    first = named(make_report(), mlflow_run_id="not this one")
    deliver(MlflowSink(), first, make_report(Status.COMPLETED))
    deliver(MlflowSink(run_id=by_keyword), first, make_report(Status.COMPLETED))
    for run_id in (by_keyword, by_environment):
        run = client.get_run(run_id)
        assert run.data.tags["failguard.status"] == "completed"
        assert run.info.status == "RUNNING"
    assert len(client.search_runs(["0"])) == 2


def test_a_database_is_made_whole_where_there_is_none(make_report: Any, tmp_path: Path) -> None:
    report = deliver(MlflowSink(), make_report(), make_report(Status.COMPLETED))
    assert not report.part_errors
    assert the_run(f"sqlite:///{tmp_path}/mlflow.db").info.status == "FINISHED"
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"mlflow.db", "mlruns", "failguard_runs"}


@pytest.mark.slow
def test_two_runs_may_need_the_database_at_once(tmp_path: Path) -> None:
    """The migrations with which MLflow makes or opens a database do not bear company."""
    target = Target(f"sqlite:///{tmp_path}/mlflow.db")
    with ThreadPoolExecutor(3) as pool:
        sessions = [f.result() for f in [pool.submit(connect, target) for _ in range(3)]]
    for session in sessions:
        assert session.client.search_experiments()


def test_a_database_left_unfinished_by_a_killed_process_is_no_trouble(make_report: Any, tmp_path: Path) -> None:
    (tmp_path / f".mlflow.db.{os.getpid()}.new").write_bytes(b"half of a database")  # numbers come back in containers
    report = deliver(MlflowSink(), make_report(), make_report(Status.COMPLETED))
    assert not report.part_errors


@pytest.mark.slow
def test_a_process_killed_while_the_database_is_made_leaves_none(tmp_path: Path) -> None:
    code = """
import os, sqlalchemy
import mlflow.store.db.utils as utils
from failguard.sinks.mlflow_session import Target, connect
real = utils._upgrade_db
utils._upgrade_db = lambda engine: os._exit(9)   # the tables are there, half of the schema is not
connect(Target(f"sqlite:///{os.getcwd()}/mlflow.db"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 9, done.stderr.decode()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("file:./mlruns", "file"),
        ("sqlite:///taken/mlflow.db", "taken"),
        ("nonsense://x", "nonsense"),
    ],
)
def test_a_store_that_cannot_be_used(make_report: Any, uri: str, word: str, caplog: pytest.LogCaptureFixture) -> None:
    Path("taken").write_text("a file, not a folder")
    report = deliver(MlflowSink(tracking_uri=uri), make_report(), make_report(Status.COMPLETED))
    (error,) = report.part_errors
    assert error.part == "sink mlflow"
    for expected in (uri, word, "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db", "failguard sync"):
        assert expected in error.message
    assert error.message.partition(": ")[2] in caplog.text
    assert "mlflow" not in report.locations
    assert [e.part for e in load_record(report.locations["local"]).part_errors] == ["sink mlflow"]


def test_a_run_that_does_not_exist(make_report: Any, store: str) -> None:
    report = deliver(MlflowSink(run_id="0" * 32), make_report(), make_report(Status.COMPLETED))
    assert "0" * 32 in report.part_errors[0].message


def test_an_experiment_that_was_deleted(make_report: Any, store: str) -> None:
    client = MlflowClient(store)
    client.delete_experiment(client.create_experiment("gone"))
    report = deliver(MlflowSink(experiment="gone"), make_report(), make_report(Status.COMPLETED))
    assert "'gone' was deleted" in report.part_errors[0].message
    assert "mlflow experiments restore" in report.part_errors[0].message


@pytest.mark.parametrize("keyword", ["experiment", "run_name", "run_id", "tracking_uri"])
def test_arguments_that_cannot_be_used(keyword: str) -> None:
    with pytest.raises(ConfigurationError, match=keyword):
        MlflowSink(**{keyword: ""})


def test_a_long_history_goes_in_batches(make_report: Any, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = MlflowClient.log_batch

    def counted(self: Any, run_id: str, metrics: Any = (), params: Any = (), tags: Any = (), **kw: Any) -> Any:
        sizes.append(len(metrics) + len(params) + len(tags))
        return real(self, run_id, metrics=metrics, params=params, tags=tags, **kw)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    last = make_report(Status.COMPLETED, steps=3_000)
    last.history = [{**row, "name": name} for name in ("loss", "gradient_norm", "step_s") for row in last.history]
    first = named(make_report(), config={f"k{i}": i for i in range(250)})
    deliver(MlflowSink(), first, last)
    assert max(sizes) <= 1_000
    run = the_run(store)
    assert len(run.data.params) == 250
    assert {"failguard/loss", "failguard/gradient_norm", "failguard/step_s"} <= set(run.data.metrics)


def test_bad_names_do_not_cost_the_batch(make_report: Any, store: str) -> None:
    last = make_report(Status.COMPLETED)
    last.history += [{**row, "name": "f1 (macro) = %"} for row in last.history]
    report = deliver(MlflowSink(), make_report(), last)
    assert not report.part_errors
    assert {"failguard/loss", "failguard/f1 _macro_ _ _"} <= set(the_run(store).data.metrics)


@pytest.mark.slow
def test_mlflow_is_not_loaded_on_the_training_thread(tmp_path: Path) -> None:
    code = """
import json, sys, threading, builtins
from failguard.core.containment import Containment
from failguard.core.run_info import RunInfo
from failguard.core.finding import Status
from failguard.report.run_report import RunReport
from failguard.sinks.delivery import Delivery
from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.mlflow_session import Target, connect
threads = set()
real = builtins.__import__
def watched(name, *args, **kw):
    if name.partition(".")[0] == "mlflow":
        threads.add(threading.current_thread() is threading.main_thread())
    return real(name, *args, **kw)
builtins.__import__ = watched
report = lambda status: RunReport(RunInfo("id", "2026-01-01T00:00:00+00:00", "torch"), status)
delivery = Delivery([MlflowSink()], Containment())
delivery.start(report(Status.RUNNING))
final = report(Status.COMPLETED)
delivery.finish(final, wait_s=100)
print(json.dumps([sorted(threads), list(final.locations), [e.message for e in final.part_errors]]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1]) == [[False], ["mlflow"], []], done.stderr
