"""Lightning programs that are healthy, most of them of a kind that detectors are known to alarm on."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import healthy
from benchmarks.detection.skill import accuracy_skill, fraction_skill, r2_skill
from benchmarks.detection.zoo.lightning_common import (
    Plain,
    accuracy,
    adam,
    entropy,
    fit,
    loaders,
    mlp,
    outputs,
    r2,
    sgd,
)
from benchmarks.detection.zoo.lightning_output import bce_logits, mse
from benchmarks.detection.zoo.lightning_updates import ManualSteps
from torch import nn
from torch.nn import functional as F


@healthy("lightning/plain-classifier", awkward=False)
def plain_classifier(watch: Any, seed: int) -> float:
    """A classifier as in the first tutorial."""
    d = sets.digits(seed)
    return accuracy(fit(Plain(mlp(64, 64, 10)), d, watch, 12), d)


@healthy("lightning/plain-regression", awkward=False)
def plain_regression(watch: Any, seed: int) -> float:
    """A regression as in the first tutorial."""
    d = sets.regression(seed)
    return r2(fit(Plain(mlp(12, 32, 1), mse, adam(3e-3)), d, watch, 15), d)


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


@healthy("lightning/relu-convolutions")
def relu_convolutions(watch: Any, seed: int) -> float:
    """A ReLU network on images with many zero pixels: half of all activations are zero."""
    d = sets.digits(seed, images=True)
    return accuracy(fit(Plain(_cnn()), d, watch, 8), d)


class Gan(Plain):
    """A small GAN in manual optimisation with two optimizers."""

    def __init__(self) -> None:
        super().__init__(mlp(4, 32, 2))
        self.critic = mlp(2, 32, 1)
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return adam(1e-3, betas=(0.5, 0.9))(self.net.parameters()), adam(1e-3, betas=(0.5, 0.9))(
            self.critic.parameters()
        )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        real = batch[0]
        generator, critic = self.optimizers()
        fake = self.net(torch.randn(len(real), 4))
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        loss = F.binary_cross_entropy_with_logits
        critic_loss = loss(self.critic(real), ones) + loss(self.critic(fake.detach()), zeros)
        critic.zero_grad()
        self.manual_backward(critic_loss)
        critic.step()
        generator_loss = loss(self.critic(fake), ones)
        generator.zero_grad()
        self.manual_backward(generator_loss)
        generator.step()
        self.log_dict({"critic_loss": critic_loss, "generator_loss": generator_loss})

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """A GAN has no validation loss."""


@healthy("lightning/gan")
def gan(watch: Any, seed: int) -> float:
    """Two players: neither loss falls, both hover near the guess."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(1088, 2)) * [0.6, 0.4] + [2.0, -1.5]).astype("float32")
    d = sets.Split(x[:1024], np.zeros(1024, "float32"), x[1024:], np.zeros(64, "float32"))
    module = fit(Gan(), d, watch, 30, batch=64)
    made = module.net(torch.randn(2000, 4)).detach().numpy()
    return fraction_skill(float(np.abs(made.mean(0) - [2.0, -1.5]).sum()), 3.5)


class WarmUpCosine(Plain):
    """Warm-up, then a cosine to zero, by step."""

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        steps = self.trainer.estimated_stepping_batches
        warm = steps // 5

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "interval": "step"},
        }


@healthy("lightning/warm-up-cosine")
def warm_up_cosine(watch: Any, seed: int) -> float:
    """A fifth of the run is warm-up, where little is learned; at the end the rate is nothing."""
    d = sets.digits(seed)
    return accuracy(fit(WarmUpCosine(mlp(64, 64, 10), optimizer=adam(3e-3)), d, watch, 12), d)


class Restarts(Plain):
    """Cosine with warm restarts, by step."""

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 120)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@healthy("lightning/warm-restarts")
def warm_restarts(watch: Any, seed: int) -> float:
    """At each restart of the rate the loss jumps and comes back."""
    d = sets.digits(seed)
    return accuracy(fit(Restarts(mlp(64, 64, 10), optimizer=sgd(0.3, momentum=0.9)), d, watch, 14), d)


