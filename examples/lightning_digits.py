"""A guarded Lightning run: one image of the training data holds NaN.

python examples/lightning_digits.py
"""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from failguard.lightning import FailGuard


class Classifier(L.LightningModule):
    """Two dense layers."""

    def __init__(self, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        self.loss = torch.nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", self.loss(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


def main() -> None:
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32)
    x[700, 3] = float("nan")
    data = TensorDataset(x, torch.tensor(labels))
    train, validation = torch.utils.data.random_split(data, [1437, 360], torch.Generator().manual_seed(0))

    guard = FailGuard(monitor="val_loss", patience=5, run_name="a broken image")
    trainer = L.Trainer(max_epochs=5, callbacks=[guard], accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(validation, batch_size=360))
    print(guard.report.status, guard.report.root.code, guard.report.diagnosis.likely_cause)


if __name__ == "__main__":
    main()
