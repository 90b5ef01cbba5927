"""Lightning programs whose updates are wrong: rates, initial values, parts that do not learn, regularization."""

from __future__ import annotations

from typing import Any

import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.skill import fraction_skill
from benchmarks.detection.zoo.lightning_common import Plain, accuracy, adam, fit, mlp, r2, sgd
from benchmarks.detection.zoo.lightning_output import mse
from torch import nn
from torch.nn import functional as F

BLOWN = "loss.divergence loss.non_finite gradient.exploding weights.non_finite gradient.non_finite"
WAKE = "loss.spike loss.no_learning update.too_large activation.dead metric.non_finite loss.oscillation"
STUCK = "loss.plateau metric.degenerate_predictions"


@case("lightning/rate-far-too-high", BLOWN, "learning_rate_too_high", also=WAKE + " " + STUCK)
def rate_far_too_high(watch: Any, fault: bool, seed: int) -> float:
    """SGD with a rate of 30 on a small regression."""
    d = sets.regression(seed)
    return r2(fit(Plain(mlp(12, 32, 1), mse, sgd(30.0 if fault else 0.05)), d, watch, 15), d)


@case(
    "lightning/adam-rate-too-high",
    "loss.no_learning loss.divergence update.too_large activation.dead",
    "learning_rate_too_high dead_units",
    also=WAKE + " loss.plateau metric.degenerate_predictions gradient.exploding gradient.vanishing gradient.missing",
)
def adam_rate_too_high(watch: Any, fault: bool, seed: int) -> float:
    """Adam with a rate of 1 on digits: the loss ends where a guess would be."""
    d = sets.digits(seed)
    return accuracy(fit(Plain(mlp(64, 64, 64, 10), optimizer=adam(1.0 if fault else 1e-3)), d, watch, 15), d)


@case(
    "lightning/rate-too-low",
    "loss.no_learning update.too_small",
    "learning_rate_too_low too_few_updates",
    also="loss.plateau",
)
def rate_too_low(watch: Any, fault: bool, seed: int) -> float:
    """SGD with a rate of 1e-6 on digits (50306988)."""
    d = sets.digits(seed)
    return accuracy(fit(Plain(mlp(64, 64, 10), optimizer=sgd(1e-6 if fault else 0.1)), d, watch, 15), d)


@case(
    "lightning/one-batch-an-epoch",
    "loss.no_learning update.too_small",
    "too_few_updates learning_rate_too_low batch_size_too_large",
    also="loss.plateau",
)
def one_batch_an_epoch(watch: Any, fault: bool, seed: int) -> float:
    """The whole set is one batch and twelve epochs are twelve updates (44164749; DeepCrime: batch, epochs)."""
    d = sets.digits(seed)
    return accuracy(fit(Plain(mlp(64, 64, 10), optimizer=sgd(0.05)), d, watch, 12, batch=2000 if fault else 16), d)


@case(
    "lightning/weight-decay-too-strong",
    "loss.no_learning loss.plateau",
    "too_much_regularization",
    also=STUCK + " activation.dead gradient.vanishing update.too_small weights.frozen",
)
def weight_decay_too_strong(watch: Any, fault: bool, seed: int) -> float:
    """L2 of 0.3 in SGD shrinks every weight to nothing (TheDeepChecker; DeepCrime: L2)."""
    d = sets.digits(seed)
    optimizer = sgd(0.1, weight_decay=0.3 if fault else 1e-4)
    return accuracy(fit(Plain(mlp(64, 64, 10), optimizer=optimizer), d, watch, 12), d)


@case(
    "lightning/dropout-too-strong",
    "loss.no_learning loss.plateau",
    "too_much_regularization",
    also=STUCK + " activation.dead",
)
def dropout_too_strong(watch: Any, fault: bool, seed: int) -> float:
    """Dropout of 0.97 after narrow layers (44184091; DeepCrime: dropout)."""
    d = sets.digits(seed)
    p = 0.97 if fault else 0.1
    net = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Dropout(p), nn.Linear(32, 32), nn.ReLU(), nn.Dropout(p), nn.Linear(32, 10)
    )
    return accuracy(fit(Plain(net), d, watch, 15), d)


@case(
    "lightning/clipped-to-nothing",
    "loss.no_learning update.too_small loss.plateau",
    "learning_rate_too_low too_few_updates",
)
def clipped_to_nothing(watch: Any, fault: bool, seed: int) -> float:
    """gradient_clip_val=1e-5 with SGD (DeepCrime: clipping)."""
    d = sets.digits(seed)
    module = Plain(mlp(64, 64, 10), optimizer=sgd(0.1))
    return accuracy(fit(module, d, watch, 15, gradient_clip_val=1e-5 if fault else 1.0), d)


