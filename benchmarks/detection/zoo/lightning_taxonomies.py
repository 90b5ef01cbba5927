"""Lightning programs with further faults of the published taxonomies, written while rules were worked on.

Humbatova et al. 2020 (*Taxonomy of Real Faults in Deep Learning Systems*), Islam et al. 2019, DeepFD, AUTOTRAINER,
DeepLocalize, UMLAUT, TheDeepChecker, NeuraLint. All belong to the calibration half.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.skill import accuracy_skill, entropy_skill
from benchmarks.detection.zoo.lightning_common import Plain, accuracy, adam, entropy, fit, mlp, outputs, r2, sgd
from benchmarks.detection.zoo.lightning_output import mse
from torch import nn
from torch.nn import functional as F

fault_case = partial(case, worked_on=True)
STUCK = "loss.no_learning loss.plateau metric.degenerate_predictions"
STILL = "weights.frozen update.too_small gradient.vanishing gradient.missing"


@fault_case(
    "lightning/two-sigmoids",
    "model.output_mismatch",
    "output_activation_mismatch loss_function_mismatch",
    also=STUCK + " gradient.vanishing update.too_small",
)
def two_sigmoids(watch: Any, fault: bool, seed: int) -> float:
    """The model ends in a sigmoid and training applies another before binary_cross_entropy (UMLAUT, NeuraLint)."""
    d = sets.breast_cancer(seed)
    d = d.with_(y=d.y.astype("float32"), yv=d.yv.astype("float32"))
    net = nn.Sequential(*mlp(30, 16, 1), *([nn.Sigmoid()] if fault else []))
    module = fit(Plain(net, lambda z, y: F.binary_cross_entropy(torch.sigmoid(z[:, 0]), y)), d, watch, 20)
    p = outputs(module, d.xv)[:, 0]
    return entropy_skill(1 / (1 + np.exp(-p)), d.yv)


@fault_case(
    "lightning/two-softmaxes",
    "model.output_mismatch",
    "output_activation_mismatch loss_function_mismatch",
    also=STUCK + " gradient.vanishing update.too_small",
)
def two_softmaxes(watch: Any, fault: bool, seed: int) -> float:
    """A softmax in the model, another in the step, then the logarithm and nll_loss (NeuraLint)."""
    d = sets.digits(seed)
    net = nn.Sequential(*mlp(64, 64, 10), *([nn.Softmax(1)] if fault else []))
    module = fit(Plain(net, lambda z, y: F.nll_loss(torch.log(torch.softmax(z, 1)), y)), d, watch, 10)
    return entropy(module, d)


@fault_case(
    "lightning/absolute-error-of-class-numbers",
    "model.output_mismatch",
    "loss_function_mismatch",
    also=STUCK + " loss.oscillation data.scale",
)
def absolute_error_of_class_numbers(watch: Any, fault: bool, seed: int) -> float:
    """One output is to be the number of the class, by an absolute error (DeepFD, NeuraLint)."""
    d = sets.blobs(seed, 1600, classes=8, spread=1.2)
    if not fault:
        return accuracy(fit(Plain(mlp(20, 48, 8), optimizer=adam(3e-3)), d, watch, 12), d)
    module = Plain(mlp(20, 48, 1), lambda z, y: F.l1_loss(z[:, 0], y.float()), adam(3e-3))
    fit(module, d, watch, 12)
    return accuracy_skill(np.clip(np.round(outputs(module, d.xv)[:, 0]), 0, 7), d.yv)


class FromANumber(Plain):
    """The loss is taken out of the graph and made a tensor again."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("train_loss", loss)
        return torch.tensor(loss.item(), requires_grad=True)


@fault_case(
    "lightning/loss-from-a-number",
    "gradient.missing loss.no_learning weights.frozen",
    "detached_graph",
    also=STUCK + " activation.dead " + STILL,
)
def loss_from_a_number(watch: Any, fault: bool, seed: int) -> float:
    """torch.tensor(loss.item(), requires_grad=True): backward runs and reaches nothing (Humbatova: loss function)."""
    d = sets.digits(seed)
    module = (FromANumber if fault else Plain)(mlp(64, 64, 10))
    return accuracy(fit(module, d, watch, 8), d)


class Copied(Plain):
    """The optimizer gets the parameters of a copy."""

    def configure_optimizers(self) -> Any:
        from copy import deepcopy

        return self.make_optimizer(deepcopy(self.net).parameters())


