"""Plain loops that fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.skill import fraction_skill, r2_skill
from benchmarks.detection.zoo.lightning_common import accuracy, loaders, mlp, outputs, r2
from torch import nn
from torch.nn import functional as F

BLOWN = "loss.divergence loss.non_finite gradient.exploding weights.non_finite gradient.non_finite"
WAKE = (
    "loss.spike loss.no_learning update.too_large activation.dead metric.non_finite loss.oscillation loss.plateau "
    "metric.degenerate_predictions"
)


def mse(out: Any, y: Any) -> Any:
    return F.mse_loss(out[:, 0], y)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: sets.Split,
    watch: Any,
    epochs: int,
    loss_fn: Any = F.cross_entropy,
    *,
    batch: int = 32,
    shuffle: bool = True,
    clear: bool = True,
    back_to_train: bool = True,
    evaluate: bool = True,
) -> nn.Module:
    """The loop of the README, with its usual mistakes as switches."""
    training, validation = loaders(data, batch, shuffle)
    model.train()
    with watch.loop(model, optimizer) as guard:
        for _ in range(epochs):
            if back_to_train:
                model.train()
            for x, y in training:
                if clear:
                    optimizer.zero_grad()
                loss = loss_fn(model(x), y)
                loss.backward()
                if guard.step(loss=loss, batch=(x, y)):
                    optimizer.step()
                if guard.should_stop:
                    break
            if evaluate:
                model.eval()
            with torch.no_grad():
                losses = [loss_fn(model(x), y).item() for x, y in validation]
            guard.end_epoch(val_loss=sum(losses) / len(losses))
            if guard.should_stop:
                break
    return model


@case(
    "torch/no-zero-grad",
    "gradient.accumulating gradient.exploding loss.divergence",
    "missing_zero_grad",
    also="loss.spike loss.oscillation loss.no_learning update.too_large loss.plateau activation.dead loss.non_finite "
    "metric.degenerate_predictions",
)
def no_zero_grad(watch: Any, fault: bool, seed: int) -> float:
    """optimizer.zero_grad() is missing (60335387)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 64, 10)
    return accuracy(train(net, torch.optim.SGD(net.parameters(), 0.1), d, watch, 12, clear=not fault), d)


@case(
    "torch/no-zero-grad-adam",
    "gradient.accumulating gradient.exploding loss.oscillation",
    "missing_zero_grad",
    also="loss.spike loss.divergence loss.no_learning update.too_large loss.plateau activation.dead "
    "metric.degenerate_predictions",
)
def no_zero_grad_adam(watch: Any, fault: bool, seed: int) -> float:
    """The same with Adam, which hides the growing gradients."""
    d = sets.digits(seed)
    net = mlp(64, 64, 64, 10)
    return accuracy(train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 10, clear=not fault), d)


@case("torch/line-rate-too-high", BLOWN, "learning_rate_too_high unscaled_inputs", also=WAKE + " data.scale")
def line_rate_too_high(watch: Any, fault: bool, seed: int) -> float:
    """The line y = wx + b on x = 0 to 99 with a rate of 0.5 (TheDeepChecker); the twin's x is in 0 to 1."""
    x = np.arange(100, dtype="float32")[:, None]
    rng = np.random.default_rng(seed)
    y = (0.03 * x[:, 0] + 1 + 0.05 * rng.normal(size=100)).astype("float32")
    x = x if fault else x / 100
    order = rng.permutation(100)
    d = sets.Split(x[order[:80]], y[order[:80]], x[order[80:]], y[order[80:]])
    net = nn.Linear(1, 1)
    return r2(train(net, torch.optim.SGD(net.parameters(), 0.5), d, watch, 60, mse, batch=16), d)


