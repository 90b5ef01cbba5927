"""One scenario in Lightning."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from failguard.demo.scenarios import BATCH_SIZE, Digits, Scenario
from failguard.lightning import FailGuard
from failguard.report.run_report import RunReport

L: Any = import_module("lightning" if find_spec("lightning") else "pytorch_lightning")


class Classifier(L.LightningModule):
    """Dense layers with ReLU, cross-entropy."""

    def __init__(self, hidden: tuple[int, ...], optimizer: str, learning_rate: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 64
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        self.net = nn.Sequential(*layers, nn.Linear(width, 10))
        self.loss = nn.CrossEntropyLoss()
        self._optimizer = optimizer
        self._learning_rate = learning_rate

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss of one batch."""
        x, y = batch
        return self.loss(self.net(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and accuracy on held-out digits."""
        x, y = batch
        output = self.net(x)
        self.log("val_loss", self.loss(output, y))
        self.log("val_accuracy", (output.argmax(1) == y).float().mean())

    def configure_optimizers(self) -> Any:
        """Adam or plain SGD."""
        kind = torch.optim.Adam if self._optimizer == "adam" else torch.optim.SGD
        return kind(self.parameters(), lr=self._learning_rate)


def train(scenario: Scenario, digits: Digits, keywords: dict[str, Any]) -> RunReport:
    """Run a scenario under a guard.

    Args:
        scenario: What to train.
        digits: Its data.
        keywords: Further keywords of FailGuard: sinks, names.

    Returns:
        The guard's report.
    """
    torch.manual_seed(0)
    module = Classifier(scenario.hidden, scenario.optimizer, scenario.learning_rate)
    loaders = [
        DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=size)
        for x, y, size in (
            (digits.x_train, digits.y_train, BATCH_SIZE),
            (digits.x_validation, digits.y_validation, 360),
        )
    ]
    guard = FailGuard(config=scenario.config, **scenario.guard, **keywords)
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=scenario.epochs,
            callbacks=[guard],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, *loaders)
    return guard.report