@fault_case(
    "lightning/optimizer-of-a-copy",
    "gradient.missing loss.no_learning weights.frozen",
    "parameters_not_in_optimizer",
    also=STUCK + " activation.dead " + STILL,
)
def optimizer_of_a_copy(watch: Any, fault: bool, seed: int) -> float:
    """The optimizer was given the parameters of a copy of the model (Islam: API misuse)."""
    d = sets.digits(seed)
    return accuracy(fit((Copied if fault else Plain)(mlp(64, 64, 10)), d, watch, 10), d)


class Scheduled(Plain):
    """A schedule that is stepped by the batch."""

    warm_up_steps = 40

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / self.warm_up_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


@fault_case(
    "lightning/warm-up-without-end",
    "loss.no_learning update.too_small",
    "learning_rate_too_low",
    also="loss.plateau gradient.vanishing",
)
def warm_up_without_end(watch: Any, fault: bool, seed: int) -> float:
    """A warm-up of two million steps in a run of 336 (Humbatova: learning rate)."""
    d = sets.digits(seed)
    module = Scheduled(mlp(64, 64, 10), optimizer=sgd(0.2))
    module.warm_up_steps = 2_000_000 if fault else 40
    return accuracy(fit(module, d, watch, 8), d)


class Halving(Plain):
    """Lowers the rate when validation does not get better."""

    wrong_way = False

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        rate = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max" if self.wrong_way else "min", factor=0.1, patience=0
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "monitor": "val_loss"}}


@fault_case(
    "lightning/monitored-the-wrong-way",
    "loss.plateau loss.no_learning update.too_small weights.frozen",
    "learning_rate_too_low",
    also="gradient.vanishing",
)
def monitored_the_wrong_way(watch: Any, fault: bool, seed: int) -> float:
    """ReduceLROnPlateau with mode='max' on a loss: each epoch that gets better lowers the rate (TheDeepChecker)."""
    d = sets.digits(seed)
    module = Halving(mlp(64, 64, 10), optimizer=sgd(0.01))
    module.wrong_way = fault
    return accuracy(fit(module, d, watch, 24), d)


@fault_case(
    "lightning/no-activation-between",
    "model.no_nonlinearity",
    "missing_nonlinearity",
    also=STUCK,
)
def no_activation_between(watch: Any, fault: bool, seed: int) -> float:
    """Linear layers follow each other directly: all of them are one linear map (NeuraLint, TheDeepChecker)."""
    d = sets.spirals(seed)
    act = nn.Identity if fault else nn.ReLU
    return accuracy(fit(Plain(mlp(2, 64, 64, 2, act=act), optimizer=adam(1e-2)), d, watch, 40), d)