@case("torch/line-rate", BLOWN, "learning_rate_too_high unscaled_inputs", also=WAKE + " data.scale")
def line_rate(watch: Any, fault: bool, seed: int) -> float:
    """The line y = wx + b with a rate of 0.1 (TheDeepChecker), which is too much for inputs about 4."""
    rng = np.random.default_rng(seed)
    x = rng.normal(4, 1, (400, 1)).astype("float32")
    y = (3 * x[:, 0] - 8 + 0.5 * rng.normal(size=400)).astype("float32")
    d = sets.Split(x[:300], y[:300], x[300:], y[300:])
    net = nn.Linear(1, 1)
    return r2(train(net, torch.optim.SGD(net.parameters(), 0.1 if fault else 0.02), d, watch, 40, mse, batch=16), d)


@case(
    "torch/gradient-ascent",
    "loss.divergence",
    "loss_function_mismatch user_code_error",
    also="loss.no_learning loss.non_finite gradient.exploding update.too_large gradient.non_finite weights.non_finite "
    "metric.degenerate_predictions activation.dead loss.spike metric.non_finite",
)
def gradient_ascent(watch: Any, fault: bool, seed: int) -> float:
    """The sign of the update is flipped: maximize=True (TheDeepChecker)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, maximize=fault)
    return accuracy(train(net, optimizer, d, watch, 12), d)


@case(
    "torch/head-replaced-after-optimizer",
    "gradient.missing weights.frozen",
    "parameters_not_in_optimizer",
    also="loss.plateau loss.no_learning",
)
def head_replaced(watch: Any, fault: bool, seed: int) -> float:
    """The optimizer was made before layers were replaced: it holds the old ones."""
    d = sets.digits(seed)
    net = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 10))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    net[0], net[2] = nn.Linear(64, 6), nn.Linear(6, 24)
    if not fault:
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    return accuracy(train(net, optimizer, d, watch, 15), d)


class Listed(nn.Module):
    """Keeps its layers in a list, or in a list that PyTorch knows."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        layers = [nn.Linear(64, 32), nn.Linear(32, 6)]
        self.hidden: Any = layers if plain else nn.ModuleList(layers)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Any) -> Any:
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.head(x)


@case(
    "torch/layers-in-a-list",
    "gradient.missing loss.plateau loss.no_learning",
    "parameters_not_in_optimizer",
    also="weights.frozen",
)
def layers_in_a_list(watch: Any, fault: bool, seed: int) -> float:
    """Layers in a plain list are no parameters of the module, so nothing updates them."""
    d = sets.digits(seed)
    net = Listed(fault)
    return accuracy(train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 15), d)


