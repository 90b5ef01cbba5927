"""Guards that watch training inside an experiment: one record, one run."""

from __future__ import annotations

import contextvars
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from failguard import ExperimentManager
from failguard.errors import TrainingFailure
from failguard.sinks.files import LocalRecord, load_record
from failguard.torch import FailGuard

pytestmark = pytest.mark.framework


def train(lr: float = 0.01, steps: int = 100, fail_at: int | None = None, **keywords: Any) -> dict[str, float]:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = x.sum(1, keepdim=True)
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with FailGuard(model, optimizer, resources=False, **keywords) as guard:
        for step in range(steps):
            if step == fail_at:
                raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)")
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            if guard.step(loss=loss):
                optimizer.step()
            if guard.should_stop:
                break
        guard.end_epoch(val_loss=loss.item())
    return {"val_loss": loss.item()}


@pytest.fixture
def manager(store: str) -> ExperimentManager:
    return ExperimentManager("churn")


def runs(client: Any) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("churn")
    return {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}


def test_a_healthy_training(manager: ExperimentManager, client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = manager.run_experiment("a", "h", {"lr": 0.01}, lambda c: train(**c, tags={"by": "guard"}, line="width"))
    assert result["status"] == "success"
    (run,) = runs(client).values()
    tags = run.data.tags
    assert (tags["failguard.framework"], tags["failguard.outcome"], tags["by"]) == ("torch", "success", "guard")
    assert (tags["failguard.line"], run.data.params["lr"]) == ("width", "0.01")
    assert run.data.metrics["failguard/run/steps"] == 100
    assert len(client.get_metric_history(result.run_id, "failguard/loss")) == 100
    (folder,) = records()
    assert load_record(folder).progress.steps == 100
    assert capsys.readouterr().err == ""


def records() -> Iterator[Path]:
    return (path for path in Path("failguard_runs").iterdir() if path.is_dir())


def test_a_training_that_the_guard_stops_is_a_failed_experiment(manager: ExperimentManager, client: Any) -> None:
    result = manager.run_experiment("a", "h", {"lr": 10.0}, lambda c: train(**c))
    assert result["status"] == "failed"
    assert result["learnings"]["likely_cause"] == "learning_rate_too_high"
    assert result["learnings"]["error_type"] is None
    assert result["error"] == result.report.diagnosis.summary
    (run,) = runs(client).values()
    assert run.data.params["outcome"] == "failed"
    assert "error_type" not in run.data.params
    assert run.data.tags["failguard.finding"] == "loss.divergence"
    assert run.data.tags["failguard.fingerprint"]
    text = Path(client.download_artifacts(result.run_id, "failure_analysis.json", ".")).read_text()
    analysis = json.loads(text)
    assert analysis["root"]["code"] == "loss.divergence"
    assert {name: analysis[name] for name in result["learnings"]} == result["learnings"]
    assert len(list(records())) == 1


def test_an_early_stop_is_a_success(manager: ExperimentManager) -> None:
    def stops(config: Any) -> Any:
        model = torch.nn.Linear(2, 1)
        with FailGuard(model, torch.optim.SGD(model.parameters(), 0.0), patience=1, resources=False) as guard:
            for epoch in range(5):
                loss = model(torch.ones(1, 2)).pow(2).sum()
                loss.backward()
                guard.step(loss=loss.item())
                guard.end_epoch(val_loss=1.0)
                if guard.should_stop:
                    return {"epochs": epoch + 1}
        return None

    result = manager.run_experiment("a", "h", {}, stops)
    assert result == {"status": "success", "metrics": {"epochs": 2}}
    assert result.report.status == "stopped"


def test_an_exception_that_the_guard_saw_is_told_once(manager: ExperimentManager, client: Any) -> None:
    result = manager.run_experiment("a", "h", {}, lambda c: train(fail_at=20))
    assert [f.code for f in result.report.findings] == ["run.exception"]
    assert (result.report.root.step, result["learnings"]["likely_cause"]) == (20, "shape_mismatch")
    (run,) = runs(client).values()
    assert (run.data.params["error_type"], run.info.status) == ("RuntimeError", "FAILED")


def test_an_exception_after_training(manager: ExperimentManager) -> None:
    def then_fails(config: Any) -> None:
        train()
        raise KeyError("test_accuracy")

    result = manager.run_experiment("a", "h", {}, then_fails)
    assert (result["learnings"]["error_type"], result.report.root.code) == ("KeyError", "run.exception")
    assert result.report.root.step == 99
    assert result.report.progress.steps == 100


def test_an_exception_because_of_what_the_guard_found(manager: ExperimentManager) -> None:
    def then_fails(config: Any) -> None:
        train(lr=10.0)
        raise ValueError("Input contains NaN")

    result = manager.run_experiment("a", "h", {}, then_fails)
    assert result["learnings"]["error_type"] == "ValueError"
    assert result["learnings"]["likely_cause"] == "learning_rate_too_high"
    assert result.report.root.code == "loss.divergence"
    assert result.report.status == "failed"


def test_raise_on_failure(manager: ExperimentManager, client: Any) -> None:
    result = manager.run_experiment("a", "h", {}, lambda c: train(lr=10.0, raise_on_failure=True))
    assert (result["status"], result["learnings"]["error_type"]) == ("failed", "TrainingFailure")
    assert result["learnings"]["likely_cause"] == "learning_rate_too_high"
    assert result.report.root.code == "loss.divergence"
    assert "run.exception" not in [f.code for f in result.report.findings]

    def raises(config: Any) -> None:
        raise TrainingFailure("of another process", result.report)

    again = manager.run_experiment("b", "h", {}, raises)
    assert again["learnings"]["likely_cause"] == "learning_rate_too_high"


def test_folds_have_runs_of_their_own(manager: ExperimentManager, client: Any) -> None:
    def folds(config: Any) -> Any:
        return {"val_loss": [train(lr, run_name=f"fold {i}")["val_loss"] for i, lr in enumerate((0.01, 10.0, 0.02))]}

    result = manager.run_experiment("cross-validation", "h", {"folds": 3}, folds)
    assert result["status"] == "failed"
    assert result["learnings"]["likely_cause"] == "learning_rate_too_high"
    assert any("report of number 2" in note for note in result.report.notes)
    found = runs(client)
    assert set(found) == {"cross-validation", "fold 0", "fold 1", "fold 2"}
    outcomes = {name: run.data.tags["failguard.outcome"] for name, run in found.items()}
    assert outcomes == {"cross-validation": "failure", "fold 0": "success", "fold 1": "failure", "fold 2": "success"}
    for i in range(3):
        run = found[f"fold {i}"]
        assert run.data.tags["mlflow.parentRunId"] == result.run_id
        assert run.info.status == "FINISHED"
        assert client.get_metric_history(run.info.run_id, "failguard/loss")
    assert not client.get_metric_history(result.run_id, "failguard/loss")
    assert len(list(records())) == 4


def test_an_error_that_train_func_deals_with(manager: ExperimentManager) -> None:
    def falls_back(config: Any) -> Any:
        try:
            return train(fail_at=5)
        except RuntimeError:
            return train()

    assert manager.run_experiment("a", "h", {}, falls_back)["status"] == "success"


def test_a_guard_that_is_never_closed(manager: ExperimentManager) -> None:
    kept = []

    def leaves_open(config: Any) -> Any:
        model = torch.nn.Linear(2, 1)
        guard = FailGuard(model, torch.optim.SGD(model.parameters(), 0.1), resources=False)
        guard.step(loss=float("nan"))
        kept.append(guard)
        return {"accuracy": 1.0}

    result = manager.run_experiment("a", "h", {}, leaves_open)
    assert result.report.root.code == "loss.non_finite"
    assert result["status"] == "failed"
    before = len(list(records()))
    kept[0].close()  # what it has to say now has a record of its own
    assert len(list(records())) == before + 1


def test_sinks_of_the_guards_own(manager: ExperimentManager, client: Any) -> None:
    told: list[Any] = []
    result = manager.run_experiment(
        "a", "h", {}, lambda c: train(lr=10.0, sinks=[LocalRecord("mine")], alerts=[told.append])
    )
    assert result["learnings"]["likely_cause"] == "learning_rate_too_high"
    assert [p for p in Path("mine").iterdir() if p.is_dir()]
    assert told
    assert len(runs(client)) == 1
    result = manager.run_experiment("b", "h", {}, lambda c: train(lr=10.0, sinks=[]))
    assert result["learnings"]["likely_cause"] == "learning_rate_too_high"
    result = ExperimentManager("churn", sinks=[]).run_experiment("c", "h", {}, lambda c: train(lr=10.0))
    assert result["learnings"]["likely_cause"] == "learning_rate_too_high"
    assert set(runs(client)) == {"a", "b"}


@pytest.mark.parametrize("inherits", [True, False])
def test_a_guard_in_a_thread(manager: ExperimentManager, client: Any, inherits: bool) -> None:
    def in_thread(config: Any) -> Any:
        target = contextvars.copy_context().run if inherits else lambda function, *a: function(*a)
        thread = threading.Thread(target=target, args=(train, 10.0))
        thread.start()
        thread.join()
        return {"a": 1.0}

    result = manager.run_experiment("a", "h", {}, in_thread)
    assert result["status"] == ("failed" if inherits else "success")
    # Without the context the guard has a record and a run of its own, in MLflow's own experiment.
    assert len(list(records())) == (1 if inherits else 2)


def test_experiments_in_an_experiment_keep_their_guards(manager: ExperimentManager, client: Any) -> None:
    def outer(config: Any) -> Any:
        inner = manager.run_experiment("inner", "h", {}, lambda c: train(lr=10.0))
        return {"failed": inner["status"] == "failed", **train()}

    result = manager.run_experiment("outer", "h", {}, outer)
    assert result["status"] == "success"
    found = runs(client)
    assert found["inner"].data.tags["failguard.outcome"] == "failure"
    assert found["outer"].data.tags["failguard.outcome"] == "success"
    assert result.report.progress.steps == 100


def test_disabled_guards(manager: ExperimentManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILGUARD_DISABLE", "1")
    result = manager.run_experiment("a", "h", {}, lambda c: train(steps=3))
    assert (result["status"], result.report.run.framework) == ("success", "python")


def test_what_ends_an_experiment_on_purpose(store: str, client: Any) -> None:
    optuna = pytest.importorskip("optuna")

    class Enough(Exception): ...

    def ends(error: type[Exception]) -> Any:
        def function(config: Any) -> None:
            train()
            raise error("worse than the others")

        return function

    manager = ExperimentManager("churn", pass_through=[Enough])
    for name, error in (("a", Enough), ("b", optuna.TrialPruned)):
        with pytest.raises(error):
            manager.run_experiment(name, "h", {}, ends(error), retries=3)
    for run in runs(client).values():
        assert (run.info.status, run.data.params["outcome"]) == ("KILLED", "interrupted")
        assert run.data.tags["failguard.outcome"] == "partial"


def test_lightning(manager: ExperimentManager, client: Any) -> None:
    import lightning as L
    from torch.utils.data import DataLoader, TensorDataset

    from failguard.lightning import FailGuard as LightningGuard

    class Model(L.LightningModule):
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.lr = lr
            self.net = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    def fit(config: Any) -> None:
        x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
        loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, num_workers=0)
        trainer = L.Trainer(
            max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu", callbacks=[LightningGuard(resources=False)],
        )  # fmt: skip
        trainer.fit(Model(config["lr"]), loader)

    result = manager.run_experiment("a", "h", {"lr": 100.0}, fit)
    assert (result["status"], result["learnings"]["likely_cause"]) == ("failed", "learning_rate_too_high")
    (run,) = runs(client).values()
    assert (run.data.tags["failguard.framework"], run.data.params["lr"]) == ("lightning", "100.0")
    assert manager.run_experiment("b", "h", {"lr": 0.01}, fit) == {"status": "success", "metrics": {}}


def test_keras(manager: ExperimentManager, client: Any) -> None:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras
    import numpy as np

    from failguard.keras import FailGuard as KerasGuard

    def fit(config: Any) -> Any:
        x = np.random.normal(size=(128, 4)).astype("float32")
        y = x.sum(1, keepdims=True)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(config["lr"]), "mse")
        guard = KerasGuard(resources=False)
        return model.fit(x, y, batch_size=8, epochs=4, validation_data=(x, y), verbose=0, callbacks=[guard])

    result = manager.run_experiment("a", "h", {"lr": 100.0}, fit, seed=0)
    assert (result["status"], result.report.run.framework) == ("failed", "keras")
    result = manager.run_experiment("b", "h", {"lr": 0.01}, fit, seed=0)
    assert result["status"] == "success"
    assert len(result["metrics"]["loss"]) == 4  # the History that fit returned
    assert len(client.get_metric_history(result.run_id, "val_loss")) == 4
