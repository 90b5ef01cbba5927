"""Lightning's own SpikeDetection."""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir
from typing import Any

from benchmarks.detection.peers.watch import NON_FINITE, PeerWatch, Words

__all__ = ["WORDS", "watch"]

WORDS: Words = {"training spike": ("loss.spike", "loss.divergence", "loss.oscillation", *NON_FINITE)}
"""A loss that is not finite is a spike to it."""


def watch(framework: str) -> PeerWatch:
    """A watch for one run."""
    import lightning as L
    from lightning.fabric.utilities.spike import TrainingSpikeException
    from lightning.pytorch.callbacks.spike import SpikeDetection

    watching = PeerWatch(WORDS)

    class Listener(L.Callback):
        """Stands first: a spike is raised before callbacks that come later."""

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            watching.steps += 1

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            if isinstance(exception, TrainingSpikeException):
                watching.say("training spike", "error", watching.steps - 1)
                watching.stopped = True
                watching.actions += 1

    list_of_batches = Path(gettempdir()) / "failguard-peers" / "skip_batches.json"  # by default in the work folder
    watching.callbacks = [Listener(), SpikeDetection(exclude_batches_path=str(list_of_batches))]
    return watching
