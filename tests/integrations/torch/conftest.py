"""A small loop for tests."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional


def make_model(dropout=0.2, norm=True):
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(8, 16),
        nn.BatchNorm1d(16) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(16, 3),
    )


def make_batches(n=8, size=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n * size, 8, generator=g)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    return list(zip(x.split(size), y.split(size), strict=True))


def train(guard, model, optimizer, *, batches=None, epochs=2, loss_of=None, val=None, scheduler=None):
    """Train, with a guard or without. Returns the losses of the steps that were run."""
    losses = []
    batches = make_batches() if batches is None else batches
    for epoch in range(epochs):
        for batch in batches:
            optimizer.zero_grad()
            x, y = batch
            loss = F.cross_entropy(model(x), y) if loss_of is None else loss_of(model, batch, len(losses))
            loss.backward()
            losses.append(float(loss.detach()))
            if guard is None:
                optimizer.step()
                continue
            if guard.step(loss=loss, batch=batch):
                optimizer.step()
            if guard.should_stop:
                break
        if guard is not None:
            guard.end_epoch(**({} if val is None else {"val_loss": val(epoch)}))
            if guard.should_stop:
                break
    return losses


@pytest.fixture
def kit():
    from failguard.torch import FailGuard

    def guard(model, optimizer, scaler=None, **kwargs):
        return FailGuard(model, optimizer, scaler, **{"sinks": [], "resources": False, **kwargs})

    return SimpleNamespace(model=make_model, batches=make_batches, train=train, guard=guard, FailGuard=FailGuard)
