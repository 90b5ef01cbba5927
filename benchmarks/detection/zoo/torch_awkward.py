"""Plain loops that are healthy and look like a fault, written while rules were worked on.

See :mod:`benchmarks.detection.zoo.lightning_awkward`. All belong to the calibration half.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import healthy as register
from benchmarks.detection.skill import fraction_skill
from benchmarks.detection.zoo.lightning_common import accuracy, loaders, mlp, outputs, r2
from benchmarks.detection.zoo.torch_loops import mse, train
from torch import nn
from torch.nn import functional as F

healthy = partial(register, worked_on=True)


@healthy("torch/two-players")
def two_players(watch: Any, seed: int) -> float:
    """Generator and discriminator with optimizers of their own; the losses stay at the guess."""
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
                out = critic(made(torch.randn(64, 4)))
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


@healthy("torch/maximized-return")
def maximized_return(watch: Any, seed: int) -> float:
    """maximize=True with an objective that is to grow, by policy gradients: the value is noisy and rises."""
    rng = np.random.default_rng(seed)
    best = torch.from_numpy(rng.normal(size=(6, 3)).astype("float32"))
    policy = mlp(6, 32, 3)
    optimizer = torch.optim.Adam(policy.parameters(), 5e-3, maximize=True)
    with watch.loop(policy, optimizer) as guard:
        for _ in range(10):
            for _ in range(40):
                x = torch.randn(64, 6)
                choice = torch.distributions.Categorical(logits=policy(x))
                action = choice.sample()
                reward = ((x @ best).argmax(1) == action).float() - 0.4
                objective = (choice.log_prob(action) * reward).mean()
                optimizer.zero_grad()
                objective.backward()
                if guard.step(loss=objective, batch=x):
                    optimizer.step()
                if guard.should_stop:
                    break
            guard.end_epoch()
            if guard.should_stop:
                break
    x = torch.randn(2000, 6)
    hits = (policy(x).argmax(1) == (x @ best).argmax(1)).float().mean().item()
    return fraction_skill(hits, trivial=1 / 3, perfect=1.0)


@healthy("torch/small-batches-of-noise")
def small_batches(watch: Any, seed: int) -> float:
    """Batches of four and a target of which four tenths are noise."""
    d = sets.regression(seed, noise=0.8)
    net = mlp(12, 16, 1)
    return r2(train(net, torch.optim.SGD(net.parameters(), 5e-3), d, watch, 6, mse, batch=4), d) / 0.6


@healthy("torch/accumulated-and-divided")
def accumulated(watch: Any, seed: int) -> float:
    """The loss is divided by eight, gradients of eight batches are added up, and then cleared."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    optimizer = torch.optim.AdamW(net.parameters(), 5e-3)
    training, validation = loaders(d, 8)
    with watch.loop(net, optimizer) as guard:
        for _ in range(8):
            for i, (x, y) in enumerate(training):
                loss = F.cross_entropy(net(x), y) / 8
                loss.backward()
                apply = guard.step(loss=loss, batch=(x, y))
                if (i + 1) % 8 == 0:
                    if apply:
                        optimizer.step()
                    optimizer.zero_grad()
                if guard.should_stop:
                    break
            with torch.no_grad():
                losses = [F.cross_entropy(net(x), y).item() for x, y in validation]
            guard.end_epoch(val_loss=sum(losses) / len(losses))
            if guard.should_stop:
                break
    return accuracy(net, d)


@healthy("torch/head-on-a-fixed-body")
def head_on_a_fixed_body(watch: Any, seed: int) -> float:
    """The body keeps random weights and asks for no gradients; only the head is in the optimizer, on purpose."""
    d = sets.digits(seed)
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    for p in net[0].parameters():
        p.requires_grad_(False)
    optimizer = torch.optim.Adam(net[2].parameters(), 3e-3)
    return accuracy(train(net, optimizer, d, watch, 10), d)


@healthy("torch/expected-accuracy")
def expected_accuracy(watch: Any, seed: int) -> float:
    """The mean of one minus the probability of the right class: a product of a distribution and a softmax."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)

    def missed(z: Any, y: Any) -> Any:
        right = F.one_hot(y, 10).float()
        return (right - right * torch.softmax(z, 1)).sum(1).mean()

    return accuracy(train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 12, missed), d)


@healthy("torch/drawn-with-replacement")
def drawn_with_replacement(watch: Any, seed: int) -> float:
    """Rows are drawn with replacement, rare classes more often: rows repeat, batches do not."""
    d = sets.blobs(seed, 1600, classes=4)
    rng = np.random.default_rng(seed)
    kept = np.flatnonzero((d.y != 2) | (rng.random(len(d.y)) < 0.1))
    d = d.with_(x=d.x[kept], y=d.y[kept])
    weight = 1.0 / np.bincount(d.y)[d.y]
    drawn = rng.choice(len(d.y), 1200, p=weight / weight.sum())
    d = d.with_(x=d.x[drawn], y=d.y[drawn])
    net = mlp(20, 32, 4)
    return accuracy(train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 10), d)


@healthy("torch/few-batches-again-and-again")
def few_batches(watch: Any, seed: int) -> float:
    """Four batches an epoch in the same order, as in a trial of a model on little data."""
    d = sets.blobs(seed, 170, classes=3, spread=1.0)
    net = mlp(20, 16, 3)
    return accuracy(train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 40, shuffle=False), d)


@healthy("torch/ranking-loss")
def ranking_loss(watch: Any, seed: int) -> float:
    """Pairs by a margin: the loss starts at the margin and most pairs soon give none."""
    d = sets.regression(seed)
    net = mlp(12, 32, 1)

    def margin(z: Any, y: Any) -> Any:
        other = torch.roll(torch.arange(len(y)), 1)
        return F.margin_ranking_loss(z[:, 0], z[other, 0], torch.sign(y - y[other]), margin=0.5)

    train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 12, margin)
    ranks = [np.argsort(np.argsort(v)) for v in (outputs(net, d.xv)[:, 0], d.yv)]
    return float(np.corrcoef(*ranks)[0, 1])
