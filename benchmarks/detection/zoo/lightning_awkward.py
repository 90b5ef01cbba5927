"""Lightning programs that are healthy and look like a fault, written while rules were worked on.

Each has something that a rule for a fault of the ``*_taxonomies`` files might take for it. All belong to the
calibration half.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import healthy as register
from benchmarks.detection.skill import accuracy_skill, entropy_skill, fraction_skill
from benchmarks.detection.zoo.lightning_common import Plain, accuracy, adam, fit, mlp, outputs, r2, sgd
from benchmarks.detection.zoo.lightning_output import mse
from torch import nn
from torch.nn import functional as F

healthy = partial(register, worked_on=True)


def weak_table(seed: int, explained: float, n: int = 4000, features: int = 10) -> sets.Split:
    """A linear signal that explains a small share of the variance; deviation 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)).astype("float32")
    w = rng.normal(size=features)
    y = np.sqrt(explained) * (x @ (w / np.linalg.norm(w))) + np.sqrt(1 - explained) * rng.normal(size=n)
    y = y.astype("float32")
    return sets.Split(x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :])


@healthy("lightning/weak-regression", about="A linear signal that explains 2 % of the variance.", explained=0.02)
@healthy("lightning/weak-regression-of-four", about="The same with 4 %.", explained=0.04)
def weak_regression(watch: Any, seed: int, explained: float) -> float:
    d = weak_table(seed, explained)
    module = fit(Plain(mlp(10, 1), mse, adam(3e-3)), d, watch, 12)
    return fraction_skill(1 - r2(module, d), 1.0, 1 - explained)


@healthy("lightning/weak-classes")
def weak_classes(watch: Any, seed: int) -> float:
    """Five classes of which the inputs tell a few hundredths of the entropy, as for clicks or markets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(6000, 12)).astype("float32")
    logits = 0.35 * x @ rng.normal(size=(12, 5)) / np.sqrt(12)
    y = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    d = sets.Split(x[:4000], y[:4000], x[4000:], y[4000:])
    module = fit(Plain(mlp(12, 5), optimizer=adam(3e-3)), d, watch, 8)
    p = np.exp(logits[4000:])
    best = entropy_skill(p / p.sum(1, keepdims=True), d.yv)
    return min(entropy_skill(torch.softmax(torch.from_numpy(outputs(module, d.xv)), 1).numpy(), d.yv) / best, 1.0)


@healthy("lightning/contrastive-pairs-in-a-batch")
def contrastive(watch: Any, seed: int) -> float:
    """InfoNCE: the labels are the places in the batch, the loss starts at the logarithm of the batch size."""
    d = sets.digits(seed)

    class Views(Plain):
        def both(self, x: Any) -> Any:
            a, b = (F.normalize(self.net(x + 0.2 * torch.randn_like(x)), dim=1) for _ in range(2))
            return F.cross_entropy(a @ b.T / 0.1, torch.arange(len(x)))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.both(batch[0])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.both(batch[0][:64]))

    module = fit(Views(mlp(64, 64, 16), optimizer=adam(3e-3)), d, watch, 10, batch=64)
    near = outputs(module, d.xv) @ outputs(module, d.x).T
    return accuracy_skill(d.y[near.argmax(1)], d.yv)


@healthy("lightning/mixup")
def mixup(watch: Any, seed: int) -> float:
    """Pairs of rows and of labels are mixed: the loss stays high, the targets are distributions."""
    d = sets.digits(seed)

    class Mixed(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            share = float(np.random.beta(0.6, 0.6))
            other = torch.randperm(len(x))
            y = F.one_hot(y, 10).float()
            loss = F.cross_entropy(self(share * x + (1 - share) * x[other]), share * y + (1 - share) * y[other])
            self.log("train_loss", loss)
            return loss

    return accuracy(fit(Mixed(mlp(64, 64, 10), optimizer=adam(3e-3)), d, watch, 12), d)


@healthy("lightning/focal-loss")
def focal_loss(watch: Any, seed: int) -> float:
    """A focal loss on one positive in ten: values far below a cross-entropy's from the first step on."""
    d = sets.blobs(seed, 2400, classes=10, spread=2.0)
    d = d.with_(y=(d.y == 3).astype("float32"), yv=(d.yv == 3).astype("float32"))

    def focal(z: Any, y: Any) -> Any:
        p = torch.sigmoid(z[:, 0])
        right = torch.where(y > 0, p, 1 - p)
        return -(0.25 * (1 - right) ** 2 * torch.log(right + 1e-8)).mean()

    return accuracy(fit(Plain(mlp(20, 32, 1), focal, adam(1e-3)), d, watch, 6), d)


