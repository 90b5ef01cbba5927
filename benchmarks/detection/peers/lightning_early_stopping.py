"""Lightning's own EarlyStopping with its check for values that are not finite."""

from __future__ import annotations

from typing import Any

from benchmarks.detection.peers.watch import NON_FINITE, PeerWatch, Words

__all__ = ["WORDS", "watch"]

WORDS: Words = {
    "NON_FINITE_METRIC": ("metric.non_finite", *NON_FINITE),
    "PATIENCE_EXHAUSTED": ("metric.no_improvement",),
}
"""By ``EarlyStoppingReason``, those that its defaults can give."""

SEVERITIES = {"NON_FINITE_METRIC": "error", "PATIENCE_EXHAUSTED": "info"}


def watch(framework: str) -> PeerWatch:
    """A watch for one run."""
    import lightning as L
    from lightning.pytorch.callbacks import EarlyStopping

    watching = PeerWatch(WORDS)
    stopping = EarlyStopping("val_loss")

    class Listener(L.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            watching.steps += 1

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            if stopping.stopping_reason_message is not None:
                reason = stopping.stopping_reason.name
                watching.say(reason, SEVERITIES[reason])
                watching.stopped = True
                watching.actions += 1

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            if "which is not available" in str(exception):
                watching.unusable = "no val_loss is logged"

    watching.callbacks = [stopping, Listener()]
    return watching
