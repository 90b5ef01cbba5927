"""Where the time of a Lightning fit goes, and what it leaves in place."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

lightning = pytest.importorskip("lightning")

from failguard.lightning import FailGuard  # noqa: E402

pytestmark = pytest.mark.framework


class Slow(Dataset[Any]):
    def __init__(self, sleep_s: float) -> None:
        self.sleep_s = sleep_s

    def __len__(self) -> int:
        return 240

    def __getitem__(self, i: int) -> Any:
        time.sleep(self.sleep_s)
        return torch.ones(8), torch.ones(1)


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(8, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SlowCallback(lightning.Callback):
    def on_train_batch_end(self, *args: Any) -> None:
        time.sleep(0.02)


def fit(tmp_path: Any, train: Any, callbacks: Any = (), **more: Any) -> tuple[FailGuard, Any]:
    guard = FailGuard(sinks=[])
    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[guard, *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **more,
    )
    trainer.fit(Model(), train, DataLoader(Slow(0.002), batch_size=40))
    return guard, trainer


def test_waiting_for_data_validation_and_checkpoints_are_told_apart(tmp_path: Any) -> None:
    guard, trainer = fit(tmp_path, DataLoader(Slow(0.004), batch_size=4))
    resources = guard.report.resources
    phases = resources["time"]["phases_s"]
    assert resources["time"]["data_wait_share"] > 0.05
    assert phases["data_wait"] > 1.0
    assert phases["validation"] > 0.8
    assert phases["checkpoint"] > 0
    assert {"forward", "backward", "optimizer"} <= phases.keys()
    assert sum(phases.values()) == pytest.approx(guard.report.progress.duration_s, rel=0.02)
    assert resources["checkpoint_bytes"] > 1000
    assert not {"start", "stop"} & vars(trainer.profiler).keys(), "nothing is left on the profiler"


def test_a_slow_callback_is_not_blamed_on_the_data(tmp_path: Any) -> None:
    guard, _ = fit(tmp_path, DataLoader(Slow(0.0), batch_size=4), [SlowCallback()], enable_checkpointing=False)
    phases = guard.report.resources["time"]["phases_s"]
    assert phases["callbacks"] > 3 * phases["data_wait"]


def test_a_profiler_of_the_users_own_gets_every_call(tmp_path: Any) -> None:
    from lightning.pytorch.profilers import SimpleProfiler

    guard, trainer = fit(
        tmp_path, DataLoader(Slow(0.001), batch_size=4), enable_checkpointing=False, profiler=SimpleProfiler()
    )
    recorded = trainer.profiler.recorded_durations["run_training_batch"]
    assert len(recorded) == 120
    assert guard.report.resources["time"]["timed_steps"] > 0


def test_an_error_within_a_window_leaves_nothing_behind(tmp_path: Any) -> None:
    class Breaks(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 10:
                self.was_open = "start" in vars(trainer.profiler)
                self.trainer = trainer
                raise RuntimeError("mine")

    breaks = Breaks()
    with pytest.raises(RuntimeError, match="mine"):
        fit(tmp_path, DataLoader(Slow(0.0), batch_size=4), [breaks], enable_checkpointing=False)
    assert breaks.was_open
    assert not {"start", "stop"} & vars(breaks.trainer.profiler).keys()