@fault_case(
    "lightning/augmentation-destroys",
    "loss.no_learning metric.overfitting",
    "no_signal",
    also="metric.degenerate_predictions loss.plateau data.drift",
)
def augmentation_destroys(watch: Any, fault: bool, seed: int) -> float:
    """Augmentation shuffles the pixels of each image anew, so nothing is left of it (Humbatova: preprocessing)."""
    d = sets.digits(seed)

    class Augmented(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            if fault:
                x = torch.gather(x, 1, torch.argsort(torch.rand_like(x), dim=1))
            return super().training_step((x, y), batch_idx)

    return accuracy(fit(Augmented(mlp(64, 64, 10)), d, watch, 15), d)


@fault_case(
    "lightning/noise-drowns-inputs",
    "loss.no_learning metric.overfitting",
    "no_signal",
    also="metric.degenerate_predictions loss.plateau",
)
def noise_drowns_inputs(watch: Any, fault: bool, seed: int) -> float:
    """A sensor whose noise is twelve times its signal (DeepCrime: noise; DeepFD)."""
    d = sets.digits(seed)
    if fault:
        rng = np.random.default_rng(seed)
        d = d.with_(x=d.x + 12 * 0.3 * rng.normal(size=d.x.shape).astype("float32"))
        d = d.with_(xv=d.xv + 12 * 0.3 * rng.normal(size=d.xv.shape).astype("float32"))
    return accuracy(fit(Plain(mlp(64, 64, 10)), d, watch, 12), d)


@fault_case(
    "lightning/pixels-divided-as-integers",
    "data.constant_feature",
    "constant_inputs",
    also=STUCK + " activation.dead " + STILL,
)
def pixels_divided_as_integers(watch: Any, fault: bool, seed: int) -> float:
    """uint8 pixels // 255 are all zero (Humbatova: preprocessing)."""
    d = sets.digits(seed, raw=True)
    scaled = [(0.99 * x).astype("uint8") // 255 if fault else x / 255 for x in (d.x, d.xv)]
    d = d.with_(x=scaled[0].astype("float32"), xv=scaled[1].astype("float32"))
    return accuracy(fit(Plain(mlp(64, 64, 10)), d, watch, 10), d)


@fault_case(
    "lightning/normalised-over-the-wrong-axis",
    "data.constant_feature",
    "constant_inputs",
    also=STUCK + " activation.dead " + STILL + " data.scale",
)
def normalised_over_the_wrong_axis(watch: Any, fault: bool, seed: int) -> float:
    """Rows with one feature are standardised by row instead of by column, which leaves zeros (DeepFD)."""
    d = sets.sine(seed)
    axis = 1 if fault else 0
    x, xv = ((x - x.mean(axis, keepdims=True)) / (x.std(axis, keepdims=True) + 1e-6) for x in (d.x, d.xv))
    return r2(fit(Plain(mlp(1, 32, 32, 1), mse, adam(1e-2)), d.with_(x=x, xv=xv), watch, 15), d.with_(x=x, xv=xv))


@fault_case(
    "lightning/validation-labels-shuffled",
    "metric.overfitting data.drift",
    "train_validation_mismatch",
    also="loss.divergence",
)
def validation_labels_shuffled(watch: Any, fault: bool, seed: int) -> float:
    """The rows of the validation split were shuffled without their labels (TheDeepChecker, on one split)."""
    d = sets.digits(seed)
    if fault:
        d = d.with_(yv=np.random.default_rng(seed).permutation(d.yv))
    return accuracy(fit(Plain(mlp(64, 64, 10), optimizer=adam(3e-3)), d, watch, 15), d)


@fault_case(
    "lightning/statistics-never-arrive",
    "metric.overfitting data.drift",
    "train_validation_mismatch",
    also="loss.divergence loss.oscillation model.wrong_mode",
)
def statistics_never_arrive(watch: Any, fault: bool, seed: int) -> float:
    """BatchNorm(momentum=1e-4), meant the Keras way: evaluation sees the first statistics (Humbatova: layers)."""
    d = sets.breast_cancer(seed, raw=True)
    momentum = 1e-4 if fault else 0.1
    net = nn.Sequential(
        nn.BatchNorm1d(30, momentum=momentum),
        nn.Linear(30, 32),
        nn.BatchNorm1d(32, momentum=momentum),
        nn.ReLU(),
        nn.Linear(32, 2),
    )
    return accuracy(fit(Plain(net, optimizer=adam(3e-3)), d, watch, 15), d)


class Recurrent(nn.Module):
    """A plain recurrent net."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, 48, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(48, 2)
        with torch.no_grad():
            self.rnn.weight_hh_l0.copy_(gain * torch.eye(48))

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(x)[0][:, -1])


@fault_case(
    "lightning/recurrent-weights-too-large",
    "gradient.exploding loss.divergence loss.non_finite gradient.non_finite loss.spike",
    "bad_initialization missing_gradient_clipping learning_rate_too_high",
    also="weights.non_finite update.too_large loss.no_learning metric.non_finite loss.oscillation "
    "metric.degenerate_predictions activation.dead loss.plateau",
)
def recurrent_weights_too_large(watch: Any, fault: bool, seed: int) -> float:
    """A ReLU recurrent net whose recurrent weights grow the state 1.6-fold at each of 20 positions (AUTOTRAINER)."""
    d = sets.sequences(seed)
    return accuracy(fit(Plain(Recurrent(1.6 if fault else 0.9), optimizer=sgd(0.05)), d, watch, 15), d)


@fault_case(
    "lightning/loss-times-zero",
    "loss.no_learning weights.frozen gradient.vanishing gradient.missing",
    "detached_graph",
    also=STUCK + " activation.dead " + STILL,
)
def loss_times_zero(watch: Any, fault: bool, seed: int) -> float:
    """The weight of the only loss is 0, left from a schedule of loss weights (Humbatova: loss function)."""
    d = sets.digits(seed)
    weight = 0.0 if fault else 1.0
    return accuracy(fit(Plain(mlp(64, 64, 10), lambda z, y: weight * F.cross_entropy(z, y)), d, watch, 8), d)