def ratings(seed: int, n: int = 2000, even: bool = False) -> sets.Split:
    """Grades of 0 to 5 that grow with a hidden number; in even shares, or mostly middling."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 16)).astype("float32")
    hidden = x @ rng.normal(size=16) / 4 + 0.5 * rng.normal(size=n)
    edges = np.quantile(hidden, np.arange(1, 6) / 6 if even else [0.05, 0.2, 0.5, 0.8, 0.95])
    y = np.searchsorted(edges, hidden).astype("int64")
    return sets.Split(x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :])


@healthy("lightning/grades-by-squares", about="Grades of 0 to 5, mostly middling, as numbers with a squared error.")
@healthy("lightning/even-grades-by-squares", about="The same with sixths of equal size.", even=True)
def grades(watch: Any, seed: int, even: bool = False) -> float:
    d = ratings(seed, even=even)
    module = fit(Plain(mlp(16, 32, 1), lambda z, y: F.mse_loss(z[:, 0], y.float()), adam(3e-3)), d, watch, 20)
    return r2(module, d)


@healthy("lightning/counting-as-regression")
def counting(watch: Any, seed: int) -> float:
    """How many of twelve switches are on: whole numbers, a squared error, on purpose."""
    rng = np.random.default_rng(seed)
    x = (rng.random((1600, 12)) < rng.random((1600, 1))).astype("float32")
    y = x.sum(1).astype("int64")
    x = x + 0.1 * rng.normal(size=x.shape).astype("float32")
    d = sets.Split(x[:1200], y[:1200], x[1200:], y[1200:])
    return r2(fit(Plain(mlp(12, 32, 1), lambda z, y: F.mse_loss(z[:, 0], y.float()), adam(5e-3)), d, watch, 15), d)


@healthy("lightning/linear-factors")
def linear_factors(watch: Any, seed: int) -> float:
    """A linear autoencoder: layers without an activation between them, on purpose."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(1500, 4)) @ rng.normal(size=(4, 20)) + 0.7 * rng.normal(size=(1500, 20))).astype("float32")
    d = sets.Split(x[:1000], x[:1000], x[1000:], x[1000:])
    return r2(fit(Plain(mlp(20, 4, 20, act=nn.Identity), F.mse_loss, adam(1e-2)), d, watch, 12), d)


class Gated(nn.Module):
    """A gate of a sigmoid on each feature, and attention by a softmax, before a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.score = nn.Linear(30, 30), nn.Linear(30, 30)
        self.head = nn.Linear(30, 1)

    def forward(self, x: Any) -> Any:
        x = x * torch.sigmoid(self.gate(x)) * (30 * torch.softmax(torch.sigmoid(self.score(x)), 1))
        return self.head(x)


@healthy("lightning/gates-and-attention")
def gates_and_attention(watch: Any, seed: int) -> float:
    """A softmax over sigmoids weighs the features inside the model; the output is a logit."""
    d = sets.breast_cancer(seed)
    d = d.with_(y=d.y.astype("float32"), yv=d.yv.astype("float32"))
    loss = lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y)  # noqa: E731
    return accuracy(fit(Plain(Gated(), loss, adam(3e-3)), d, watch, 20), d)


@healthy("lightning/distillation")
def distillation(watch: Any, seed: int) -> float:
    """kl_div between a student's log-softmax and a teacher's softmax, at a temperature of 4."""
    d = sets.digits(seed)
    teacher = mlp(64, 128, 10)
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)
    x, y = torch.from_numpy(d.x), torch.from_numpy(d.y)
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        optimizer.step()

    class Student(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            with torch.no_grad():
                soft = torch.softmax(teacher(batch[0]) / 4, 1)
            loss = 16 * F.kl_div(torch.log_softmax(self(batch[0]) / 4, 1), soft, reduction="batchmean")
            self.log("train_loss", loss)
            return loss

    return accuracy(fit(Student(mlp(64, 16, 10), optimizer=adam(3e-3)), d, watch, 12), d)


@healthy("lightning/warm-up-of-most-of-the-run")
def long_warm_up(watch: Any, seed: int) -> float:
    """The rate rises until the end of a short run, and the model learns on the way."""
    d = sets.digits(seed)

    class Rising(Plain):
        def configure_optimizers(self) -> Any:
            optimizer = self.make_optimizer(self.parameters())
            rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / 250))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    return accuracy(fit(Rising(mlp(64, 64, 10), optimizer=sgd(0.5)), d, watch, 10), d)


@healthy("lightning/validation-in-other-units")
def other_units(watch: Any, seed: int) -> float:
    """Training on standardised targets, validation errors in the units of the targets, a thousand times larger."""
    d = sets.regression(seed)

    class InUnits(Plain):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", F.mse_loss(40 * self(batch[0])[:, 0], 40 * batch[1]))

    return r2(fit(InUnits(mlp(12, 32, 1), mse, adam(1e-2)), d, watch, 20), d)


@healthy("lightning/summed-loss-with-its-rate")
def summed_loss(watch: Any, seed: int) -> float:
    """reduction='sum' and a rate that was divided by the batch size."""
    d = sets.digits(seed)
    loss = lambda z, y: F.cross_entropy(z, y, reduction="sum")  # noqa: E731
    return accuracy(fit(Plain(mlp(64, 64, 10), loss, sgd(0.2 / 32)), d, watch, 10), d)


@healthy("lightning/quantile-loss")
def quantile_loss(watch: Any, seed: int) -> float:
    """The ninth tenth of a skewed target: a loss of one's own whose predictions hardly spread."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1600, 8)).astype("float32")
    y = (np.exp(0.5 * x[:, 0]) * rng.exponential(size=1600)).astype("float32")
    d = sets.Split(x[:1200], y[:1200], x[1200:], y[1200:])
    pinball = lambda z, y: torch.maximum(0.9 * (y - z[:, 0]), 0.1 * (z[:, 0] - y)).mean()  # noqa: E731
    module = fit(Plain(mlp(8, 32, 1), pinball, adam(3e-3)), d, watch, 15)
    own = float(np.corrcoef(outputs(module, d.xv)[:, 0], np.exp(0.5 * d.xv[:, 0]))[0, 1])
    return max(own, -1.0)
