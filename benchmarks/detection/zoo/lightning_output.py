"""Lightning programs whose output, loss and targets do not fit together."""

from __future__ import annotations

from typing import Any

import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.skill import accuracy_skill, entropy_skill
from benchmarks.detection.zoo.lightning_common import Plain, accuracy, fit, mlp, outputs, r2, sgd
from torch import nn
from torch.nn import functional as F

OUTPUT = "model.output_mismatch loss.no_learning"
STUCK = "loss.plateau metric.degenerate_predictions gradient.vanishing gradient.missing update.too_small"


def bce(out: Any, y: Any) -> Any:
    return F.binary_cross_entropy(out[:, 0], y.float())


def bce_logits(out: Any, y: Any) -> Any:
    return F.binary_cross_entropy_with_logits(out[:, 0], y.float())


def mse(out: Any, y: Any) -> Any:
    return F.mse_loss(out[:, 0], y)


@case(
    "lightning/softmax-one-unit",
    "model.output_mismatch metric.degenerate_predictions loss.no_learning",
    "output_activation_mismatch",
    also="gradient.vanishing gradient.missing update.too_small weights.frozen",
    about="softmax over one unit is always 1 (StackOverflow 45442843, 42800203)",
)
def softmax_one_unit(watch: Any, fault: bool, seed: int) -> float:
    d = sets.breast_cancer(seed)
    net = nn.Sequential(mlp(30, 32, 1), nn.Softmax(dim=1) if fault else nn.Sigmoid())
    module = fit(Plain(net, bce), d, watch, 25)
    module.net = net[:1] if not fault else net
    return accuracy(module, d)


@case(
    "lightning/relu-negative-targets",
    OUTPUT,
    "output_activation_mismatch dead_units",
    also=STUCK + " activation.dead data.scale",
    about="relu output, targets of mean 0 shifted below it (48251943)",
)
def relu_negative_targets(watch: Any, fault: bool, seed: int) -> float:
    d = sets.regression(seed)
    d = d.with_(y=d.y - 2.5, yv=d.yv - 2.5)
    net = nn.Sequential(mlp(12, 32, 1), nn.ReLU() if fault else nn.Identity())
    return r2(fit(Plain(net, mse), d, watch, 20), d)


@case(
    "lightning/softmax-into-cross-entropy",
    "model.output_mismatch loss.plateau loss.no_learning",
    "output_activation_mismatch loss_function_mismatch",
    also="update.too_small gradient.vanishing",
    about="softmax in the network and again in cross_entropy",
)
def softmax_into_cross_entropy(watch: Any, fault: bool, seed: int) -> float:
    d = sets.digits(seed)
    net = nn.Sequential(mlp(64, 64, 64, 10), nn.Softmax(dim=1) if fault else nn.Identity())
    return accuracy(fit(Plain(net, optimizer=sgd(0.05)), d, watch, 15), d)


@case(
    "lightning/sigmoid-twice",
    "model.output_mismatch metric.degenerate_predictions loss.plateau loss.no_learning",
    "output_activation_mismatch loss_function_mismatch",
    about="sigmoid in the network and again in the loss; thresholded at zero every prediction is one",
)
def sigmoid_twice(watch: Any, fault: bool, seed: int) -> float:
    d = sets.breast_cancer(seed)
    net = nn.Sequential(mlp(30, 32, 1), nn.Sigmoid() if fault else nn.Identity())
    return accuracy(fit(Plain(net, bce_logits), d, watch, 25), d)


@case(
    "lightning/softmax-wrong-axis",
    OUTPUT + " loss.plateau",
    "output_activation_mismatch",
    also=STUCK,
    about="softmax over the batch instead of the classes (TheDeepChecker)",
)
def softmax_wrong_axis(watch: Any, fault: bool, seed: int) -> float:
    d = sets.digits(seed)

    def nll(out: Any, y: Any) -> Any:
        return F.nll_loss(F.log_softmax(out, dim=0 if fault else 1), y)

    module = fit(Plain(mlp(64, 64, 10), nll, sgd(0.1)), d, watch, 15)
    out = torch.from_numpy(outputs(module, d.xv))
    return entropy_skill(torch.softmax(out, dim=0 if fault else 1).numpy(), d.yv)