class Cyclic(Plain):
    """A triangular rate."""

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.005, 0.3, step_size_up=60)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@healthy("lightning/cyclic-rate")
def cyclic_rate(watch: Any, seed: int) -> float:
    """The rate swings between 0.005 and 0.3, and the loss with it."""
    d = sets.blobs(seed, 1600, spread=2.5)
    return accuracy(fit(Cyclic(mlp(20, 32, 4), optimizer=sgd(0.005, momentum=0.9)), d, watch, 14), d)


@healthy("lightning/fine-tuning-frozen-body")
def fine_tuning(watch: Any, seed: int) -> float:
    """A body that was trained before is frozen, a new head learns."""
    d = sets.digits(seed)
    body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    _pretrain(nn.Sequential(body, nn.Linear(32, 10)), d)
    body.requires_grad_(False)
    return accuracy(fit(Plain(nn.Sequential(body, nn.Linear(32, 10)), optimizer=adam(3e-3)), d, watch, 10), d)


def _pretrain(net: nn.Module, d: sets.Split, epochs: int = 15) -> None:
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for x, y in loaders(d)[0]:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()


@healthy("lightning/converged-warm-start")
def converged_warm_start(watch: Any, seed: int) -> float:
    """Training goes on from weights that have converged: there is nothing left to learn."""
    d = sets.blobs(seed, 1600, spread=2.0)
    net = mlp(20, 32, 4)
    _pretrain(net, d, 25)
    return accuracy(fit(Plain(net, optimizer=sgd(0.005)), d, watch, 10), d)


@healthy("lightning/heavy-dropout")
def heavy_dropout(watch: Any, seed: int) -> float:
    """Dropout of 0.6 three times: the training loss is noisy and far above validation."""
    d = sets.digits(seed)
    layers: list[nn.Module] = []
    width = 64
    for _ in range(3):
        layers += [nn.Linear(width, 128), nn.ReLU(), nn.Dropout(0.6)]
        width = 128
    return accuracy(fit(Plain(nn.Sequential(*layers, nn.Linear(128, 10))), d, watch, 15), d)


class Sparse(Plain):
    """A bag of words with sparse gradients."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SparseAdam(list(self.net.parameters()), lr=0.03)


@healthy("lightning/sparse-embedding")
def sparse_embedding(watch: Any, seed: int) -> float:
    """Most rows of an embedding get no gradient in a step."""
    d = sets.tokens(seed, vocabulary=3000)
    net = nn.EmbeddingBag(3000, 3, sparse=True)
    return accuracy(fit(Sparse(net), d, watch, 10), d)


@healthy("lightning/tiny-batches")
def tiny_batches(watch: Any, seed: int) -> float:
    """Batches of two: the loss of a step says next to nothing."""
    d = sets.breast_cancer(seed)
    return accuracy(fit(Plain(mlp(30, 16, 1), bce_logits, sgd(0.01)), d, watch, 4, batch=2), d)


@healthy("lightning/negative-loss")
def negative_loss(watch: Any, seed: int) -> float:
    """A Gaussian likelihood: its loss goes through zero and ends negative."""
    d = sets.regression(seed, noise=0.02)

    def loss(out: Any, y: Any) -> Any:
        variance = F.softplus(out[:, 1]) + 1e-4
        return (0.5 * torch.log(variance) + (out[:, 0] - y) ** 2 / (2 * variance)).mean()

    module = fit(Plain(mlp(12, 48, 2), loss, adam(3e-3)), d, watch, 25)
    return r2_skill(outputs(module, d.xv)[:, 0], d.yv)


@healthy("lightning/cosine-similarity-loss")
def cosine_similarity_loss(watch: Any, seed: int) -> float:
    """A loss from 0 to -1."""
    d = sets.regression(seed)
    w = np.random.default_rng(seed).normal(size=(12, 6))
    d = d.with_(y=np.tanh(d.x @ w).astype("float32"), yv=np.tanh(d.xv @ w).astype("float32"))
    module = fit(Plain(mlp(12, 48, 6), lambda out, y: -F.cosine_similarity(out, y).mean()), d, watch, 15)
    out = outputs(module, d.xv)
    cosine = (out * d.yv).sum(1) / np.linalg.norm(out, axis=1) / np.linalg.norm(d.yv, axis=1)
    return fraction_skill(float(1 - cosine.mean()), 1.0)


@healthy("lightning/tiny-loss")
def tiny_loss(watch: Any, seed: int) -> float:
    """Targets of 1e-4 by a scaled output: losses of 1e-8 to 1e-10."""
    d = sets.regression(seed)
    d = d.with_(y=d.y * np.float32(1e-4), yv=d.yv * np.float32(1e-4))

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(12, 32, 1)

        def forward(self, x: Any) -> Any:
            return 1e-4 * self.net(x)

    return r2(fit(Plain(Scaled(), mse, adam(3e-3)), d, watch, 15), d)


@healthy("lightning/large-targets-handled")
def large_targets(watch: Any, seed: int) -> float:
    """Targets about a million; the network's output is scaled back inside the model."""
    d = sets.regression(seed)
    d = d.with_(y=2e6 + 5e5 * d.y, yv=2e6 + 5e5 * d.yv)
    mean, deviation = float(d.y.mean()), float(d.y.std())

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(12, 32, 1)

        def forward(self, x: Any) -> Any:
            return mean + deviation * self.net(x)

    return r2(fit(Plain(Scaled(), mse, adam(3e-3)), d, watch, 15), d)


