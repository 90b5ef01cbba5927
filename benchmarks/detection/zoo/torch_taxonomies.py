"""Plain loops with further faults of the published taxonomies, written while rules were worked on.

See :mod:`benchmarks.detection.zoo.lightning_taxonomies`. All belong to the calibration half.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.skill import accuracy_skill, fraction_skill
from benchmarks.detection.zoo.lightning_common import accuracy, loaders, mlp, outputs, r2
from benchmarks.detection.zoo.torch_loops import BLOWN, WAKE, mse, train
from torch import nn
from torch.nn import functional as F

fault_case = partial(case, worked_on=True)
STUCK = "loss.no_learning loss.plateau metric.degenerate_predictions"
STILL = "weights.frozen update.too_small gradient.vanishing gradient.missing"


@fault_case(
    "torch/divergence-of-probabilities",
    "model.output_mismatch",
    "loss_function_mismatch output_activation_mismatch",
    also=STUCK + " update.too_small gradient.vanishing loss.divergence metric.overfitting",
)
def divergence_of_probabilities(watch: Any, fault: bool, seed: int) -> float:
    """F.kl_div takes log-probabilities and is given probabilities (Islam: API misuse)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1600, 12)).astype("float32")
    shares = np.exp(x @ rng.normal(size=(12, 5)) / 4)
    shares = (shares / shares.sum(1, keepdims=True)).astype("float32")
    d = sets.Split(x[:1200], shares[:1200], x[1200:], shares[1200:])
    net = mlp(12, 32, 5)

    def loss(z: Any, y: Any) -> Any:
        return F.kl_div(torch.softmax(z, 1) if fault else torch.log_softmax(z, 1), y, reduction="batchmean")

    train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 12, loss)
    log_p = torch.log_softmax(torch.from_numpy(outputs(net, d.xv)), 1).numpy()
    own = (d.yv * (np.log(d.yv) - log_p)).sum(1).mean()
    return fraction_skill(own, float((d.yv * (np.log(d.yv) - np.log(d.y.mean(0)))).sum(1).mean()))


@fault_case(
    "torch/sigmoid-into-logits-loss",
    "model.output_mismatch",
    "output_activation_mismatch loss_function_mismatch",
    also=STUCK + " update.too_small gradient.vanishing",
)
def sigmoid_into_logits_loss(watch: Any, fault: bool, seed: int) -> float:
    """A model that ends in a sigmoid and binary_cross_entropy_with_logits, over twelve labels (NeuraLint)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1200, 20)).astype("float32")
    y = (x @ rng.normal(size=(20, 12)) > 2.0).astype("float32")
    d = sets.Split(x[:900], y[:900], x[900:], y[900:])
    net = nn.Sequential(*mlp(20, 48, 12), *([nn.Sigmoid()] if fault else []))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    train(net, optimizer, d, watch, 15, F.binary_cross_entropy_with_logits)
    p = 1 / (1 + np.exp(-outputs(net, d.xv)))
    p = np.clip(p, 1e-6, 1 - 1e-6)
    shares = d.yv.mean(0)
    losses = [-np.mean(d.yv * np.log(q) + (1 - d.yv) * np.log(1 - q)) for q in (p, shares)]
    return fraction_skill(*losses)


@fault_case(
    "torch/cleared-before-step",
    "gradient.missing weights.frozen loss.no_learning",
    "gradients_cleared_early",
    also=STUCK + " " + STILL,
)
def cleared_before_step(watch: Any, fault: bool, seed: int) -> float:
    """zero_grad() between backward() and step(): each update has nothing to work with (Islam: API misuse)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    training, validation = loaders(d)
    with watch.loop(net, optimizer) as guard:
        for _ in range(8):
            for x, y in training:
                if not fault:
                    optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                if fault:
                    optimizer.zero_grad()
                if guard.step(loss=loss, batch=(x, y)):
                    optimizer.step()
                if guard.should_stop:
                    break
            with torch.no_grad():
                losses = [F.cross_entropy(net(x), y).item() for x, y in validation]
            guard.end_epoch(val_loss=sum(losses) / len(losses))
            if guard.should_stop:
                break
    return accuracy(net, d)


@fault_case(
    "torch/optimizer-maximizes",
    "model.output_mismatch loss.divergence",
    "loss_function_mismatch",
    also=BLOWN + " " + WAKE,
)
def optimizer_maximizes(watch: Any, fault: bool, seed: int) -> float:
    """maximize=True was left from another experiment (TheDeepChecker: flipped sign)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    return accuracy(train(net, torch.optim.SGD(net.parameters(), 0.02, maximize=fault), d, watch, 12), d)


@fault_case(
    "torch/model-made-anew",
    "gradient.missing weights.frozen loss.no_learning",
    "parameters_not_in_optimizer",
    also=STUCK + " " + STILL,
)
def model_made_anew(watch: Any, fault: bool, seed: int) -> float:
    """The optimizer belongs to the model of the trial before (Islam: API misuse)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    if fault:
        net = mlp(64, 64, 10)
    return accuracy(train(net, optimizer, d, watch, 8), d)


