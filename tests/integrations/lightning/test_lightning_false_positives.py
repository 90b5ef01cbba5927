"""False positives of a real Lightning validation are analyzed with their metadata."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from failguard.lightning import FalsePositives

pytestmark = pytest.mark.framework


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return torch.nn.functional.binary_cross_entropy_with_logits(self.net(x)[:, 0], y)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"predictions": (batch[0] > 1).float(), "targets": batch[1]}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(user_data: Any) -> FalsePositives:
    x = torch.randn(600, 1, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, torch.zeros(600)), batch_size=50)
    callback = FalsePositives(user_data(x[:, 0].numpy()))
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    L.Trainer(max_epochs=2, accelerator="cpu", callbacks=[callback], **quiet).fit(Net(), loader, loader)
    return callback


def test_it_is_the_analysis_of_the_last_validation() -> None:
    analysis = fit(lambda x: {"churned": x > 0.9, "noise": np.arange(600) % 7}).analysis
    assert analysis is not None
    assert analysis.members + analysis.reference_rows == 600
    assert [r.column for r in analysis.significant] == ["churned"]


def test_metadata_that_do_not_fit_do_not_end_training(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="failguard"):
        assert fit(lambda x: {"a": [1, 2]}).analysis is None
    assert "user_data has 2 rows, but there are 600 predictions" in caplog.text