class Scheduled(Plain):
    """Exponential decay of the rate, by batch or by epoch."""

    interval = "epoch"

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.7)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


@case(
    "lightning/schedule-by-batch",
    "loss.plateau update.too_small loss.no_learning",
    "learning_rate_too_low too_few_updates",
    onset=10,
)
def schedule_by_batch(watch: Any, fault: bool, seed: int) -> float:
    """A decay meant for epochs runs every batch: the rate is nothing after some dozens of them."""
    d = sets.digits(seed)
    module = Scheduled(mlp(64, 64, 10), optimizer=sgd(0.1))
    module.interval = "step" if fault else "epoch"
    return accuracy(fit(module, d, watch, 12), d)


@case(
    "lightning/summed-loss",
    BLOWN,
    "learning_rate_too_high loss_function_mismatch",
    also=WAKE + " " + STUCK + " model.output_mismatch",
)
def summed_loss(watch: Any, fault: bool, seed: int) -> float:
    """reduction='sum' with a rate for the mean: ax^2+bx+c (TheDeepChecker)."""
    d = sets.sine(seed)
    d = d.with_(y=1.5 * d.x[:, 0] ** 2 - d.x[:, 0] + 1, yv=1.5 * d.xv[:, 0] ** 2 - d.xv[:, 0] + 1)

    def loss(out: Any, y: Any) -> Any:
        return F.mse_loss(out[:, 0], y, reduction="sum" if fault else "mean")

    return r2(fit(Plain(mlp(1, 64, 64, 1), loss, sgd(0.02)), d, watch, 20), d)


def normal_init(net: nn.Module, deviation: float) -> nn.Module:
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=deviation)
    return net


@case(
    "lightning/wide-init",
    BLOWN,
    "bad_initialization learning_rate_too_high",
    also=WAKE + " " + STUCK + " gradient.vanishing",
)
def wide_init(watch: Any, fault: bool, seed: int) -> float:
    """N(0, 1) weights in three layers of 300 (TheDeepChecker)."""
    d = sets.digits(seed)
    net = mlp(64, 300, 300, 300, 10)
    if fault:
        normal_init(net, 1.0)
    return accuracy(fit(Plain(net, optimizer=sgd(0.05)), d, watch, 12), d)


@case(
    "lightning/saturated-tanh",
    "activation.saturated loss.no_learning gradient.vanishing",
    "saturating_activations bad_initialization",
    also=STUCK + " update.too_small loss.oscillation",
)
def saturated_tanh(watch: Any, fault: bool, seed: int) -> float:
    """Tanh units pinned by weights of deviation 8 (DeepCrime: init)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 64, 64, 10, act=nn.Tanh)
    if fault:
        normal_init(net[:5], 8.0)
    return accuracy(fit(Plain(net, optimizer=sgd(0.05)), d, watch, 15), d)


@case(
    "lightning/zero-init",
    "loss.no_learning metric.degenerate_predictions gradient.vanishing activation.dead",
    "bad_initialization dead_units",
    also="gradient.missing weights.frozen update.too_small loss.plateau",
)
def zero_init(watch: Any, fault: bool, seed: int) -> float:
    """Every weight and bias starts at zero (DeepCrime: init)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 64, 10)
    if fault:
        for p in net.parameters():
            nn.init.zeros_(p)
    return accuracy(fit(Plain(net), d, watch, 12), d)