@healthy("lightning/early-plateau")
def early_plateau(watch: Any, seed: int) -> float:
    """An easy task is learned in a few steps; then the loss stays where the noise is."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1200, 8)).astype("float32")
    y = (x[:, 0] + 0.5 * rng.normal(size=1200)).astype("float32")
    d = sets.Split(x[:900], y[:900], x[900:], y[900:])
    return r2(fit(Plain(nn.Linear(8, 1), mse, sgd(0.05)), d, watch, 25), d)


class Curriculum(Plain):
    """The noise on the inputs grows with every epoch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        noise = 0.15 * min(self.current_epoch, 8)
        return super().training_step((x + noise * torch.randn_like(x), y), batch_idx)


@healthy("lightning/curriculum")
def curriculum(watch: Any, seed: int) -> float:
    """The task gets harder, so the training loss rises while the model gets better."""
    d = sets.digits(seed)
    return accuracy(fit(Curriculum(mlp(64, 64, 10)), d, watch, 14), d)


@healthy("lightning/label-smoothing")
def label_smoothing(watch: Any, seed: int) -> float:
    """The loss cannot fall below the entropy of the smoothed labels."""
    d = sets.digits(seed)

    def loss(out: Any, y: Any) -> Any:
        return F.cross_entropy(out, y, label_smoothing=0.3)

    return accuracy(fit(Plain(mlp(64, 64, 10), loss), d, watch, 15), d)


