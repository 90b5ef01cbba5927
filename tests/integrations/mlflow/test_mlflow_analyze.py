"""``failguard analyze`` on MLflow runs that failguard never saw."""

from __future__ import annotations

import json
import math

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from failguard.analysis import analyze
from failguard.cli.app import app
from failguard.core.finding import Status
from failguard.errors import InputError

pytestmark = pytest.mark.framework


def a_run(store: str, metrics: dict[str, list[tuple[int, float]]], status: str = "FINISHED", **params: object) -> str:
    client = MlflowClient(store)
    run_id: str = client.create_run("0", run_name="mine").info.run_id
    points = [Metric(name, value, i, step) for name, s in metrics.items() for i, (step, value) in enumerate(s)]
    for at in range(0, len(points), 1000):
        client.log_batch(run_id, metrics=points[at : at + 1000])
    for name, value in params.items():
        client.log_param(run_id, name, value)
    client.set_terminated(run_id, status)
    return run_id


def test_a_run_that_diverged(store: str) -> None:
    losses = [(i, 2.3 * 1.5**i) for i in range(60)]
    run_id = a_run(
        store, {"train_loss": losses, "system/cpu_utilization_percentage": [(0, 50.0)]}, lr="50.0", optimizer="SGD"
    )
    report = analyze(run_id, per="step", tracking_uri=store)
    assert report.root is not None
    assert report.root.code == "loss.divergence"
    assert report.diagnosis.likely_cause == "learning_rate_too_high"
    assert report.run.config["lr"] == 50.0
    assert (report.run.run_name, report.run.experiment, report.run.mlflow_run_id) == ("mine", "Default", run_id)
    assert not any("system/" in note for note in report.notes)
    assert MlflowClient(store).get_run(run_id).data.tags.get("failguard.status") is None, "nothing is written"


def test_metrics_of_steps_and_of_epochs_are_put_together(store: str) -> None:
    steps = [(i, math.inf if i == 70 else 1.0 / (1 + i)) for i in range(100)]
    run_id = a_run(
        store,
        {
            "train_loss": steps,
            "val_loss": [(24, 0.5), (49, 0.4), (74, 0.3), (99, 0.2)],
            "epoch": [(i, i // 25) for i in range(100)],
        },
    )
    report = analyze(run_id, tracking_uri=store)
    assert report.root is not None
    assert (report.root.code, report.root.step, report.root.epoch) == ("loss.non_finite", 70, 2), "infinity comes back"
    assert report.best["epoch"] == 3


def test_metrics_without_steps(store: str) -> None:
    run_id = a_run(
        store, {"loss": [(0, 1.0), (0, 0.5), (0, math.nan)], "val_loss": [(0, 1.0), (0, 0.6), (0, math.nan)]}
    )
    report = analyze(run_id, per="epoch", tracking_uri=store)
    assert report.root is not None
    assert report.root.epoch == 2
    assert any("without steps" in note for note in report.notes)


def test_a_run_without_metrics(store: str) -> None:
    run_id = a_run(store, {}, status="FAILED", lr="30", optimizer="Adam")
    report = analyze(run_id, tracking_uri=store)
    assert report.status is Status.FAILED
    assert any("has no metrics" in note for note in report.notes)
    assert report.diagnosis.config_issues, "the rate is named all the same"


def test_a_run_that_is_not_there(store: str) -> None:
    with pytest.raises(InputError, match="cannot be read from the MLflow store"):
        analyze("0" * 32, tracking_uri=store)


def test_the_command(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = a_run(store, {"cost": [(i, 1.0 if i < 3 else math.nan) for i in range(5)]})
    result = CliRunner().invoke(app, ["analyze", run_id, "--tracking-uri", store])
    assert result.exit_code == 2
    assert "--column train_loss=NAME" in result.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    options = ["--column", "train_loss=cost", "--per", "epoch", "--json", "--fail-on", "error"]
    result = CliRunner().invoke(app, ["analyze", run_id, *options])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["root"]["epoch"] == 3


def test_what_autologging_of_keras_writes(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("MLflow logs Keras on TensorFlow by itself")
    import mlflow
    import numpy as np

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    mlflow.tensorflow.autolog(log_models=False, log_datasets=False)
    try:
        keras.utils.set_random_seed(0)
        x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e4), loss)
        model.fit(x, (x.sum(1) > 0).astype("int64"), epochs=8, validation_split=0.2, verbose=0)
        run_id = mlflow.last_active_run().info.run_id
    finally:
        mlflow.tensorflow.autolog(disable=True)
        mlflow.set_tracking_uri(None)
    report = analyze(run_id, tracking_uri=store)
    assert report.failing
    assert report.facts.optimizer.name.lower().startswith("sgd"), "Keras numbers its objects"
    assert report.facts.optimizer.learning_rate == 1e4
    assert report.diagnosis.likely_cause == "learning_rate_too_high"
    assert report.progress.epochs == 8
