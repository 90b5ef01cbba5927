"""What many Lightning programs share: a module as in the documentation, and a fit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import lightning as L
import numpy as np
import torch
from benchmarks.detection.data import Split
from benchmarks.detection.skill import accuracy_skill, entropy_skill, r2_skill
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

__all__ = ["Plain", "accuracy", "adam", "entropy", "fit", "loaders", "mlp", "outputs", "r2", "sgd"]


class Plain(L.LightningModule):
    """A network, a loss and an optimizer."""

    def __init__(self, net: nn.Module, loss: Callable[..., Tensor] = F.cross_entropy, optimizer: Any = None) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.make_optimizer = optimizer or adam()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", self.loss(self(x), y))

    def configure_optimizers(self) -> Any:
        return self.make_optimizer(self.parameters())


def adam(lr: float = 1e-3, **keywords: Any) -> Callable[[Any], Any]:
    """Adam, to be given the parameters."""
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, **keywords)


def sgd(lr: float = 0.1, **keywords: Any) -> Callable[[Any], Any]:
    """Plain SGD, to be given the parameters."""
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, **keywords)


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU, norm: bool = False) -> nn.Sequential:
    """Dense layers with an activation between them."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(a, b))
        if i < len(widths) - 2:
            layers += [nn.BatchNorm1d(b), act()] if norm else [act()]
    return nn.Sequential(*layers)


def loaders(data: Split, batch: int = 32, shuffle: bool = True) -> tuple[Any, Any]:
    """Loaders for training and validation."""
    train = TensorDataset(torch.from_numpy(data.x), torch.from_numpy(data.y))
    validation = TensorDataset(torch.from_numpy(data.xv), torch.from_numpy(data.yv))
    return DataLoader(train, batch_size=batch, shuffle=shuffle), DataLoader(validation, batch_size=256)


def fit(
    module: L.LightningModule,
    data: Any,
    watch: Any,
    epochs: int,
    *,
    batch: int = 32,
    shuffle: bool = True,
    **keywords: Any,
) -> L.LightningModule:
    """Train on a :class:`Split` or on a pair of loaders."""
    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=watch.callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **keywords,
    )
    train, validation = loaders(data, batch, shuffle) if isinstance(data, Split) else data
    trainer.fit(module, train, validation)
    return module


def outputs(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """What the module gives in evaluation."""
    module.eval()
    with torch.no_grad():
        return module(torch.from_numpy(x)).float().numpy()


def accuracy(module: nn.Module, data: Split) -> float:
    """Skill of a classifier on the validation rows; one output is a logit."""
    out = outputs(module, data.xv)
    if out.ndim == 1 or out.shape[1] == 1:
        out = np.where(np.isfinite(out), out > 0, np.nan)
    return accuracy_skill(out, data.yv)


def entropy(module: nn.Module, data: Split) -> float:
    """Skill of a classifier's probabilities on the validation rows."""
    out = torch.from_numpy(outputs(module, data.xv))
    if not torch.isfinite(out).all():
        return -1.0
    p = torch.sigmoid(out) if out.ndim == 1 or out.shape[1] == 1 else torch.softmax(out, 1)
    return entropy_skill(p.numpy(), data.yv)


def r2(module: nn.Module, data: Split) -> float:
    """Skill of a regression on the validation rows."""
    return r2_skill(outputs(module, data.xv).reshape(data.yv.shape), data.yv)
