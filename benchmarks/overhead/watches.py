"""What watches a training: failguard at its levels, what the frameworks bring along, and other tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.detection.peers import Peer
from benchmarks.overhead.figures import EMPTY
from benchmarks.overhead.programs import LoopWatch

__all__ = ["LEVELS", "NEEDS", "PEERS", "Watch", "watch_for"]

LEVELS = ("minimal", "standard", "full")


@dataclass(frozen=True)
class Watch:
    """A watch of one training.

    Attributes:
        given: What :meth:`~benchmarks.overhead.programs.Program.train` takes.
        spent: Seconds that it says it has spent; always 0 where it keeps no account.
    """

    given: Any
    spent: Callable[[], float] = lambda: 0.0


def _peer(name: str, frameworks: tuple[str, ...], wiring: str, package: str, pin: str = "") -> tuple[str, Peer]:
    return name, Peer(name, "", frameworks, package, pin, wiring)


PEERS: dict[str, Peer] = dict(
    (
        _peer("Lightning SpikeDetection", ("lightning",), "one more callback", "lightning"),
        _peer("Lightning DeviceStatsMonitor", ("lightning",), "every step, with the CSV logger", "lightning"),
        _peer("Lightning grad_norm", ("lightning",), "`grad_norm` logged before each update, no logger", "lightning"),
        _peer("Lightning detect_anomaly", ("lightning",), "`Trainer(detect_anomaly=True)`", "lightning"),
        _peer("torch clip_grad_norm_", ("torch",), "the norm of all gradients read at each step", "torch"),
        _peer("torch detect_anomaly", ("torch",), "`torch.autograd.set_detect_anomaly(True)`", "torch"),
        _peer("Keras TerminateOnNaN", ("keras",), "one more callback", "keras"),
        _peer("Keras TensorBoard", ("keras",), "`update_freq=1`", "keras"),
        _peer("Keras BackupAndRestore", ("keras",), "`save_freq=100` steps", "keras"),
        _peer("MLflow autolog", ("lightning", "keras"), "to a local SQLite store, defaults", "mlflow"),
        _peer("MLflow system metrics", ("torch", "lightning"), "its thread, every 10 s, local SQLite store", "mlflow"),
        _peer(
            "arc-training",
            ("torch", "lightning"),
            "`Controller.step(loss)`; its callback",
            "arc-training",
            "5.2.0.post1",
        ),
        _peer("trainpulse", ("torch",), "`Monitor.log(loss, lr, gradient norm)` at each step", "trainpulse", "0.4.0"),
        _peer("stabilityguard", ("torch",), "`GuardedOptimizer` around the optimizer", "stabilityguard", "0.3.0"),
        _peer(
            "torch-module-monitor",
            ("torch",),
            "norms of activations, gradients and weights at each step",
            "torch-module-monitor",
            "0.1.0",
        ),
        _peer("cockpit", ("torch",), "its `economy` configuration, every step", "cockpit-for-pytorch", "1.0.2"),
        _peer("nvitop", ("torch",), "`ResourceMetricCollector` daemon, every second", "nvitop", "1.7.2"),
    )
)
"""Every other tool by name."""


# What a tool needs beside its own package and the main environment's.
NEEDS = {
    "cockpit": ("backpack-for-pytorch==1.7.1", "unfoldNd==0.2.3", "json-tricks", "seaborn", "einops", "torchvision")
}


def watch_for(name: str, framework: str, folder: Path) -> Watch:
    """A new watch for one training.

    Args:
        name: ``"empty"``, ``"empty again"``, a level of failguard's (``"minimal"``, ...), or one of :data:`PEERS`.
        framework: Of the program.
        folder: For what it writes.
    """
    if name in EMPTY:
        return Watch(LoopWatch() if framework == "torch" else {} if framework == "lightning" else [])
    if name in LEVELS:
        return _failguard(name, framework, folder)
    peers: Any = import_module("benchmarks.overhead.peers")
    return Watch(peers.WIRING[name](framework, folder))


def _failguard(level: str, framework: str, folder: Path) -> Watch:
    from failguard.sinks.files import LocalRecord

    # With its local record. A tracking server is measured apart: it has a thread of its own.
    keywords: dict[str, Any] = {"detectors": level, "sinks": [LocalRecord(folder / "records")]}
    if framework == "torch":
        loop = _FailGuardLoop(keywords)
        return Watch(loop, loop.spent)
    guard = import_module(f"failguard.{framework}").FailGuard(**keywords)

    def spent() -> float:
        return guard._guard.accounting.total_s if guard._guard is not None else 0.0

    return Watch({"callbacks": [guard]} if framework == "lightning" else [guard], spent)


class _FailGuardLoop(LoopWatch):
    def __init__(self, keywords: dict[str, Any]) -> None:
        self._keywords = keywords
        self.guard: Any = None

    def begin(self, model: Any, optimizer: Any) -> Any:
        from failguard.torch import FailGuard

        self.guard = FailGuard(model, optimizer, **self._keywords)
        return optimizer

    def step(self, loss: Any, batch: Any) -> bool:
        return bool(self.guard.step(loss=loss, batch=batch))

    def end(self) -> None:
        self.guard.close()

    def spent(self) -> float:
        inner = None if self.guard is None else self.guard._guard
        if inner is None:
            return 0.0
        return float(inner.accounting.total_s + self.guard._watch.quick_s)
