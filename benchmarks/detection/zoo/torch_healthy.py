"""Plain loops that are healthy, most of them of a kind that detectors are known to alarm on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from benchmarks.detection import data as sets
from benchmarks.detection.program import healthy
from benchmarks.detection.skill import fraction_skill, r2_skill
from benchmarks.detection.zoo.lightning_common import accuracy, loaders, mlp, outputs, r2
from benchmarks.detection.zoo.torch_loops import mse, train
from torch import nn
from torch.nn import functional as F


@healthy("torch/plain-classifier", awkward=False)
def plain_classifier(watch: Any, seed: int) -> float:
    """The loop of the README."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    return accuracy(train(net, torch.optim.Adam(net.parameters(), 1e-3), d, watch, 12), d)


@healthy("torch/plain-regression", awkward=False)
def plain_regression(watch: Any, seed: int) -> float:
    """A regression with SGD and momentum."""
    d = sets.regression(seed)
    net = mlp(12, 32, 1)
    return r2(train(net, torch.optim.SGD(net.parameters(), 0.02, momentum=0.9), d, watch, 15, mse), d)


@healthy("torch/policy-gradient")
def policy_gradient(watch: Any, seed: int) -> float:
    """REINFORCE on a contextual bandit: the loss is no measure of progress and changes its sign."""
    rng = np.random.default_rng(seed)
    best = torch.from_numpy(rng.normal(size=(6, 4)).astype("float32"))
    policy = mlp(6, 32, 4)
    optimizer = torch.optim.Adam(policy.parameters(), 5e-3)
    baseline = 0.0
    with watch.loop(policy, optimizer) as guard:
        for epoch in range(12):
            rewards = []
            for _ in range(40):
                x = torch.randn(32, 6)
                choice = torch.distributions.Categorical(logits=policy(x))
                action = choice.sample()
                reward = ((x @ best).argmax(1) == action).float() + 0.3 * torch.randn(32)
                loss = -(choice.log_prob(action) * (reward - baseline)).mean()
                baseline = 0.95 * baseline + 0.05 * reward.mean().item()
                optimizer.zero_grad()
                loss.backward()
                if guard.step(loss=loss, batch=x):
                    optimizer.step()
                if guard.should_stop:
                    break
                rewards.append(reward.mean().item())
            guard.end_epoch(reward=float(np.mean(rewards)), epoch=epoch)
            if guard.should_stop:
                break
    x = torch.randn(2000, 6)
    hits = (policy(x).argmax(1) == (x @ best).argmax(1)).float().mean().item()
    return fraction_skill(hits, trivial=0.25, perfect=1.0)


@healthy("torch/wasserstein-critic")
def wasserstein(watch: Any, seed: int) -> float:
    """Two networks against each other with weight clipping: losses drift without bound and without harm."""
    real_at = torch.tensor([2.0, -1.5])
    made, critic = mlp(4, 32, 2), mlp(2, 32, 1)
    of_made = torch.optim.RMSprop(made.parameters(), 1e-3)
    of_critic = torch.optim.RMSprop(critic.parameters(), 1e-3)
    both = nn.ModuleList([made, critic])
    with watch.loop(both, [of_made, of_critic]) as guard:
        for _ in range(12):
            for _ in range(60):
                real = real_at + 0.5 * torch.randn(64, 2)
                fake = made(torch.randn(64, 4))
                of_critic.zero_grad()
                (critic(fake.detach()).mean() - critic(real).mean()).backward()
                of_critic.step()
                with torch.no_grad():
                    for p in critic.parameters():
                        p.clamp_(-0.1, 0.1)
                of_made.zero_grad()
                loss = -critic(made(torch.randn(64, 4))).mean()
                loss.backward()
                if guard.step(loss=loss):
                    of_made.step()
                if guard.should_stop:
                    break
            guard.end_epoch()
            if guard.should_stop:
                break
    off = (made(torch.randn(2000, 4)).mean(0) - real_at).abs().sum().item()
    return fraction_skill(off, 3.5)