@fault_case(
    "torch/clipped-by-value-to-nothing",
    "loss.no_learning update.too_small",
    "learning_rate_too_low",
    also="loss.plateau gradient.vanishing weights.frozen",
)
def clipped_to_nothing(watch: Any, fault: bool, seed: int) -> float:
    """clip_grad_value_(1e-6) in the loop under SGD (DeepCrime: clipping)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for p in net.parameters():
        p.register_hook(lambda g: g.clamp(-1e-6, 1e-6) if fault else g)
    return accuracy(train(net, optimizer, d, watch, 12), d)


@fault_case(
    "torch/workers-share-a-seed",
    "data.repeated_batch",
    "shared_random_state",
    also="metric.overfitting loss.plateau loss.no_learning",
)
def workers_share_a_seed(watch: Any, fault: bool, seed: int) -> float:
    """Four workers draw training rows with one seed, so that batches come four times each (67180955)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, 30))

    def drawn(n: int, generator: Any) -> tuple[Any, Any]:
        y = generator.integers(0, 6, n)
        return (centres[y] + 2.0 * generator.normal(size=(n, 30))).astype("float32"), y.astype("int64")

    draws = [(seed, i, 0 if fault else worker) for i in range(8) for worker in range(4)]
    parts = [drawn(16, np.random.default_rng(draw)) for draw in draws]
    x, y = (np.concatenate(p) for p in zip(*parts, strict=True))
    xv, yv = drawn(500, np.random.default_rng((seed, 99)))
    d = sets.Split(x, y, xv, yv)
    net = mlp(30, 32, 6)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    return accuracy(train(net, optimizer, d, watch, 5, batch=16, shuffle=False), d)


@fault_case(
    "torch/huber-of-class-numbers",
    "model.output_mismatch",
    "loss_function_mismatch",
    also=STUCK + " loss.oscillation data.scale",
)
def huber_of_class_numbers(watch: Any, fault: bool, seed: int) -> float:
    """A robust regression on labels of 0 to 9 of images, one output (DeepFD, NeuraLint)."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10 if not fault else 1)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    if not fault:
        return accuracy(train(net, optimizer, d, watch, 8), d)
    train(net, optimizer, d, watch, 8, lambda z, y: F.huber_loss(z[:, 0], y.float()))
    return accuracy_skill(np.clip(np.round(outputs(net, d.xv)[:, 0]), 0, 9), d.yv)


@fault_case(
    "torch/targets-on-another-scale-in-validation",
    "metric.overfitting data.drift loss.no_learning",
    "train_validation_mismatch",
    also="loss.divergence",
)
def targets_on_another_scale(watch: Any, fault: bool, seed: int) -> float:
    """Training targets are standardised, validation targets are in their units (Humbatova: preprocessing)."""
    d = sets.regression(seed)
    if fault:
        d = d.with_(yv=12.0 * d.yv + 40.0)
    net = mlp(12, 32, 1)
    return r2(train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 15, mse), d)


@fault_case(
    "torch/generator-detached",
    "gradient.missing weights.frozen",
    "detached_graph",
    also=STUCK + " " + STILL + " loss.divergence",
)
def generator_detached(watch: Any, fault: bool, seed: int) -> float:
    """The generator's loss is computed from detached samples: its optimizer steps without a gradient."""
    made, critic = mlp(4, 32, 2), mlp(2, 32, 1)
    at = torch.tensor([1.5, -1.0])
    of_made, of_critic = torch.optim.Adam(made.parameters(), 2e-3), torch.optim.Adam(critic.parameters(), 1e-3)
    loss = F.binary_cross_entropy_with_logits
    with watch.loop(nn.ModuleList([made, critic]), [of_made, of_critic]) as guard:
        for _ in range(12):
            for _ in range(50):
                real, fake = at + 0.6 * torch.randn(64, 2), made(torch.randn(64, 4))
                of_critic.zero_grad()
                on_real, on_fake = critic(real), critic(fake.detach())
                (loss(on_real, torch.ones_like(on_real)) + loss(on_fake, torch.zeros_like(on_fake))).backward()
                of_critic.step()
                of_made.zero_grad()
                out = critic(fake.detach() if fault else fake)
                fooled = loss(out, torch.ones_like(out))
                fooled.backward()
                if guard.step(loss=fooled):
                    of_made.step()
                if guard.should_stop:
                    break
            guard.end_epoch()
            if guard.should_stop:
                break
    off = (made(torch.randn(2000, 4)).mean(0) - at).abs().sum().item()
    return fraction_skill(off, 2.5)


@fault_case("torch/one-absurd-value", "data.outliers", "corrupted_batch", also=BLOWN + " " + WAKE)
def one_absurd_value(watch: Any, fault: bool, seed: int) -> float:
    """A single value of a row in the middle of an epoch is a sentinel of 1e7; the loss is finite there."""
    d = sets.regression(seed)
    if fault:
        x = d.x.copy()
        x[len(x) * 3 // 4, 3] = 1e7
        d = d.with_(x=x)
    net = mlp(12, 32, 1)
    return r2(train(net, torch.optim.SGD(net.parameters(), 0.02), d, watch, 15, mse, shuffle=False), d)


@fault_case("torch/softmax-over-samples", "model.output_mismatch", "output_activation_mismatch", also=STUCK)
def softmax_over_samples(watch: Any, fault: bool, seed: int) -> float:
    """softmax(dim=0) below log(p + 1e-9) and nll_loss; the model is used for one sample at a time."""
    d = sets.digits(seed)

    def loss(z: Any, y: Any) -> Any:
        return F.nll_loss(torch.log(torch.softmax(z, 0 if fault else 1) + 1e-9), y)

    net = mlp(64, 48, 10)
    train(net, torch.optim.Adam(net.parameters(), 2e-3), d, watch, 12, loss)
    with torch.no_grad():
        p = torch.cat([torch.softmax(z[None], 0 if fault else 1) for z in net(torch.from_numpy(d.xv))]).numpy()
    return accuracy_skill(p.argmax(1), d.yv)
