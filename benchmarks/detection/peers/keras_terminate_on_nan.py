"""Keras' own TerminateOnNaN."""

from __future__ import annotations

from typing import Any

from benchmarks.detection.peers.watch import NON_FINITE, PeerWatch, Words

__all__ = ["WORDS", "watch"]

WORDS: Words = {"invalid loss": NON_FINITE}


def watch(framework: str) -> PeerWatch:
    """A watch for one run."""
    import keras

    watching = PeerWatch(WORDS)

    class Listener(keras.callbacks.Callback):
        """Comes after it: nothing else asks for a stop at the end of a batch."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self.model.stop_training and not watching.stopped:
                watching.say("invalid loss", "error")
                watching.stopped = True
                watching.actions += 1
            watching.steps += 1

    watching.callbacks = [keras.callbacks.TerminateOnNaN(), Listener()]
    return watching