@healthy("torch/accumulated-by-hand")
def accumulated_by_hand(watch: Any, seed: int) -> float:
    """Gradients of four batches are added up on purpose before each update."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    training, validation = loaders(d, 8)
    with watch.loop(net, optimizer) as guard:
        for _ in range(6):
            for i, (x, y) in enumerate(training):
                loss = F.cross_entropy(net(x), y)
                (loss / 4).backward()
                if i % 4 == 3:
                    if guard.step(loss=loss, batch=(x, y)):
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


@healthy("torch/layer-by-layer-thaw")
def gradual_thaw(watch: Any, seed: int) -> float:
    """A trained body is frozen for some epochs, then thawed with a lower rate."""
    d = sets.digits(seed)
    body, head = nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 10)
    first = nn.Sequential(body, nn.Linear(64, 10))
    before = torch.optim.Adam(first.parameters(), 2e-3)
    for _ in range(4):
        for x, y in loaders(d)[0]:
            before.zero_grad()
            F.cross_entropy(first(x), y).backward()
            before.step()
    net = nn.Sequential(body, head)
    optimizer = torch.optim.Adam([{"params": body.parameters(), "lr": 3e-4}, {"params": head.parameters(), "lr": 2e-3}])
    training, validation = loaders(d)
    with watch.loop(net, optimizer) as guard:
        for epoch in range(10):
            body.requires_grad_(epoch >= 4)
            for x, y in training:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
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


@healthy("torch/large-losses")
def large_losses(watch: Any, seed: int) -> float:
    """A summed loss of about 1e5 with a rate that fits it."""
    d = sets.regression(seed)
    net = mlp(12, 32, 1)

    def summed(out: Any, y: Any) -> Any:
        return 1e4 * F.mse_loss(out[:, 0], y, reduction="sum")

    return r2(train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 15, summed), d)


@healthy("torch/noisy-single-rows")
def single_rows(watch: Any, seed: int) -> float:
    """Batches of one row and a noisy target."""
    d = sets.regression(seed, 800, noise=0.5)
    net = mlp(12, 16, 1)
    return r2(train(net, torch.optim.SGD(net.parameters(), 0.005), d, watch, 3, mse, batch=1), d)


@healthy("torch/two-plateaus")
def two_plateaus(watch: Any, seed: int) -> float:
    """A rate that is cut by ten twice: the loss falls in steps."""
    d = sets.digits(seed)
    net = mlp(64, 64, 10)
    optimizer = torch.optim.SGD(net.parameters(), 0.2)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 10], gamma=0.1)
    training, validation = loaders(d)
    with watch.loop(net, optimizer) as guard:
        for _ in range(14):
            net.train()
            for x, y in training:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                if guard.step(loss=loss, batch=(x, y)):
                    optimizer.step()
                if guard.should_stop:
                    break
            scheduler.step()
            net.eval()
            with torch.no_grad():
                losses = [F.cross_entropy(net(x), y).item() for x, y in validation]
            guard.end_epoch(val_loss=sum(losses) / len(losses))
            if guard.should_stop:
                break
    return accuracy(net, d)


@healthy("torch/poisson-counts")
def poisson_counts(watch: Any, seed: int) -> float:
    """Counts with a Poisson likelihood, whose loss may be negative and never reaches zero."""
    d = sets.regression(seed, 1600)
    rng = np.random.default_rng(seed)
    rate, rate_v = np.exp(1 + 0.8 * d.y), np.exp(1 + 0.8 * d.yv)
    d = d.with_(y=rng.poisson(rate).astype("float32"), yv=rate_v.astype("float32"))
    net = mlp(12, 32, 1)

    def loss(out: Any, y: Any) -> Any:
        return F.poisson_nll_loss(out[:, 0], y)

    train(net, torch.optim.Adam(net.parameters(), 3e-3), d, watch, 15, loss)
    return r2_skill(outputs(net, d.xv)[:, 0], np.log(d.yv))
