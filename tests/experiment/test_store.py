"""Experiments in real sqlite stores."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from failguard import ExperimentManager
from failguard.errors import ConfigurationError
from failguard.runs.entry import entry_from_values
from failguard.sinks.files import load_record

pytestmark = pytest.mark.framework


def run_of(client: Any, result: Any) -> Any:
    return client.get_run(result.run_id)


def entry_of(client: Any, run: Any) -> Any:
    return entry_from_values(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        experiment=client.get_experiment(run.info.experiment_id).name,
        name=run.info.run_name,
        mlflow_status=run.info.status,
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
    )


def artifacts(client: Any, result: Any) -> set[str]:
    listed = [*client.list_artifacts(result.run_id), *client.list_artifacts(result.run_id, "failguard")]
    return {entry.path for entry in listed if not entry.is_dir}


def test_a_success(client: Any) -> None:
    def train(config: Any) -> dict[str, Any]:
        assert mlflow.active_run() is not None
        mlflow.log_params(config)  # the same as the manager's: no clash
        mlflow.log_metric("own", 3.0, step=4)
        return {"accuracy": np.float32(0.5), "val_loss": [0.9, 0.8], "best": math.nan}

    manager = ExperimentManager("churn", tags={"team": "vision"})
    config = {"lr": 0.1, "optimizer": "Adam", "nesterov": True, "clip": None, "layers": [1, 2], "names": ["a", "b"]}
    result = manager.run_experiment(
        "wider", "width helps", config, train, approach="twice as wide", tags={"k": 1}, line="width", parent="b" * 32
    )
    assert result == {"status": "success", "metrics": result.metrics}
    run = run_of(client, result)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "wider")
    expected = {"hypothesis": "width helps", "outcome": "success", "lr": "0.1", "optimizer": "Adam", "nesterov": "True"}
    assert expected.items() <= run.data.params.items()
    assert run.data.params["layers"] == "[1, 2]"
    points = client.get_metric_history(result.run_id, "val_loss")
    assert [(p.step, p.value) for p in points] == [(0, 0.9), (1, 0.8)]
    assert (run.data.metrics["accuracy"], run.data.metrics["own"]) == (0.5, 3.0)
    assert math.isnan(run.data.metrics["best"])
    assert run.data.metrics["system/process_peak_increase_bytes"] >= 0
    tags = run.data.tags
    assert (tags["team"], tags["k"], tags["failguard.line"], tags["failguard.parent"]) == (
        "vision",
        "1",
        "width",
        "b" * 32,
    )
    assert "failguard/experiment_record.md" in artifacts(client, result)
    assert "error_trace.txt" not in artifacts(client, result)
    entry = entry_of(client, run)
    assert (entry.hypothesis, entry.approach, entry.framework) == ("width helps", "twice as wide", "python")
    assert entry.config["lr"] == 0.1
    assert entry.outcome == "partial"  # a metric that is NaN is worth a look
    assert entry.steps is None
    assert load_record(result.report.locations["local"]).metrics["val_loss"] == [(0, 0.9), (1, 0.8)]


def test_a_failure(client: Any) -> None:
    def train(config: Any) -> None:
        mlflow.log_metric("before", 1.0)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)")

    result = ExperimentManager("churn").run_experiment("wider", "width helps", {"outcome": 1, "error_type": 2}, train)
    run = run_of(client, result)
    assert run.info.status == "FAILED"
    assert (run.data.params["outcome"], run.data.params["error_type"]) == ("failed", "RuntimeError")
    assert (run.data.params["outcome_2"], run.data.params["error_type_2"]) == ("1", "2")
    assert run.data.metrics["before"] == 1.0
    assert {"failure_analysis.json", "error_trace.txt"} <= artifacts(client, result)
    text = Path(client.download_artifacts(result.run_id, "failure_analysis.json", ".")).read_text()
    assert json.loads(text)["likely_cause"] == result["learnings"]["likely_cause"] == "shape_mismatch"
    entry = entry_of(client, run)
    assert (entry.failed, entry.cause, entry.error_type) == (True, "shape_mismatch", "RuntimeError")
    assert entry.fingerprint


@pytest.mark.parametrize("returned", [{"loss": math.nan}, {"val_loss": [1.0, math.inf]}])
def test_a_loss_that_is_not_finite_is_a_failure(client: Any, returned: Any) -> None:
    result = ExperimentManager("churn").run_experiment("wider", "h", {}, lambda config: returned)
    assert result["status"] == "failed"
    assert result.metrics is returned
    assert result.report.root is not None
    assert result.report.root.code == "metric.non_finite"
    run = run_of(client, result)
    assert run.data.params["outcome"] == "failed"
    assert set(returned) <= set(run.data.metrics)


def test_nothing_of_mlflows_is_left_changed(client: Any, store: str, tmp_path: Path) -> None:
    mlflow.set_experiment("theirs")
    with mlflow.start_run() as outer:
        result = ExperimentManager("churn").run_experiment(
            "a", "h", {}, lambda config: {"run": mlflow.active_run().info.run_id == outer.info.run_id}
        )
        assert mlflow.active_run().info.run_id == outer.info.run_id
    assert result.metrics == {"run": False}
    assert run_of(client, result).data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert client.get_run(outer.info.run_id).data.params == {}
    assert mlflow.tracking.fluent._active_experiment_id == client.get_experiment_by_name("theirs").experiment_id

    other = f"sqlite:///{tmp_path}/other.db"
    before = mlflow.get_tracking_uri()
    result = ExperimentManager("churn", other).run_experiment("a", "h", {}, lambda config: mlflow.log_metric("m", 1))
    assert mlflow.get_tracking_uri() == before
    assert mlflow.MlflowClient(other).get_run(result.run_id).data.metrics["m"] == 1.0


def test_runs_that_train_func_leaves_open_are_ended(client: Any) -> None:
    ids = []

    def train(config: Any) -> None:
        ids.append(mlflow.start_run(nested=True).info.run_id)
        mlflow.start_run(nested=True)

    result = ExperimentManager("churn").run_experiment("a", "h", {}, train)
    assert mlflow.active_run() is None
    child = client.get_run(ids[0])
    assert (child.info.status, child.data.tags["mlflow.parentRunId"]) == ("FINISHED", result.run_id)

    result = ExperimentManager("churn").run_experiment("a", "h", {}, lambda config: mlflow.end_run())
    assert run_of(client, result).data.tags["failguard.outcome"] == "success"


def test_nested_experiments(client: Any) -> None:
    manager = ExperimentManager("churn")

    def outer(config: Any) -> Any:
        inner = manager.run_experiment("inner", "h", {}, lambda config: 1 / 0)
        assert inner["status"] == "failed"
        return {"inner_failed": 1}

    result = manager.run_experiment("outer", "h", {}, outer)
    assert result["status"] == "success"
    runs = {r.info.run_name: r for r in client.search_runs([run_of(client, result).info.experiment_id])}
    assert runs["inner"].data.tags["mlflow.parentRunId"] == result.run_id
    assert (runs["inner"].info.status, runs["outer"].info.status) == ("FAILED", "FINISHED")


def test_each_attempt_is_a_run(client: Any) -> None:
    errors = [ConnectionError("reset")]

    def train(config: Any) -> Any:
        if errors:
            raise errors.pop()
        return {"accuracy": 1.0}

    result = ExperimentManager("churn").run_experiment("a", "h", {}, train, retries=2, retry_wait_s=0)
    assert result == {"status": "success", "metrics": {"accuracy": 1.0}}
    run = run_of(client, result)
    first = client.get_run(run.data.tags["failguard.retry_of"])
    assert (run.data.tags["failguard.attempt"], run.data.tags["failguard.parent"]) == ("2", first.info.run_id)
    assert (first.info.status, first.data.tags["failguard.cause"]) == ("FAILED", "network_or_collective_failure")
    assert "failguard.attempt" not in first.data.tags


def test_a_block_and_a_decorator(client: Any) -> None:
    manager = ExperimentManager("churn")
    block = manager.experiment("block", "h", {"lr": 1}, approach="as a block")
    with block as run:
        assert mlflow.active_run().info.run_id == run.run_id
        for step in range(3):
            run.log_metrics({"loss": 1.0 / (step + 1)}, step=10 * step)
        run.log_metric("accuracy", 0.5)
        run.log_metric("accuracy", 0.6)
    assert block.result == {"status": "success", "metrics": {"loss": 1 / 3, "accuracy": 0.6}}
    points = client.get_metric_history(block.result.run_id, "loss")
    assert [(p.step, p.value) for p in points] == [(0, 1.0), (10, 0.5), (20, 1 / 3)]
    assert [p.step for p in client.get_metric_history(block.result.run_id, "accuracy")] == [0, 1]

    block = manager.experiment("block", "h")
    with pytest.raises(KeyError), block:
        raise KeyError("label")
    assert block.result is not None
    assert (block.result["status"], block.result["learnings"]["error_type"]) == ("failed", "KeyError")
    assert run_of(client, block.result).info.status == "FAILED"

    @manager.experiment(hypothesis="h", tags={"a": 1})
    def wider(lr: float, width: int = 512) -> dict[str, float]:
        """Trains."""
        return {"product": lr * width}

    result = wider(0.5)
    assert (result["metrics"], wider.__doc__) == ({"product": 256.0}, "Trains.")
    run = run_of(client, result)
    assert (run.info.run_name, run.data.params["width"], run.data.tags["a"]) == ("wider", "512", "1")

    @manager.experiment("named", config={"lr": 2})
    def train(config: Any) -> Any:
        return config["lr"]

    assert train()["metrics"] == {"result": 2}
    assert train({"lr": 3})["metrics"] == {"result": 3}

    with pytest.raises(ConfigurationError, match="name"), manager.experiment():
        pass
    with pytest.raises(ConfigurationError, match="retries"), manager.experiment("a", retries=1):
        pass


@dataclasses.dataclass
class Config:
    lr: float
    weights: Any


def test_a_config_of_any_kind(client: Any) -> None:
    received = []
    given: Any = {
        "nested": {"a": {"b": {"c": 1}}},
        "array": np.zeros((1000, 1000)),
        "function": len,
        "api_key": "very-secret",
        "huge": "x" * 100_000,
        "many": {str(i): i for i in range(5_000)},
        3: "number as a name",
        "bad/../name (%)": 1,
    }
    given["itself"] = given
    manager = ExperimentManager("churn")
    result = manager.run_experiment("a", "h", given, received.append)
    assert received[0] is given
    assert given["api_key"] == "very-secret"
    params = run_of(client, result).data.params
    assert params["nested.a.b.c"] == "1"
    assert "1000" in params["array"]
    assert "secret" not in params["api_key"].replace("[redacted]", "")
    assert len(params) <= 503
    assert "very-secret" not in (Path(result.report.locations["local"]) / "failguard" / "report.json").read_text()
    assert manager.run_experiment("a", "h", Config(0.1, np.zeros(3)), lambda c: {"lr": c.lr})["metrics"] == {"lr": 0.1}
    assert manager.run_experiment("a", "h", None, lambda c: None) == {"status": "success", "metrics": {}}


def test_experiments_in_threads_do_not_mix(client: Any) -> None:
    manager = ExperimentManager("churn")
    results: dict[int, Any] = {}
    together = threading.Barrier(2, timeout=120)

    def work(i: int) -> None:
        def train(config: Any) -> Any:
            together.wait()
            mlflow.log_metric("mine", i)
            together.wait()
            return {"i": i}

        results[i] = manager.run_experiment(f"run {i}", "h", {"i": i}, train)

    threads = [threading.Thread(target=work, args=(i,)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, result in results.items():
        run = run_of(client, result)
        assert (run.data.metrics["mine"], run.data.metrics["i"], run.data.params["i"]) == (i, i, str(i))


def test_a_rank_that_is_not_the_first_writes_nothing(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    result = ExperimentManager("churn").run_experiment("a", "h", {}, lambda config: {"a": 1})
    assert result == {"status": "success", "metrics": {"a": 1}}
    assert result.run_id is None
    assert not Path("failguard_runs").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"project_name": ""}, "project_name"),
        ({"project_name": None}, "project_name"),
        ({"tags": "a"}, "tags"),
        ({"pass_through": "TrialPruned"}, "pass_through"),
        ({"tracking_uri": ""}, "tracking_uri"),
        ({"sinks": "none"}, "sinks"),
        ({"record_dir": ""}, "record_dir"),
        ({"max_duration_s": -1}, "max_duration_s"),
    ],
)
def test_what_a_manager_refuses(arguments: Any, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        ExperimentManager(**{"project_name": "churn", **arguments})


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"hypothesis": 3}, "hypothesis"),
        ({"config": 3}, "config"),
        ({"config": [1]}, "config"),
        ({"tags": [1]}, "tags"),
        ({"line": 3}, "line"),
        ({"max_memory_increase_mb": "1"}, "max_memory_increase_mb"),
    ],
)
def test_what_an_experiment_refuses_before_there_is_a_run(arguments: Any, word: str) -> None:
    usual: Any = {"name": "a", "hypothesis": "h", "config": {}, "train_func": print}
    with pytest.raises(ConfigurationError, match=word):
        ExperimentManager("churn").run_experiment(**{**usual, **arguments})
    assert not Path("mlflow.db").exists()
    assert not Path("failguard_runs").exists()


def test_limits_are_said_and_noted(capsys: pytest.CaptureFixture[str]) -> None:
    manager = ExperimentManager("churn", sinks=[], max_memory_increase_mb=1, max_duration_s=1e-6)
    result = manager.run_experiment("a", "h", {}, lambda config: np.ones(20_000_000).sum())
    assert any("max_memory_increase_mb=1" in note for note in result.report.notes)
    assert any("max_duration_s=1e-06" in note for note in result.report.notes)
    assert result.report.resources["process_peak_increase_bytes"] > 1e6
