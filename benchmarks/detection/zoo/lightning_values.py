"""Lightning programs with values that leave the range of floats, spikes, unscaled values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.skill import accuracy_skill, r2_skill
from benchmarks.detection.zoo.lightning_common import Plain, accuracy, adam, fit, mlp, outputs, r2, sgd
from benchmarks.detection.zoo.lightning_output import bce_logits, mse
from torch import nn
from torch.nn import functional as F

BAD_VALUES = "loss.non_finite gradient.non_finite weights.non_finite"
BLOWN = "loss.divergence loss.non_finite gradient.exploding weights.non_finite gradient.non_finite"
WAKE = (
    "loss.spike loss.no_learning update.too_large activation.dead metric.non_finite loss.oscillation loss.plateau "
    "metric.degenerate_predictions gradient.vanishing"
)


@case(
    "lightning/log-of-zero",
    BAD_VALUES,
    "numerical_instability",
    also="metric.non_finite loss.spike gradient.exploding model.output_mismatch",
    non_finite=True,
    onset=None,
)
def log_of_zero(watch: Any, fault: bool, seed: int) -> float:
    """The sum of y log softmax, written by hand (TheDeepChecker)."""
    d = sets.digits(seed)

    def loss(out: Any, y: Any) -> Any:
        if not fault:
            return F.cross_entropy(out, y)
        p = torch.softmax(out, 1)
        return -(F.one_hot(y, 10) * torch.log(p)).sum(1).mean()

    net = mlp(64, 128, 10)
    nn.init.normal_(net[2].weight, std=20.0)
    return accuracy(fit(Plain(net, loss, adam(3e-3)), d, watch, 15), d)


@case(
    "lightning/root-at-zero",
    "gradient.non_finite " + BAD_VALUES,
    "numerical_instability",
    also="metric.non_finite",
    non_finite=True,
    onset=None,
)
def root_at_zero(watch: Any, fault: bool, seed: int) -> float:
    """A siamese network with distances under a square root: its slope is infinite for twice the same row."""
    d = sets.blobs(seed, 1600, classes=4, spread=0.8)
    pairs, validation = sets.pairs(d.x, d.y, seed), sets.pairs(d.xv, d.yv, seed + 1)
    d = sets.Split(pairs[0], pairs[1].astype("float32"), *validation)

    class Distance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(20, 32, 8)

        def forward(self, x: Any) -> Any:
            apart = ((self.net(x[:, 0]) - self.net(x[:, 1])) ** 2).sum(1)
            return torch.sqrt(apart if fault else apart + 1e-6)

    def contrastive(distance: Any, same: Any) -> Any:
        return (same * distance**2 + (1 - same) * F.relu(2 - distance) ** 2).mean()

    module = fit(Plain(Distance(), contrastive), d, watch, 15)
    distance = outputs(module, d.xv)
    return accuracy_skill(np.where(np.isfinite(distance), distance < 1, np.nan), d.yv)


@case(
    "lightning/division-by-spread",
    BAD_VALUES,
    "numerical_instability",
    also="metric.non_finite gradient.exploding loss.spike data.constant_feature",
    non_finite=True,
    onset=None,
)
def division_by_spread(watch: Any, fault: bool, seed: int) -> float:
    """Each row is normalised by its own deviation, which is zero for an empty row."""
    d = sets.digits(seed)
    for i in range(300, len(d.x), 350):
        d.x[i] = 0

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(64, 64, 10)

        def forward(self, x: Any) -> Any:
            return self.net((x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + (0.0 if fault else 1e-6)))

    return accuracy(fit(Plain(Normalised()), d, watch, 12), d)


@case(
    "lightning/bad-batch",
    "data.non_finite " + BAD_VALUES,
    "corrupted_batch",
    also="metric.non_finite",
    non_finite=True,
    onset=29,
)
def bad_batch(watch: Any, fault: bool, seed: int) -> float:
    """One row of batch 29 holds NaN."""
    d = sets.digits(seed)
    if fault:
        d.x[29 * 32 + 5, 10:20] = np.nan
    return accuracy(fit(Plain(mlp(64, 64, 10)), d, watch, 10, shuffle=False), d)


@case(
    "lightning/bad-label",
    "data.non_finite " + BAD_VALUES,
    "corrupted_batch bad_labels",
    also="metric.non_finite data.labels",
    non_finite=True,
    onset=17,
)
def bad_label(watch: Any, fault: bool, seed: int) -> float:
    """One target of batch 17 is missing, that is, NaN."""
    d = sets.regression(seed)
    if fault:
        d.y[17 * 32 + 3] = np.nan
    return r2(fit(Plain(mlp(12, 32, 1), mse), d, watch, 15, shuffle=False), d)


@case(
    "lightning/half-overflow",
    BAD_VALUES,
    "mixed_precision_overflow numerical_instability",
    also="metric.non_finite gradient.exploding loss.spike data.scale",
    non_finite=True,
    onset=None,
)
def half_overflow(watch: Any, fault: bool, seed: int) -> float:
    """Part of the network in half precision, with a sum beyond 65,504."""
    d = sets.digits(seed, raw=True)

    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.net = nn.LayerNorm(64), mlp(64, 64, 10)

        def forward(self, x: Any) -> Any:
            energy = ((x.half() if fault else x) ** 2).sum(1, keepdim=True)
            return self.net(self.norm(x) * (1 + torch.log1p(energy.float()) / 10))

    return accuracy(fit(Plain(Summed()), d, watch, 10), d)


@case(
    "lightning/absurd-batch",
    "loss.spike gradient.exploding loss.divergence",
    "corrupted_batch missing_gradient_clipping",
    also=WAKE + " data.scale",
    onset=150,
)
def absurd_batch(watch: Any, fault: bool, seed: int) -> float:
    """The inputs of one batch are a million times too large; SGD applies its gradient in full."""
    d = sets.regression(seed)

    class OneBad(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return super().training_step((x * 1e6 if fault and self.global_step == 150 else x, y), batch_idx)

    return r2(fit(OneBad(mlp(12, 32, 32, 1, act=nn.ReLU), mse, sgd(0.02)), d, watch, 12), d)


@case(
    "lightning/unscaled-inputs",
    "data.scale loss.no_learning loss.divergence",
    "unscaled_inputs",
    also=BLOWN + " " + WAKE,
)
def unscaled_inputs(watch: Any, fault: bool, seed: int) -> float:
    """Raw features of 0.001 to 2,500 and SGD (39525358, 31627380)."""
    d = sets.breast_cancer(seed, raw=fault)
    return accuracy(fit(Plain(mlp(30, 32, 1), bce_logits, sgd(0.02)), d, watch, 25), d)


@case(
    "lightning/unscaled-images",
    "data.scale loss.no_learning loss.divergence",
    "unscaled_inputs",
    also=BLOWN + " " + WAKE,
)
def unscaled_images(watch: Any, fault: bool, seed: int) -> float:
    """Pixels of 0 to 255 into a small convolutional network with SGD (48594888)."""
    d = sets.digits(seed, images=True, raw=fault)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    return accuracy(fit(Plain(net, optimizer=sgd(0.05, momentum=0.9)), d, watch, 8), d)


@case("lightning/unscaled-targets", "data.scale " + BLOWN, "unscaled_targets", also=WAKE)
def unscaled_targets(watch: Any, fault: bool, seed: int) -> float:
    """Targets in the hundred thousands and SGD, as with house prices."""
    d = sets.regression(seed)
    if fault:
        d = d.with_(y=3e5 + 1e5 * d.y, yv=3e5 + 1e5 * d.yv)
    return r2(fit(Plain(mlp(12, 32, 1), mse, sgd(0.05)), d, watch, 15), d)


@case(
    "lightning/unclipped-recurrent",
    "gradient.exploding loss.divergence loss.spike loss.non_finite",
    "missing_gradient_clipping learning_rate_too_high",
    also=WAKE + " gradient.non_finite weights.non_finite",
    onset=None,
)
def unclipped_recurrent(watch: Any, fault: bool, seed: int) -> float:
    """A recurrent network adds up a long sequence, with a large rate and no clipping."""
    d = sets.sequences(seed, 800, length=50)
    noise = np.random.default_rng(seed)
    x, xv = (noise.normal(size=part.shape).astype("float32") for part in (d.x, d.xv))
    d = sets.Split(x, x[..., 0].sum(1) / 7, xv, xv[..., 0].sum(1) / 7)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.RNN(4, 32, nonlinearity="relu", batch_first=True), nn.Linear(32, 1)
            nn.init.eye_(self.rnn.weight_hh_l0)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0][:, -1])

    module = Plain(Recurrent(), mse, sgd(0.02))
    return r2(fit(module, d, watch, 15, gradient_clip_val=None if fault else 0.5), d)


@case(
    "lightning/exploding-log-variance",
    "loss.divergence loss.spike gradient.exploding loss.non_finite",
    "numerical_instability learning_rate_too_high loss_function_mismatch",
    also=WAKE + " gradient.non_finite weights.non_finite model.output_mismatch",
    onset=None,
)
def exploding_log_variance(watch: Any, fault: bool, seed: int) -> float:
    """A Gaussian likelihood whose variance is an unbounded output, used as it is."""
    d = sets.regression(seed)

    def loss(out: Any, y: Any) -> Any:
        mean, raw = out[:, 0], out[:, 1]
        variance = torch.exp(12 * raw) if fault else F.softplus(raw) + 1e-3
        return (0.5 * torch.log(variance) + (mean - y) ** 2 / (2 * variance)).mean()

    module = fit(Plain(mlp(12, 32, 2), loss, sgd(0.05)), d, watch, 20)
    out = outputs(module, d.xv)[:, 0]
    return r2_skill(out, d.yv)
