"""TensorBoard event files that the frameworks' own writers leave."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from failguard.analysis import analyze
from failguard.analysis.tensorboard_log import read_events
from failguard.errors import InputError

pytestmark = pytest.mark.framework
pytest.importorskip("tensorboard")


def write(folder: str, values: dict[str, list[float]], start: int = 0) -> None:
    SummaryWriter = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    with SummaryWriter(folder) as writer:
        for i in range(len(next(iter(values.values())))):
            for name, series in values.items():
                writer.add_scalar(name, series[i], start + i)


def test_a_torch_run() -> None:
    write("runs/a", {"Loss/train": [1.0 / (1 + i) for i in range(50)], "Loss/val": [1.1 / (1 + i) for i in range(50)]})
    report = analyze("runs")
    assert report.findings == []
    assert report.best["epoch"] == 49
    assert any("training loss per epoch from 'Loss/train'" in note for note in report.notes)


def test_a_resumed_run_has_several_files() -> None:
    write("run", {"loss": [3.0, 2.0, 1.5, 9.0]})
    write("run", {"loss": [1.4, 1.3]}, start=2)
    log = read_events(Path("run"))
    report = analyze("run", per="step")
    assert len(list(log.rows())) == 6
    assert any("2 earlier rows were replaced" in note for note in report.notes)
    assert report.progress.steps == 4


def test_several_runs_are_told_apart() -> None:
    write("runs/a", {"loss": [1.0]})
    write("runs/b", {"loss": [1.0]})
    with pytest.raises(InputError, match=r"holds 2 runs: 'runs/a', 'runs/b'"):
        analyze("runs")


def test_a_file_that_was_cut_short() -> None:
    write("run", {"loss": [1.0, math.nan, 0.5, 0.4]})
    (file,) = Path("run").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-11])
    report = analyze(file, per="step")
    assert report.root is not None
    assert report.root.code == "loss.non_finite"
    assert report.progress.steps == 3


def test_a_file_without_scalars() -> None:
    Path("run").mkdir()
    Path("run/events.out.tfevents.1.host").write_bytes(b"garbage")
    with pytest.raises(InputError, match="no number in the TensorBoard events"):
        analyze("run")


def test_keras_writes_two_folders() -> None:
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the TensorBoard callback needs the TensorFlow backend")
    import numpy as np

    x = np.linspace(-1, 1, 32, dtype="float32").reshape(32, 1)
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", metrics=["mae"])
    model.fit(
        x,
        2 * x,
        validation_data=(x, 2 * x),
        epochs=4,
        verbose=0,
        callbacks=[keras.callbacks.TensorBoard("logs", write_graph=False)],
    )
    report = analyze("logs")
    assert report.progress.epochs == 4
    assert report.best["epoch"] == 3
    assert report.findings == []


def test_lightning_tensorboard_logger() -> None:
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
            loss = self._loss(batch) * (float("nan") if self.current_epoch == 2 else 1.0)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: object, index: int) -> None:
            self.log("val_loss", self._loss(batch))

        def _loss(self, batch: object) -> object:
            x, y = batch  # type: ignore[misc]
            return ((self.layer(x) - y) ** 2).mean()

        def configure_optimizers(self) -> object:
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = L.Trainer(
        max_epochs=3,
        logger=loggers.TensorBoardLogger("logs"),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(Line(), data, data)
    report = analyze("logs")
    assert report.root is not None
    assert (report.root.code, report.root.step) == ("loss.non_finite", 16)
    assert report.progress.epochs == 3