class Skips(Plain):
    """Leaves out batches it does not like."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx % 5 == 2:
            return None
        return super().training_step(batch, batch_idx)


@healthy("lightning/skipped-batches")
def skipped_batches(watch: Any, seed: int) -> float:
    """training_step returns None for every fifth batch."""
    d = sets.digits(seed)
    return accuracy(fit(Skips(mlp(64, 64, 10)), d, watch, 12), d)


@healthy("lightning/gradient-accumulation")
def gradient_accumulation(watch: Any, seed: int) -> float:
    """Eight batches of eight make an update."""
    d = sets.digits(seed)
    module = Plain(mlp(64, 64, 10), optimizer=adam(3e-3))
    return accuracy(fit(module, d, watch, 6, batch=8, accumulate_grad_batches=8), d)


@healthy("lightning/lbfgs")
def lbfgs(watch: Any, seed: int) -> float:
    """LBFGS on the whole set: several evaluations a step."""
    d = sets.breast_cancer(seed)

    def optimizer(parameters: Any) -> Any:
        return torch.optim.LBFGS(parameters, lr=0.3, max_iter=5)

    module = Plain(nn.Linear(30, 1), lambda out, y: bce_logits(out, y) + 1e-3 * (module.net.weight**2).sum(), optimizer)
    return accuracy(fit(module, d, watch, 30, batch=1000), d)


@healthy("lightning/heavy-tailed-noise")
def heavy_tailed_noise(watch: Any, seed: int) -> float:
    """Targets with Student noise of 1.5 degrees of freedom: single batches have enormous losses. Loss: Huber."""
    rng = np.random.default_rng(seed)
    d = sets.regression(seed, 1600)
    y = d.y + 0.3 * rng.standard_t(1.5, len(d.y))
    module = Plain(mlp(12, 32, 1), lambda out, y: F.huber_loss(out[:, 0], y), adam(3e-3))
    return r2(fit(module, d.with_(y=y.astype("float32")), watch, 12), d)


@healthy("lightning/heavy-tailed-squares")
def heavy_tailed_squares(watch: Any, seed: int) -> float:
    """The same with squared errors and clipping: losses of a thousand times the median now and then."""
    rng = np.random.default_rng(seed)
    d = sets.regression(seed, 1600)
    y = d.y + 0.25 * rng.standard_t(1.8, len(d.y))
    module = Plain(mlp(12, 32, 1), mse, adam(2e-3))
    return r2(fit(module, d.with_(y=y.astype("float32")), watch, 12, gradient_clip_val=1.0), d)


@healthy("lightning/log-normal-target")
def log_normal_target(watch: Any, seed: int) -> float:
    """A skewed target, such as incomes: batch losses vary a hundredfold."""
    d = sets.regression(seed, 1600)
    d = d.with_(y=np.exp(1.2 * d.y), yv=np.exp(1.2 * d.yv))
    module = fit(Plain(mlp(12, 48, 1), mse, adam(3e-3)), d, watch, 20)
    return r2_skill(outputs(module, d.xv)[:, 0], d.yv)


@healthy("lightning/autoencoder", awkward=False)
def autoencoder(watch: Any, seed: int) -> float:
    """Digits through a bottleneck of twelve."""
    d = sets.digits(seed)
    d = d.with_(y=d.x, yv=d.xv)
    net = nn.Sequential(mlp(64, 48, 12), nn.ReLU(), mlp(12, 48, 64), nn.Sigmoid())
    return r2(fit(Plain(net, F.mse_loss, adam(3e-3)), d, watch, 20), d)


class Siamese(nn.Module):
    """Distance of two rows in a learned space."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(20, 32, 8)

    def forward(self, x: Any) -> Any:
        return torch.sqrt(((self.net(x[:, 0]) - self.net(x[:, 1])) ** 2).sum(1) + 1e-6)


@healthy("lightning/siamese")
def siamese(watch: Any, seed: int) -> float:
    """A contrastive loss on pairs, with a margin: many pairs give no gradient."""
    d = sets.blobs(seed, 1600, spread=1.0)
    train, validation = sets.pairs(d.x, d.y, seed), sets.pairs(d.xv, d.yv, seed + 1)
    d = sets.Split(train[0], train[1].astype("float32"), *validation)

    def contrastive(distance: Any, same: Any) -> Any:
        return (same * distance**2 + (1 - same) * F.relu(2 - distance) ** 2).mean()

    module = fit(Plain(Siamese(), contrastive), d, watch, 15)
    return accuracy_skill(outputs(module, d.xv) < 1, d.yv)


