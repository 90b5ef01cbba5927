"""The trainings of the benchmark. Each runs until it is told to stop, and tells of the start of every step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.overhead.models import MODELS, keras_model, torch_model

__all__ = ["PROGRAMS", "Program"]

BATCHES = 64  # different ones, over and over
STEPS_PER_EPOCH = 512

Tick = Callable[[], bool]  # at the start of a step; False: this is to be the last


@dataclass(frozen=True)
class Program:
    """One training.

    Attributes:
        name: As in tables and on the command line.
        framework: ``"lightning"``, ``"keras"`` or ``"torch"`` (a plain loop).
        model: Of :data:`~benchmarks.overhead.models.MODELS`.
        keywords: For ``compile`` of a Keras model.
    """

    name: str
    framework: str
    model: str
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps_per_tick(self) -> int:
        """Steps between two ticks: those of one execution in Keras."""
        return int(self.keywords.get("steps_per_execution", 1))

    def train(self, watch: Any, tick: Tick) -> None:
        """Train until ``tick`` returns ``False``.

        Args:
            watch: Callbacks for Lightning and Keras, a :class:`LoopWatch` for a loop.
            tick: Called at the start of each step, or of each execution.
        """
        {"lightning": _lightning, "keras": _keras, "torch": _loop}[self.framework](self, watch, tick)


class LoopWatch:
    """What a watch does in a plain loop. By itself: nothing."""

    def begin(self, model: Any, optimizer: Any) -> Any:
        """The loop begins.

        Returns:
            The optimizer to use.
        """
        return optimizer

    def backward(self, net: Any, x: Any, y: Any, index: int) -> Any:
        """Forward and backward pass of a batch.

        Returns:
            The loss.
        """
        import torch

        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        return loss

    def step(self, loss: Any, batch: Any) -> bool:
        """After ``backward``: whether the update is to be made."""
        return True

    def end(self) -> None:
        """The loop is over."""


def _loop(program: Program, watch: LoopWatch, tick: Tick) -> None:
    import torch

    net, batch = torch_model(MODELS[program.model])
    data = [batch(i) for i in range(BATCHES)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    optimizer = watch.begin(net, optimizer)
    index = 0
    while tick():
        x, y = data[index % BATCHES]
        index += 1
        optimizer.zero_grad()
        loss = watch.backward(net, x, y, index)
        if watch.step(loss, (x, y)):
            optimizer.step()
    watch.end()


def _lightning(program: Program, watch: Mapping[str, Any], tick: Tick) -> None:
    import lightning as L
    import torch
    from torch.utils.data import DataLoader

    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    net, batch = torch_model(MODELS[program.model])
    data = [batch(i % BATCHES) for i in range(BATCHES)] * (STEPS_PER_EPOCH // BATCHES)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if not tick():
                self.trainer.should_stop = True
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-4)

    keywords = dict(watch)
    callbacks = keywords.pop("callbacks", []) or [L.Callback()]
    trainer = L.Trainer(
        max_epochs=-1,
        min_epochs=0,
        callbacks=callbacks,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, **keywords},
    )
    trainer.fit(Module(), DataLoader(data, batch_size=None))


def _keras(program: Program, watch: list[Any], tick: Tick) -> None:
    import keras as k
    import numpy as np
    import tensorflow as tf

    class Ticks(k.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if not tick():
                self.model.stop_training = True

    model = MODELS[program.model]
    random = np.random.default_rng(0)
    n = BATCHES * model.batch
    x = random.normal(size=(n, *model.input_shape)).astype("float32")
    y = random.integers(0, 10, n)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(model.batch, drop_remainder=True).cache().repeat()
    k.utils.set_random_seed(0)
    net = keras_model(model, **program.keywords)
    steps = STEPS_PER_EPOCH * program.steps_per_tick
    net.fit(
        data,
        epochs=1_000_000,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[Ticks(), *(watch or [k.callbacks.Callback()])],
    )


PROGRAMS = {
    p.name: p
    for p in (
        *(Program(f"lightning-{m}", "lightning", m) for m in MODELS),
        *(Program(f"loop-{m}", "torch", m) for m in MODELS),
        *(Program(f"keras-{m}", "keras", m) for m in MODELS),
        Program("keras-mlp-jit", "keras", "mlp", {"jit_compile": True}),
        Program("keras-transformer-jit", "keras", "transformer", {"jit_compile": True}),
        Program("keras-mlp-16-steps", "keras", "mlp", {"jit_compile": False, "steps_per_execution": 16}),
        Program("keras-tiny-16-steps", "keras", "tiny", {"jit_compile": False, "steps_per_execution": 16}),
        Program("keras-tiny-jit", "keras", "tiny", {"jit_compile": True}),
    )
}
"""Every program by name."""
