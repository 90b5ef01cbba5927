"""Loggers, compiled modules, the command line interface, and failures that show over epochs."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytestmark = pytest.mark.framework


def test_a_run_that_cannot_learn(kit):
    g = torch.Generator().manual_seed(4)
    x = torch.randn(2048, 8, generator=g)
    y = torch.randint(0, 3, (2048,), generator=g)
    report = kit.fit(kit.guard(), kit.Plain(lr=1e-3), x=x, y=y, max_epochs=4, val=False).report
    assert report.status == "completed"
    assert report.root.code == "loss.no_learning"


def test_a_run_that_learns_is_not_called_one_that_cannot(kit):
    report = kit.fit(kit.guard(), kit.Plain(lr=1e-2), x=kit.data(512)[0], y=kit.data(512)[1], max_epochs=4).report
    assert report.findings == []


def test_overfitting_with_patience(kit):
    class Memory(kit.Plain):
        def __init__(self):
            super().__init__(lr=1e-2)
            self.net = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 3))

    x, y = kit.data(48)
    y = torch.where(torch.arange(48) % 2 == 0, y, (y + 1) % 3)  # half the labels are wrong
    run = kit.fit(kit.guard(patience=8), Memory(), x=x, y=y, max_epochs=80)
    report = run.report
    assert report.status == "stopped"
    assert {"metric.no_improvement", "metric.overfitting"} & {f.code for f in report.findings}
    assert "restore_best_weights" in {a.what for a in report.actions}
    with torch.no_grad():
        xv, yv = kit.data(seed=1)
        run.module.eval()
        assert float(F.cross_entropy(run.module.net(xv), yv)) == pytest.approx(report.best["value"], rel=0.05)


def test_compiled_modules(kit):
    class Compiled(kit.Plain):
        def __init__(self):
            super().__init__()
            self.net[0].weight.data.fill_(4.0)
            self.net[1] = nn.ReLU()
            self.net = torch.compile(self.net, backend="eager")

    x, y = kit.data()
    x[40] = 3e38  # finite, but the first layer overflows
    run = kit.fit(kit.guard(), Compiled(), x=x, y=y)
    assert run.report.part_errors == []
    assert (run.report.root.code, run.report.root.step) == ("loss.non_finite", 2)
    assert (run.report.root.where.module, run.report.root.where.tensor) == ("net.0", "output")


def test_a_module_with_a_logger_logs_nothing_twice(kit):
    from lightning.pytorch.loggers import CSVLogger

    class Logs(kit.Plain):
        def training_step(self, batch, batch_idx):
            self.logger.log_metrics({"mine": 1.0}, step=self.seen)
            return super().training_step(batch, batch_idx) * (math.nan if batch_idx == 5 else 1)

    logger = CSVLogger("logs")
    run = kit.fit(kit.guard(), Logs(), logger=logger, max_epochs=1, val=False)
    assert run.report.status == "stopped"
    assert run.trainer.loggers == [logger]
    text = Path(logger.log_dir, "metrics.csv").read_text()
    assert sum("1.0" in line.split(",") for line in text.splitlines()[1:]) == 6


def test_the_command_line_interface(kit, tmp_path, monkeypatch):
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    (tmp_path / "run.yaml").write_text(
        """
trainer:
  max_epochs: 1
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  callbacks:
    - class_path: failguard.lightning.FailGuard
      init_args:
        monitor: val_loss
        patience: 3
        policy: observe
        ignore: [loss.divergence]
        resources: false
        sinks: []
"""
    )
    x, y = kit.data()

    class Data(kit.L.LightningDataModule):
        def train_dataloader(self):
            return kit.loader(x, y)

    cli = LightningCLI(kit.Net, Data, args=["fit", "--config", str(tmp_path / "run.yaml")])
    (guard,) = [c for c in cli.trainer.callbacks if type(c).__name__ == "FailGuard"]
    assert guard.settings.patience == 3
    assert guard.report.status == "completed"