@case(
    "lightning/dead-relu",
    "activation.dead loss.no_learning",
    "dead_units bad_initialization",
    also=STUCK + " gradient.vanishing gradient.missing weights.frozen update.too_small",
)
def dead_relu(watch: Any, fault: bool, seed: int) -> float:
    """Biases of -20 keep every unit of a hidden layer at zero (DeepCrime: bias)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 64, 10)
    if fault:
        nn.init.constant_(net[2].bias, -20.0)
    return accuracy(fit(Plain(net), d, watch, 15), d)


@case(
    "lightning/deep-sigmoid",
    "gradient.vanishing loss.no_learning",
    "too_deep_without_normalization saturating_activations",
    also=STUCK + " activation.saturated update.too_small",
)
def deep_sigmoid(watch: Any, fault: bool, seed: int) -> float:
    """Twelve sigmoid layers; the twin has ReLU and batch norm."""
    d = sets.digits(seed)
    widths = (64, *[48] * 12, 10)
    net = mlp(*widths, act=nn.Sigmoid) if fault else mlp(*widths, norm=True)
    return accuracy(fit(Plain(net), d, watch, 12), d)


class BodyAndHead(Plain):
    """A body and a head that can be trained apart."""

    def __init__(self, body: nn.Module, head: nn.Module, only_head: bool = False, detach: bool = False) -> None:
        super().__init__(nn.Sequential(body, head))
        self.only_head, self.detach = only_head, detach

    def forward(self, x: Any) -> Any:
        features = self.net[0](x)
        return self.net[1](features.detach() if self.detach else features)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.net[1].parameters() if self.only_head else self.parameters(), lr=3e-3)


def _narrow_body() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU())


@case(
    "lightning/body-not-in-optimizer",
    "gradient.missing weights.frozen",
    "parameters_not_in_optimizer",
    also="loss.plateau loss.no_learning",
)
def body_not_in_optimizer(watch: Any, fault: bool, seed: int) -> float:
    """Only the head goes to the optimizer; the body keeps its random weights."""
    d = sets.digits(seed)
    return accuracy(fit(BodyAndHead(_narrow_body(), nn.Linear(8, 10), only_head=fault), d, watch, 15), d)


@case(
    "lightning/detached-body",
    "gradient.missing weights.frozen",
    "detached_graph",
    also="loss.plateau loss.no_learning",
)
def detached_body(watch: Any, fault: bool, seed: int) -> float:
    """features.detach() cuts the body off."""
    d = sets.digits(seed)
    return accuracy(fit(BodyAndHead(_narrow_body(), nn.Linear(8, 10), detach=fault), d, watch, 15), d)


@case(
    "lightning/frozen-body",
    "weights.frozen gradient.missing",
    "frozen_parameters",
    also="loss.plateau loss.no_learning",
)
def frozen_body(watch: Any, fault: bool, seed: int) -> float:
    """A random body with requires_grad=False, handed to the optimizer (PyTorch forum 84911)."""
    d = sets.digits(seed)
    body = _narrow_body()
    if fault:
        body.requires_grad_(False)
    return accuracy(fit(BodyAndHead(body, nn.Linear(8, 10)), d, watch, 15), d)


class ManualSteps(Plain):
    """Manual optimisation."""

    clears = True

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        if self.clears:
            optimizer.zero_grad()
        x, y = batch
        loss = self.loss(self(x), y)
        self.manual_backward(loss)
        optimizer.step()
        self.log("train_loss", loss)
        return loss


@case(
    "lightning/manual-no-zero-grad",
    "gradient.accumulating gradient.exploding loss.divergence",
    "missing_zero_grad",
    also="loss.spike loss.oscillation loss.no_learning update.too_large loss.plateau activation.dead loss.non_finite",
)
def manual_no_zero_grad(watch: Any, fault: bool, seed: int) -> float:
    """Manual optimisation without zero_grad (60335387)."""
    d = sets.digits(seed)
    module = ManualSteps(mlp(64, 64, 64, 10), F.cross_entropy, sgd(0.1))
    module.clears = not fault
    return accuracy(fit(module, d, watch, 12), d)


class EvalMode(Plain):
    """Switches to evaluation mode at the start of training."""

    def on_train_epoch_start(self) -> None:
        self.net.eval()


@case(
    "lightning/trains-in-eval-mode",
    "model.wrong_mode",
    "wrong_mode",
    also="loss.no_learning loss.divergence loss.plateau loss.spike gradient.exploding gradient.vanishing"
    " metric.overfitting metric.degenerate_predictions activation.dead data.scale loss.non_finite loss.oscillation",
)
def trains_in_eval_mode(watch: Any, fault: bool, seed: int) -> float:
    """Batch norm that never sees a batch, in a deep network ."""
    d = sets.digits(seed)
    net = mlp(64, *[48] * 10, 10, norm=True)
    return accuracy(fit((EvalMode if fault else Plain)(net, F.cross_entropy, sgd(0.05)), d, watch, 10), d)


class DropoutInValidation(Plain):
    """Validates without evaluation mode."""

    def on_validation_epoch_start(self) -> None:
        self.net.train()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        out = self(batch[0])
        self.hits = out.argmax(1).eq(batch[1]).float().mean().item()
        self.log("val_accuracy", self.hits)


@case("lightning/dropout-in-validation", "model.wrong_mode", "wrong_mode", also="metric.overfitting")
def dropout_in_validation(watch: Any, fault: bool, seed: int) -> float:
    """The model is validated with dropout switched on (transformers-33844); its own accuracy counts."""
    d = sets.digits(seed)
    net = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.6), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.6), nn.Linear(64, 10)
    )
    module = DropoutInValidation(net)
    if not fault:
        module.on_validation_epoch_start = lambda: None  # type: ignore[method-assign]
    fit(module, d, watch, 15)
    return fraction_skill(module.hits, trivial=0.1, perfect=1.0)
