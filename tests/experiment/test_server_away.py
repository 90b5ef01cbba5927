"""A tracking server that is away costs the training nothing and the record nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from failguard import ExperimentManager
from failguard.sinks.sync import sync

pytestmark = [pytest.mark.framework, pytest.mark.slow]


def test_training_runs_and_sync_sends_it(dead_server: str, client: Any, store: str) -> None:
    manager = ExperimentManager("churn", dead_server)

    def fails(config: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)")

    good = manager.run_experiment("good", "width helps", {"lr": 0.1}, lambda c: {"acc": [0.5, 0.9]}, tags={"a": 1})
    bad = manager.run_experiment("bad", "depth helps", {"lr": 0.2}, fails)
    assert good == {"status": "success", "metrics": {"acc": [0.5, 0.9]}}
    assert (bad["status"], bad.run_id) == ("failed", None)
    result = sync(tracking_uri=store)
    assert len(result.sent) == 2
    assert not result.failed
    runs = {r.info.run_name: r for r in client.search_runs([client.get_experiment_by_name("churn").experiment_id])}
    run = runs["good"]
    assert {"hypothesis": "width helps", "lr": "0.1", "outcome": "success"}.items() <= run.data.params.items()
    assert (run.info.status, run.data.tags["a"]) == ("FINISHED", "1")
    points = client.get_metric_history(run.info.run_id, "acc")
    assert [(p.step, p.value) for p in points] == [(0, 0.5), (1, 0.9)]
    run = runs["bad"]
    assert (run.info.status, run.data.params["outcome"], run.data.params["error_type"]) == (
        "FAILED", "failed", "RuntimeError"
    )  # fmt: skip
    text = Path(client.download_artifacts(run.info.run_id, "failure_analysis.json", ".")).read_text()
    assert json.loads(text)["likely_cause"] == "shape_mismatch"
    assert sync(tracking_uri=store).sent == {}


def test_what_the_store_has_is_not_sent_twice(client: Any, store: str) -> None:
    from failguard.sinks.sync import publish_record

    result = ExperimentManager("churn").run_experiment("a", "h", {}, lambda config: {"acc": [0.5, float("nan")]})
    folder = result.report.locations["local"]
    publish_record(folder)
    assert len(client.get_metric_history(result.run_id, "acc")) == 2


def test_a_store_that_cannot_be_used_is_said_once(contained: None, caplog: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("this is no database" * 100)
    manager = ExperimentManager("churn", f"sqlite:///{tmp_path}/notes.db")
    result = manager.run_experiment("a", "h", {"lr": 1}, lambda config: {"accuracy": 1.0})
    assert result == {"status": "success", "metrics": {"accuracy": 1.0}}
    assert [e.part for e in result.report.part_errors] == ["sink mlflow"]
    assert "cannot be used" in result.report.part_errors[0].message
    assert Path(result.report.locations["local"], "failure_analysis.json").is_file()
    assert sum("cannot be used" in r.getMessage() for r in caplog.records) == 1


def test_a_deleted_experiment(contained: None, client: Any) -> None:
    client.delete_experiment(client.create_experiment("churn"))
    result = ExperimentManager("churn").run_experiment("a", "h", {}, lambda config: {"accuracy": 1.0})
    assert result["status"] == "success"
    assert "was deleted" in result.report.part_errors[0].message


def test_a_server_that_dies_while_training(server: Any) -> None:
    import mlflow
    from mlflow.tracking import MlflowClient

    manager = ExperimentManager("churn", server.uri)

    def trains_on(config: Any) -> Any:
        mlflow.log_metric("own", 1.0)
        server.kill()
        return {"accuracy": 0.9}

    result = manager.run_experiment("a", "h", {"lr": 0.1}, trains_on)
    assert result == {"status": "success", "metrics": {"accuracy": 0.9}}
    assert mlflow.active_run() is None
    assert result.run_id
    server.start()
    (address,) = sync().sent.values()
    assert result.run_id in address
    client = MlflowClient(server.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("churn").experiment_id])
    assert (run.info.run_id, run.info.status, run.data.params["outcome"]) == (result.run_id, "FINISHED", "success")
    assert (run.data.metrics["own"], run.data.metrics["accuracy"]) == (1.0, 0.9)
    again = manager.run_experiment("b", "h", {"lr": 0.1}, lambda config: {"accuracy": 0.8})
    assert client.get_run(again.run_id).data.metrics["accuracy"] == 0.8


def test_a_server_that_never_answers(hung_server: str) -> None:
    result = ExperimentManager("churn", hung_server).run_experiment("a", "h", {}, lambda config: {"accuracy": 0.9})
    assert result == {"status": "success", "metrics": {"accuracy": 0.9}}
    assert result.run_id is None