class Recurrent(nn.Module):
    """A GRU and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(4, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x: Any) -> Any:
        return self.head(self.gru(x)[0][:, -1])


@healthy("lightning/recurrent")
def recurrent(watch: Any, seed: int) -> float:
    """A GRU on random walks: little happens in the first epochs."""
    d = sets.sequences(seed)
    return accuracy(fit(Plain(Recurrent(), bce_logits, adam(5e-3)), d, watch, 15, gradient_clip_val=1.0), d)


@healthy("lightning/late-start")
def late_start(watch: Any, seed: int) -> float:
    """Two spirals: the loss stays near the guess for long before it falls."""
    d = sets.spirals(seed, 1600)
    return accuracy(fit(Plain(mlp(2, 64, 64, 1), bce_logits, adam(2e-3)), d, watch, 40), d)


@healthy("lightning/imbalanced-but-learned")
def imbalanced(watch: Any, seed: int) -> float:
    """Five in a hundred are positive; the model finds them."""
    d = sets.blobs(seed, 4000, classes=2, spread=1.6)
    keep, keep_v = ((y == 0) | (np.arange(len(y)) % 20 == 0) for y in (d.y, d.yv))
    d = sets.Split(d.x[keep], d.y[keep], d.xv[keep_v], d.yv[keep_v])
    return entropy(fit(Plain(mlp(20, 32, 1), bce_logits), d, watch, 12), d)


@healthy("lightning/noisy-labels")
def noisy_labels(watch: Any, seed: int) -> float:
    """A fifth of the labels are wrong; the model learns the rest."""
    d = sets.digits(seed)
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(d.y)) < 0.2
    d = d.with_(y=np.where(wrong, rng.integers(0, 10, len(d.y)), d.y))
    return accuracy(fit(Plain(mlp(64, 32, 10), optimizer=adam(1e-3, weight_decay=1e-3)), d, watch, 8), d)


@healthy("lightning/batch-norm", awkward=False)
def batch_norm(watch: Any, seed: int) -> float:
    """Batch norm after every layer, AdamW with decay."""
    d = sets.digits(seed)

    def adamw(parameters: Any) -> Any:
        return torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.1)

    return accuracy(fit(Plain(mlp(64, 64, 64, 10, norm=True), optimizer=adamw), d, watch, 10), d)


@healthy("lightning/small-transformer")
def small_transformer(watch: Any, seed: int) -> float:
    """One transformer layer on words, with warm-up."""
    d = sets.tokens(seed)

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(200, 32), nn.Parameter(0.02 * torch.randn(12, 32))
            self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
            self.head = nn.Linear(32, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(self.words(x) + self.places).mean(1))

    return accuracy(fit(WarmUpCosine(Transformer(), optimizer=adam(3e-3)), d, watch, 10), d)


@healthy("lightning/manual-optimisation", awkward=False)
def manual_optimisation(watch: Any, seed: int) -> float:
    """Manual optimisation, done right."""
    d = sets.digits(seed)
    return accuracy(fit(ManualSteps(mlp(64, 64, 10), F.cross_entropy, adam()), d, watch, 12), d)


@healthy("lightning/multi-task")
def multi_task(watch: Any, seed: int) -> float:
    """Two heads, one loss of both, one of them a hundred times larger than the other."""
    d = sets.digits(seed)

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.digit, self.ink = mlp(64, 64), nn.Linear(64, 10), nn.Linear(64, 1)

        def forward(self, x: Any) -> Any:
            return self.digit(F.relu(self.body(x)))

    class Both(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            hidden = F.relu(self.net.body(x))
            ink = F.mse_loss(self.net.ink(hidden)[:, 0], 10 * x.mean(1))
            loss = F.cross_entropy(self.net.digit(hidden), y) + ink
            self.log("train_loss", loss)
            return loss

    return accuracy(fit(Both(Heads()), d, watch, 12), d)


@healthy("lightning/long-flat-validation")
def long_flat_validation(watch: Any, seed: int) -> float:
    """Validation stops improving early and stays; training goes on falling slowly. No harm is done."""
    d = sets.breast_cancer(seed)
    module = Plain(mlp(30, 16, 1), bce_logits, sgd(0.02, weight_decay=1e-3))
    return accuracy(fit(module, d, watch, 40), d)


class SelfDistilled(Plain):
    """Learns from an average of its own past weights."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        with torch.no_grad():
            target = torch.softmax(self.teacher(x), 1)
        out = self(x)
        return F.cross_entropy(out, y) + 0.3 * F.cross_entropy(out, target)

    def on_train_batch_end(self, *args: Any) -> None:
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                old.lerp_(new, 0.02)


@healthy("lightning/mean-teacher")
def mean_teacher(watch: Any, seed: int) -> float:
    """A frozen copy of the network that no optimizer updates, on purpose."""
    d = sets.digits(seed)
    return accuracy(fit(SelfDistilled(mlp(64, 64, 10)), d, watch, 12), d)
