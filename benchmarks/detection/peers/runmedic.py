"""runmedic, which reads logs: the run is recorded unwatched, then diagnosed by its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.detection.peers.feeds import LoopFeed, feed_callbacks
from benchmarks.detection.peers.watch import NON_FINITE, PeerWatch, Words

__all__ = ["WORDS", "watch"]

WORDS: Words = {
    "non_finite": NON_FINITE,
    "divergence": ("loss.divergence", "loss.oscillation"),
    "loss_spikes": ("loss.spike", "loss.oscillation"),
    "no_learning": (
        "loss.no_learning",
        "loss.plateau",
        "weights.frozen",
        "gradient.missing",
        "gradient.vanishing",
        "update.too_small",
        "metric.degenerate_predictions",
    ),
    "overfitting": ("metric.overfitting",),
    "val_below_train": ("data.leakage",),
    "grad_spikes": ("gradient.exploding",),
    "constant_lr_plateau": ("loss.plateau",),
}
"""By ``check``. Those that read step times, memory or stdout are fed nothing here."""

SEVERITIES = {"info": "info", "warning": "warning", "critical": "error"}
DIAGNOSIS_TIMEOUT_S = 60


class RunmedicWatch(PeerWatch):
    """Records the curves that a program logs."""

    def __init__(self) -> None:
        super().__init__(WORDS)
        self.rows: list[dict[str, float]] = []

    def take_step(self, loss: float | None, gradient_norm: float | None, learning_rate: float | None) -> None:
        """See :class:`~benchmarks.detection.peers.feeds.Receiver`. Few programs log more than the loss of a step."""
        if loss is not None:
            self.rows.append({"step": self.steps, "train_loss": loss})
        self.steps += 1

    def take_epoch(self, metrics: Mapping[str, float]) -> None:
        """See :class:`~benchmarks.detection.peers.feeds.Receiver`. The training loss is there already, step by step."""
        kept = {name: value for name, value in metrics.items() if name not in ("loss", "train_loss")}
        if kept:
            self.rows.append({"step": self.steps - 1, **kept})

    @contextmanager
    def loop(self, model: Any, optimizer: Any) -> Iterator[Any]:
        """See :class:`~benchmarks.detection.program.Watch`."""
        yield LoopFeed(self, model, optimizer)

    def seen(self) -> dict[str, Any]:
        """What the diagnosis of the finished log says. A finding without a step is one about the whole run."""
        if not self.rows:
            self.unusable = "nothing is logged"
        for finding in self._diagnosis() if self.rows else ():
            step = finding["step"]
            at = self.steps if step is None else int(step)
            self.say(finding["check"], SEVERITIES[finding["severity"]], at)
        return super().seen()

    def _diagnosis(self) -> list[dict[str, Any]]:
        with TemporaryDirectory() as folder:
            log = Path(folder) / "run.jsonl"
            log.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            command = [sys.executable, "-m", "runmedic", "diagnose", str(log), "--json"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=DIAGNOSIS_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"runmedic ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        return [finding for run in json.loads(done.stdout) for finding in run["findings"]]


def watch(framework: str) -> RunmedicWatch:
    """A watch for one run."""
    watching = RunmedicWatch()
    watching.callbacks = feed_callbacks(framework, watching)
    return watching
