"""Real trainings in processes of their own: a configuration that failed is announced before its first step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from failguard.report.outcome import Outcome
from failguard.report.run_report import RunReport
from failguard.runs.index import RunIndex, store_uri
from failguard.runs.memory import LOCAL_INDEX
from failguard.runs.memory_settings import FailureMemory
from failguard.runs.recall import CODE

pytestmark = [pytest.mark.framework, pytest.mark.slow]

COMMON = """
import logging, sys, warnings
warnings.simplefilter("ignore")
from failguard import FailureMemory

class Said(logging.Handler):
    def emit(self, record):
        print("SAID", record.getMessage(), flush=True)

logging.getLogger("failguard").addHandler(Said())
memory = FailureMemory(wait_s=10)  # the machine may be busy

def tell(guard):
    report = guard.report
    print("END", report.status, report.root and report.root.code,
          *(f"{f.code}={f.severity}" for f in report.findings), flush=True)
    print("ALIKE", len(report.similar_runs), *(run["fixed_by"] for run in report.similar_runs), flush=True)
"""

TORCH = """
import torch
from failguard.torch import FailGuard

for lr in map(float, sys.argv[1:]):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    x = torch.randn(64, 4)
    y = x.sum(1, keepdim=True)
    with FailGuard(model, optimizer, config={"lr": lr}, experiment="churn", memory=memory) as guard:
        for epoch in range(10):
            for i in range(0, 64, 4):
                optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(model(x[i:i + 4]), y[i:i + 4])
                loss.backward()
                if guard.step(loss=loss):
                    optimizer.step()
                if (epoch, i) == (0, 0):
                    print("STEP", lr, flush=True)
                if guard.should_stop:
                    break
            guard.end_epoch()
            if guard.should_stop:
                break
    tell(guard)
"""

LIGHTNING = """
import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset
from failguard.lightning import FailGuard

class Net(L.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))

    def training_step(self, batch, i):
        if self.global_step == 0:
            print("STEP", self.hparams.lr, flush=True)
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

for lr in map(float, sys.argv[1:]):
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    guard = FailGuard(experiment="churn", memory=memory)
    trainer = L.Trainer(max_epochs=10, callbacks=[guard], logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", log_every_n_steps=1)
    trainer.fit(Net(lr), DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4))
    tell(guard)
"""

KERAS = """
import keras
import numpy as np
from failguard.keras import FailGuard

class First(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0 and not self.said:
            self.said = True
            print("STEP", self.lr, flush=True)

for lr in map(float, sys.argv[1:]):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(lr), "mse")
    guard, first = FailGuard(config={"lr": lr}, experiment="churn", memory=memory), First()
    first.said, first.lr = False, lr
    model.fit(x, x.sum(1, keepdims=True), batch_size=4, epochs=10, verbose=0, callbacks=[guard, first])
    tell(guard)
