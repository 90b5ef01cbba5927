"""What a real loop takes of the machine: leaks, caches, loaders that sleep and workers that hang."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from failguard.core.finding import Finding
from failguard.detectors.resource_input_bound import ResourceInputBound
from failguard.detectors.resource_memory_growth import ResourceMemoryGrowth
from failguard.detectors.run_hang import RunHang
from failguard.resources import ResourceLimits
from failguard.torch import FailGuard

pytestmark = pytest.mark.framework

STEPS = 100  # an epoch


def finding(guard: FailGuard, code: str) -> Finding | None:
    return next((f for f in guard.report.findings if f.code == code), None)


class Loop:
    """A small regression, four epochs of 100 steps. ``keep`` is called with the loss of each step."""

    def __init__(self, width: int = 64) -> None:
        self.model = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)

    def run(self, loader: Any, keep: Any = lambda loss, epoch, i: None, epochs: int = 4, **keywords: Any) -> FailGuard:
        with FailGuard(self.model, self.optimizer, sinks=[], **keywords) as guard:
            for epoch in range(epochs):
                for i, (x, y) in enumerate(loader):
                    self.optimizer.zero_grad()
                    loss = nn.functional.mse_loss(self.model(x), y)
                    loss.backward(retain_graph=True)
                    if guard.step(loss=loss, batch=(x, y)):
                        self.optimizer.step()
                    keep(loss, epoch, i)
                guard.end_epoch(val_loss=1.0 / (epoch + 1))
        return guard


def batches(rows: int, width: int = 64) -> Any:
    """Batches that are made anew each time, as a loader makes them."""
    for _ in range(STEPS):
        yield torch.randn(rows, width), torch.randn(rows, 1)


class Batches:
    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return batches(self.rows)


def test_losses_kept_with_their_history_are_found() -> None:
    kept = []
    # Two activations of 512 x 128 floats a step: half a megabyte.
    guard = Loop().run(
        Batches(512), lambda loss, epoch, i: kept.append(loss), detectors=[ResourceMemoryGrowth(least_bytes=40e6)]
    )
    found = finding(guard, "resource.memory_growth")
    assert found is not None
    assert 2e5 < found.evidence["bytes_per_step"] < 3e6
    assert found.evidence["in_children"] == 0.0
    assert guard.report.diagnosis.causes[0].code == "retained_graph", guard.report.diagnosis.causes
    assert any("kept" in e or "history" in e for e in guard.report.diagnosis.causes[0].evidence)


def test_a_cache_that_fills_up_in_the_first_epoch_is_not() -> None:
    cache: dict[int, torch.Tensor] = {}

    def keep(loss: torch.Tensor, epoch: int, i: int) -> None:
        if i not in cache:
            cache[i] = torch.randn(512, 512)  # a megabyte

    guard = Loop().run(Batches(512), keep, detectors=[ResourceMemoryGrowth(least_bytes=40e6)])
    assert guard.report.findings == []
    assert len(guard._report.resources["process_rss_bytes"]) > 0  # type: ignore[union-attr]


def test_a_loop_that_frees_what_it_makes_is_not() -> None:
    def keep(loss: torch.Tensor, epoch: int, i: int) -> None:
        torch.randn(1024, 64 + 16 * (i % 64))

    guard = Loop().run(Batches(256), keep, detectors=[ResourceMemoryGrowth(least_bytes=40e6)])
    assert guard.report.findings == []


class Sleepy(Dataset[Any]):
    """Takes its time for each sample; at ``stuck`` it does not come back for a while."""

    def __init__(self, sleep_s: float = 0.0, stuck: int | None = None, n: int = 400) -> None:
        self.sleep_s, self.stuck, self.n = sleep_s, stuck, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        time.sleep(self.sleep_s)
        if i == self.stuck:
            wait_for_a_lock_that_nobody_gives_back()
        return torch.randn(64), torch.ones(1)


def wait_for_a_lock_that_nobody_gives_back() -> None:
    time.sleep(6.0)


def test_a_loader_that_sleeps_is_called_input_bound() -> None:
    loader = DataLoader(Sleepy(0.02), batch_size=4)
    guard = Loop().run(loader, epochs=2, detectors=[ResourceInputBound(least_total_s=0.5, least_share=0.2)])
    found = finding(guard, "resource.input_bound")
    assert found is not None, guard.report.resources["time"]
    assert found.evidence["wait_s_per_step"] > 0.03
    assert found.evidence["num_workers"] == 0.0
    time_spent = guard.report.resources["time"]
    assert time_spent["phases_s"]["data_wait"] > 4.0
    assert guard.report.diagnosis.causes[0].code == "slow_input_pipeline"
    assert "num_workers 0 ->" in guard.report.diagnosis.causes[0].remedy
    assert guard.report.resources["throughput"]["samples_per_s"] < 100


def test_a_loader_that_does_not_is_not() -> None:
    guard = Loop().run(
        Batches(256),
        epochs=2,
        detectors=[ResourceInputBound(least_total_s=0.0, least_wait_s=0.0, least_wait_cpu_s=0.0)],
    )
    assert guard.report.findings == [] or guard.report.resources["time"]["data_wait_share"] > 0.35


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="stacks of workers need Linux")
def test_a_worker_that_hangs_yields_stacks() -> None:
    loader = DataLoader(Sleepy(stuck=240), batch_size=4, num_workers=1, multiprocessing_context="fork")
    told: list[Any] = []
    guard = Loop().run(
        loader,
        epochs=1,
        detectors=[RunHang()],
        resources=ResourceLimits(hang_after_s=1.0),
        alerts=[told.append],
    )
    found = finding(guard, "run.hang")
    assert found is not None
    assert 1.0 <= found.evidence["idle_s"] < 10.0
    assert "The training thread is in" in found.message
    (hang,) = guard.report.resources["hangs"]
    training = next(iter(hang["stacks"].values()))
    assert "for i, (x, y) in enumerate(loader)" in training
    workers = [w for w in hang["workers"] if "wait_for_a_lock_that_nobody_gives_back" in w.get("stack", "")]
    assert len(workers) == 1
    assert workers[0]["state"] == "sleeping"
    assert guard.report.progress.steps == 100, "the training was not touched"
    assert guard.report.status == "completed"
    assert told, "the alert came"
    assert "hang" in told[0].diagnosis.summary or told[0].resources["hangs"]


@pytest.mark.slow
def test_a_long_validation_is_no_hang() -> None:
    with FailGuard(nn.Linear(1, 1), sinks=[], detectors=[RunHang(still_s=0.3, least_s=0.5)]) as guard:
        hang_watch = guard._guard.resources._hang_watch  # type: ignore[union-attr]
        assert hang_watch is not None
        hang_watch.quiet_s = hang_watch.look_every_s = 0.1
        for _ in range(20):
            guard.step(loss=1.0)
        until = time.monotonic() + 3.0
        while time.monotonic() < until:  # works on, at many places
            sum(i * i for i in range(1000))
            sorted(range(1000))
        guard.end_epoch(val_loss=1.0)
    assert guard.report.findings == []
