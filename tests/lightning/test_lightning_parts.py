"""The adapter's parts, with stand-ins for the trainer."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

pytest.importorskip("lightning")

from failguard.lightning.facts import logger_run
from failguard.lightning.framework import package_name
from failguard.lightning.metrics import EpochMetrics, logs_at_epoch_end

pytestmark = pytest.mark.framework


def test_the_loaded_package_is_taken(monkeypatch):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", ModuleType("pytorch_lightning"))
    assert package_name() == "pytorch_lightning"
    monkeypatch.setitem(sys.modules, "lightning.pytorch", ModuleType("lightning.pytorch"))
    assert package_name() == "lightning.pytorch"


class Metrics(dict):
    def log(self, **values):
        self.update({name: torch.tensor(float(value)) for name, value in values.items()})


def test_only_what_is_new_belongs_to_an_epoch():
    shown, metrics = Metrics(), EpochMetrics()
    shown.log(train=1)
    metrics.start_validation(shown)
    shown.log(val=0.5)
    metrics.end_validation(shown)
    assert metrics.end_epoch(shown) == ({"train": 1.0, "val": 0.5}, True)
    shown.log(train=1)  # equal, yet new
    assert metrics.end_epoch(shown) == ({"train": 1.0}, False)
    assert metrics.end_epoch(shown) == ({}, False)


def test_things_that_are_no_number_are_left_out():
    metrics = EpochMetrics()
    named, _ = metrics.end_epoch(
        {"a": torch.ones(2), "b": "text", "c": 1, "d": torch.tensor([2.0]), "e": torch.tensor(1j)}
    )
    assert named == {"c": 1.0, "d": 2.0}


def test_a_pending_validation_survives_a_checkpoint():
    shown, before, after = Metrics(), EpochMetrics(), EpochMetrics()
    before.start_validation(shown)
    shown.log(val=0.5)
    before.end_validation(shown)
    after.load_state_dict(before.state_dict())
    assert after.end_epoch({}) == ({"val": 0.5}, True)


class MLFlowLogger:
    run_id = "abc"
    _tracking_uri = "http://localhost:5000"


class Derived(MLFlowLogger):
    pass


class Csv:
    run_id = "no"


def test_the_run_of_an_mlflow_logger_is_found():
    assert logger_run(SimpleNamespace(loggers=[Csv(), Derived()])) == ("abc", "http://localhost:5000")
    assert logger_run(SimpleNamespace(loggers=[Csv()])) == (None, None)
    assert logger_run(SimpleNamespace(loggers=[])) == (None, None)


def test_own_epoch_end_hooks_are_seen():
    import lightning as L

    class Own(L.LightningModule):
        def on_train_epoch_end(self):
            pass

    assert not logs_at_epoch_end(L.LightningModule())
    assert logs_at_epoch_end(Own())
