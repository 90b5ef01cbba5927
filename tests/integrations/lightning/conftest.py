"""Small modules and data for Lightning tests."""

from __future__ import annotations

import logging
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

lightning = pytest.importorskip("lightning")


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Net(lightning.LightningModule):
    """A classifier with dropout and batch normalization."""

    def __init__(self, lr: float = 1e-2, optimizer: str = "AdamW", spoil_gradient_at: int | None = None):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.seen = 0

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        if self.seen == self.hparams.spoil_gradient_at:
            logits.register_hook(lambda g: g * float("nan"))
        self.seen += 1
        loss = F.cross_entropy(logits, y)
        self.log("train_ce", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.net(x), y))

    def configure_optimizers(self):
        return getattr(torch.optim, self.hparams.optimizer)(self.parameters(), lr=self.hparams.lr)


class Manual(Net):
    """The same by manual optimization."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        optimizer.step()


class Plain(Net):
    """Without state of its own, dropout or normalization."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def make_data(n=128, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=g)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()


def make_loader(x, y, batch_size=16, shuffle=False):
    return DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=shuffle)


def make_trainer(*callbacks, **kwargs):
    defaults = {
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    return lightning.Trainer(callbacks=list(callbacks), **{**defaults, **kwargs})


def fit(guard=None, module=None, *, x=None, y=None, shuffle=False, ckpt_path=None, callbacks=(), val=True, **kwargs):
    torch.manual_seed(11)
    if x is None:
        x, y = make_data()
    module = Net() if module is None else module() if isinstance(module, type) else module
    trainer = make_trainer(*([guard] if guard else []), *callbacks, **kwargs)
    trainer.fit(
        module,
        make_loader(x, y, shuffle=shuffle),
        make_loader(*make_data(seed=1)) if val else None,
        ckpt_path=ckpt_path,
    )
    return SimpleNamespace(
        module=module, trainer=trainer, report=guard.report if guard and guard._report is not None else None
    )


@pytest.fixture
def kit():
    """Everything above under one name."""
    from failguard.lightning import FailGuard

    def guard(**kwargs):
        return FailGuard(**{"sinks": [], "resources": False, **kwargs})

    return SimpleNamespace(
        L=lightning,
        Net=Net,
        Manual=Manual,
        Plain=Plain,
        fit=fit,
        guard=guard,
        data=make_data,
        loader=make_loader,
        trainer=make_trainer,
    )
