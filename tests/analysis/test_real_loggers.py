"""Files that the frameworks' own CSV loggers write."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from failguard.analysis import analyze

pytestmark = pytest.mark.framework


def test_lightning_csv_logger() -> None:
    L = pytest.importorskip("lightning.pytorch")
    torch = pytest.importorskip("torch")
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    x = torch.linspace(-1, 1, 32).reshape(32, 1)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 2 * x), batch_size=4)

    class Line(L.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: object, index: int) -> object:
            loss = self._loss(batch)
            if self.current_epoch == 2:
                loss = loss * float("nan")
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: object, index: int) -> None:
            self.log("val_loss", self._loss(batch))

        def _loss(self, batch: object) -> object:
            x, y = batch  # type: ignore[misc]
            return ((self.layer(x) - y) ** 2).mean()

        def configure_optimizers(self) -> object:
            return torch.optim.SGD(self.parameters(), 0.1)

    logger = loggers.CSVLogger("logs")
    trainer = L.Trainer(
        max_epochs=3,
        logger=logger,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(Line(), data, data)
    path = Path(logger.log_dir, "metrics.csv")
    report = analyze(path)
    assert report.progress.epochs == 3
    assert report.progress.steps == 24
    assert report.root is not None
    assert (report.root.code, report.root.step, report.root.epoch) == ("loss.non_finite", 16, 2)
    assert report.best["epoch"] == 1

    per_epoch = analyze(path, per="epoch")
    assert per_epoch.root is not None
    assert (per_epoch.root.code, per_epoch.root.epoch) == ("loss.non_finite", 2)


def test_keras_csv_logger() -> None:
    keras = pytest.importorskip("keras")
    import numpy as np

    x = np.linspace(-1, 1, 32, dtype="float32").reshape(32, 1)
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", metrics=["mae"])
    model.fit(
        x, 2 * x, validation_data=(x, 2 * x), epochs=3, verbose=0, callbacks=[keras.callbacks.CSVLogger("log.csv")]
    )
    report = analyze("log.csv")
    assert report.findings == []
    assert report.progress.epochs == 3
    assert report.best["epoch"] == 2
    assert math.isfinite(report.best["value"])