@case(
    "torch/frozen-in-optimizer",
    "weights.frozen gradient.missing loss.no_learning",
    "frozen_parameters",
    also="loss.plateau metric.degenerate_predictions",
)
def frozen_in_optimizer(watch: Any, fault: bool, seed: int) -> float:
    """Everything but the last bias is frozen, and handed to the optimizer all the same (PyTorch forum 84911)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    if fault:
        net.requires_grad_(False)
        net[2].bias.requires_grad_(True)
    return accuracy(train(net, torch.optim.SGD(net.parameters(), 0.1), d, watch, 12), d)


@case(
    "torch/stays-in-eval-mode",
    "model.wrong_mode",
    "wrong_mode",
    also="loss.plateau loss.no_learning loss.divergence loss.spike gradient.exploding metric.overfitting "
    "activation.dead loss.oscillation gradient.vanishing metric.degenerate_predictions loss.non_finite",
    onset=19,
)
def stays_in_eval_mode(watch: Any, fault: bool, seed: int) -> float:
    """model.eval() in the first validation, never model.train() again: batch norm keeps its first statistics."""
    d = sets.digits(seed)
    d = d.with_(x=d.x[:600], y=d.y[:600])
    net = mlp(64, *[32] * 8, 10, norm=True)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    return accuracy(train(net, optimizer, d, watch, 25, back_to_train=not fault), d)


@case("torch/dropout-in-validation", "model.wrong_mode", "wrong_mode", also="metric.overfitting")
def dropout_in_validation(watch: Any, fault: bool, seed: int) -> float:
    """model.eval() is missing before validation; the accuracy that its author sees counts (transformers-33844)."""
    d = sets.digits(seed)
    net = nn.Sequential(
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(0.65),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(0.65),
        nn.Linear(64, 10),
    )
    train(net, torch.optim.Adam(net.parameters(), 1e-3), d, watch, 15, evaluate=not fault)
    with torch.no_grad():
        hits = (net(torch.from_numpy(d.xv)).argmax(1).numpy() == d.yv).mean()
    return fraction_skill(float(hits), trivial=0.1, perfect=1.0)


@case(
    "torch/mean-of-nothing",
    "gradient.non_finite loss.non_finite weights.non_finite",
    "numerical_instability",
    also="metric.non_finite data.non_finite",
    non_finite=True,
    onset=None,
)
def mean_of_nothing(watch: Any, fault: bool, seed: int) -> float:
    """The mean over the words of a sentence divides by their number, which is zero for an empty one."""
    d = sets.tokens(seed)
    d.x[400::310] = 0  # only padding

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(200, 16), nn.Linear(16, 3)

        def forward(self, x: Any) -> Any:
            known = (x > 0).float().unsqueeze(-1)
            count = known.sum(1) if fault else known.sum(1).clamp(min=1)
            return self.head((self.words(x) * known).sum(1) / count)

    net = Pooled()
    return accuracy(train(net, torch.optim.Adam(net.parameters(), 1e-2), d, watch, 10), d)


@case(
    "torch/scaled-to-zero",
    "loss.no_learning update.too_small gradient.vanishing",
    "learning_rate_too_low",
    also="gradient.missing weights.frozen loss.plateau",
)
def scaled_to_zero(watch: Any, fault: bool, seed: int) -> float:
    """The loss is divided by the size of the set instead of the batch, twice."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)

    def loss(out: Any, y: Any) -> Any:
        return F.cross_entropy(out, y) / (len(d.x) ** 2 if fault else 1)

    return accuracy(train(net, torch.optim.SGD(net.parameters(), 0.1), d, watch, 12, loss), d)


@case(
    "torch/rows-without-targets",
    "loss.no_learning",
    "no_signal bad_labels",
    also="metric.degenerate_predictions metric.overfitting loss.plateau",
)
def rows_without_targets(watch: Any, fault: bool, seed: int) -> float:
    """A collate function shuffles the rows of each batch, but not their targets."""
    d = sets.regression(seed, 1600)
    net = mlp(12, 24, 1)

    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any) -> Any:
            return self.net(x[torch.randperm(len(x))] if fault else x)

    model = Shuffled()
    train(model, torch.optim.Adam(model.parameters(), 3e-3), d, watch, 12, mse)
    return r2_skill(outputs(model, d.xv)[:, 0], d.yv)


@case(
    "torch/targets-outside-sigmoid",
    "model.output_mismatch loss.no_learning",
    "output_activation_mismatch unscaled_targets",
    also="activation.saturated gradient.vanishing metric.degenerate_predictions loss.plateau update.too_small "
    "data.scale",
)
def targets_outside_sigmoid(watch: Any, fault: bool, seed: int) -> float:
    """A sigmoid output for targets of mean 0 and deviation 1, doubled."""
    d = sets.regression(seed)
    d = d.with_(y=2 * d.y + 4, yv=2 * d.yv + 4)
    net = nn.Sequential(mlp(12, 32, 1), nn.Sigmoid() if fault else nn.Identity())
    return r2(train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 20, mse), d)


@case("torch/overfitting", "metric.overfitting", "too_little_data_for_capacity too_little_regularization", onset=None)
def overfitting(watch: Any, fault: bool, seed: int) -> float:
    """A wide network on 80 rows of a noisy regression; the twin has 1,500."""
    big = sets.regression(seed, 2000, noise=0.8)
    d = big.with_(x=big.x[:80], y=big.y[:80]) if fault else big
    net = mlp(12, 256, 256, 1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    return r2(train(net, optimizer, d, watch, 120 if fault else 5, mse, batch=16), d)
