"""What a program logs, for peers that are fed numbers: the same from every framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

__all__ = ["LoopFeed", "Receiver", "feed_callbacks"]


class Receiver(Protocol):
    """Who is fed."""

    def take_step(self, loss: float | None, gradient_norm: float | None, learning_rate: float | None) -> None:
        """After each step. ``None`` is what is not known."""

    def take_epoch(self, metrics: Mapping[str, float]) -> None:
        """After each epoch, with what the program logged for it."""


class LoopFeed:
    """For a plain loop."""

    should_stop = False

    def __init__(self, receiver: Receiver, model: Any, optimizer: Any) -> None:
        self._receiver, self._model = receiver, model
        self._optimizer = optimizer[0] if isinstance(optimizer, list) else optimizer

    def step(self, loss: Any, batch: Any = None) -> bool:
        rate = float(self._optimizer.param_groups[0]["lr"])
        self._receiver.take_step(float(loss), gradient_norm(self._model.parameters()), rate)
        return True

    def end_epoch(self, **metrics: Any) -> None:
        self._receiver.take_epoch({name: float(value) for name, value in metrics.items()})


def gradient_norm(parameters: Iterable[Any]) -> float | None:
    """Euclidean norm over all gradients, ``None`` without any."""
    norms = [float(p.grad.norm()) for p in parameters if p.grad is not None]
    return math.sqrt(sum(n * n for n in norms)) if norms else None


def feed_callbacks(framework: str, receiver: Receiver) -> list[Any]:
    """For ``Trainer(callbacks=...)`` or ``fit(callbacks=...)``; none for a plain loop."""
    makers = {"lightning": _lightning_feed, "keras": _keras_feed}
    return [makers[framework](receiver)] if framework in makers else []


def _lightning_feed(receiver: Receiver) -> Any:
    import lightning as L

    class Feed(L.Callback):
        norm: float | None = None

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            self.norm = gradient_norm(pl_module.parameters())

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
            loss = trainer.callback_metrics.get("train_loss") if loss is None else loss
            rate = float(trainer.optimizers[0].param_groups[0]["lr"]) if trainer.optimizers else None
            receiver.take_step(None if loss is None else float(loss), self.norm, rate)
            self.norm = None

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            receiver.take_epoch({name: float(value) for name, value in trainer.callback_metrics.items()})

    return Feed()


def _keras_feed(receiver: Receiver) -> Any:
    import keras

    class Feed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            loss = (logs or {}).get("loss")
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            receiver.take_step(None if loss is None else float(loss), None, rate)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            receiver.take_epoch({name: float(value) for name, value in (logs or {}).items()})

    return Feed()