@case(
    "lightning/relu-on-logits",
    OUTPUT + " activation.dead loss.plateau metric.degenerate_predictions",
    "output_activation_mismatch dead_units",
    also=STUCK,
    about="relu after the last layer of a classifier (TheDeepChecker)",
)
def relu_on_logits(watch: Any, fault: bool, seed: int) -> float:
    d = sets.digits(seed)
    net = nn.Sequential(mlp(64, 64, 10), nn.ReLU() if fault else nn.Identity())
    return accuracy(fit(Plain(net, optimizer=sgd(0.1)), d, watch, 15), d)


@case(
    "lightning/column-against-row",
    OUTPUT + " metric.degenerate_predictions",
    "shape_mismatch loss_function_mismatch",
    also="loss.plateau",
    about="mse_loss of (N, 1) with (N,) compares all with all",
)
def column_against_row(watch: Any, fault: bool, seed: int) -> float:
    d = sets.regression(seed)

    def loss(out: Any, y: Any) -> Any:
        return F.mse_loss(out if fault else out.squeeze(1), y)

    return r2(fit(Plain(mlp(12, 32, 1), loss), d, watch, 20), d)


@case(
    "lightning/tanh-raw-targets",
    OUTPUT + " data.scale activation.saturated",
    "output_activation_mismatch unscaled_targets saturating_activations",
    also=STUCK,
    about="tanh output for targets of 25 to 346",
)
def tanh_raw_targets(watch: Any, fault: bool, seed: int) -> float:
    d = sets.diabetes(seed)
    if fault:
        d = d.with_(y=150 + 75 * d.y, yv=150 + 75 * d.yv)
    net = nn.Sequential(mlp(10, 32, 1), nn.Tanh() if fault else nn.Identity())
    return r2(fit(Plain(net, mse), d, watch, 25), d)


@case(
    "lightning/nll-of-logits",
    "model.output_mismatch loss.divergence",
    "loss_function_mismatch output_activation_mismatch",
    also="gradient.exploding loss.no_learning update.too_large loss.non_finite gradient.non_finite metric.non_finite",
    about="nll_loss without log_softmax: the loss falls without end and nothing is learned well",
)
def nll_of_logits(watch: Any, fault: bool, seed: int) -> float:
    d = sets.digits(seed)

    def nll(out: Any, y: Any) -> Any:
        return F.nll_loss(out if fault else F.log_softmax(out, dim=1), y)

    return accuracy(fit(Plain(mlp(64, 64, 10), nll, sgd(0.1)), d, watch, 12), d)


@case(
    "lightning/labels-one-and-two",
    "data.labels model.output_mismatch",
    "bad_labels loss_function_mismatch",
    also="loss.divergence metric.degenerate_predictions loss.no_learning",
    about="classes named 1 and 2 in a binary loss (59282996)",
)
def labels_one_and_two(watch: Any, fault: bool, seed: int) -> float:
    d = sets.breast_cancer(seed)
    shifted = d.with_(y=d.y + 1, yv=d.yv + 1) if fault else d
    return accuracy(fit(Plain(mlp(30, 32, 1), bce_logits), shifted, watch, 25), shifted if fault else d)


@case(
    "lightning/mse-on-class-number",
    "model.output_mismatch loss.plateau loss.no_learning",
    "loss_function_mismatch",
    also="metric.degenerate_predictions data.scale",
    about="ten unordered classes fitted as one number, rounded (DeepCrime: loss)",
)
def mse_on_class_number(watch: Any, fault: bool, seed: int) -> float:
    d = sets.digits(seed)
    if not fault:
        return accuracy(fit(Plain(mlp(64, 64, 10)), d, watch, 12), d)
    module = fit(Plain(mlp(64, 64, 1), lambda out, y: F.mse_loss(out[:, 0], y.float())), d, watch, 12)
    return accuracy_skill(outputs(module, d.xv)[:, 0].round(), d.yv)