"""


def run(script: str, *rates: float) -> list[list[str]]:
    """Train with each of these rates in one process. Returns the lines that it printed, by training."""
    done = subprocess.run(
        [sys.executable, "-c", COMMON + script, *map(str, rates)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    trainings: list[list[str]] = [[]]
    for line in done.stdout.splitlines():
        trainings[-1].append(line)
        if line.startswith("ALIKE"):
            trainings.append([])
    return trainings[:-1]


def announced(lines: list[str]) -> list[str]:
    """What was said before the first step."""
    first = next(i for i, line in enumerate(lines) if line.startswith("STEP"))
    return [line for line in lines[:first] if "with a configuration like this" in line]


def said(lines: list[str]) -> list[str]:
    return [line for line in lines if "with a configuration like this" in line]


@pytest.mark.parametrize("script", [TORCH, LIGHTNING, KERAS], ids=["torch", "lightning", "keras"])
def test_a_failing_configuration_is_announced_before_its_first_step(script: str, database: Path) -> None:
    (first,) = run(script, 50.0)
    assert not said(first)
    (end,) = [line for line in first if line.startswith("END")]
    assert CODE not in end
    again, other, healthy, once_more = run(script, 50.0, 0.03, 0.03, 60.0)
    (told,) = announced(again)
    assert "1 earlier run with a configuration like this" in told
    assert said(again) == [told], "once"
    (end,) = [line for line in again if line.startswith("END")]
    assert f"{CODE}=warning" in end
    assert end.split()[2] != CODE
    assert [line for line in again if line.startswith("ALIKE 1")]
    for lines in (other, healthy):
        assert not said(lines)
        assert [line for line in lines if line.startswith("END completed")], lines
    (told,) = announced(once_more)
    assert "2 earlier runs" in told
    assert "lr >= 50" in told
    assert "lr <= 0.03 learned 2 of 2" in told
    assert [line for line in once_more if line.startswith("ALIKE 2 lr 50 -> 0.03 in run")]


def torch_run(lr: float = 50.0, **keywords: Any) -> RunReport:
    import torch

    from failguard.torch import FailGuard

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    x = torch.randn(64, 4)
    y = x.sum(1, keepdim=True)
    with FailGuard(model, optimizer, resources=False, config={"lr": lr}, **keywords) as guard:
        for i in range(64):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x[i : i + 1]), y[i : i + 1])
            loss.backward()
            if guard.step(loss=loss):
                optimizer.step()
            if guard.should_stop:
                break
    return guard.report


def test_the_run_is_in_the_index_of_its_store_and_shown_on_its_page(client: Any) -> None:
    from mlflow.entities import RunTag

    memory = FailureMemory(wait_s=10)
    first = torch_run(experiment="churn", memory=memory)
    assert "mlflow" in first.locations, first.notes
    index = RunIndex.for_store(store_uri())
    (remembered,) = index.entries(outcome="failure")
    assert remembered.record_id == first.run.record_id
    assert (remembered.experiment, remembered.fingerprint) == ("churn", first.fingerprint)
    assert remembered.outcome is Outcome.FAILURE
    assert not Path("failguard_runs", LOCAL_INDEX).exists()
    lesson = {"kind": "lesson", "text": "clip <b>[red]", "author": "ada", "written_at": "2026-11-25T00:00:00+00:00"}
    client.log_batch(remembered.run_id, tags=[RunTag("failguard.note.1", json.dumps(lesson))])
    from failguard.runs import Registry

    Registry(store_uri()).refresh()
    second = torch_run(experiment="churn", memory=memory)
    assert second.similar_runs[0]["run_id"] == remembered.run_id
    assert second.similar_runs[0]["lessons"] == ["clip <b>[red]"]
    html = second.to_html()
    assert "clip &lt;b&gt;[red]" in html
    assert "Seen before" in html
    (newest, _) = index.entries(outcome="failure")
    assert newest.record_id == second.run.record_id, "both began in the same second"
    note = client.get_run(newest.run_id).data.tags["mlflow.note.content"]
    assert "Seen before: The same failure as in 1 earlier run" in note
    assert "<b>" not in note


def test_what_others_ran_comes_in_while_training(client: Any, add: Any) -> None:
    from failguard.sinks.mlflow import MlflowSink

    other = add("of another", experiment="churn", status="FAILED")
    sink = MlflowSink()
    import torch

    from failguard.torch import FailGuard

    model = torch.nn.Linear(1, 1)
    index = RunIndex.for_store(store_uri())
    with FailGuard(model, torch.optim.SGD(model.parameters(), lr=0.1), sinks=[sink], resources=False) as guard:
        loss = model(torch.ones(1, 1)).sum()
        loss.backward()
        guard.step(loss=loss)
        until = monotonic() + 60
        while index.get(other) is None and monotonic() < until:
            sleep(0.1)
    found = index.get(other)
    assert found is not None
    assert found.outcome is Outcome.FAILURE
