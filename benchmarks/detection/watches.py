"""Who watches a program: failguard at its defaults, or nobody."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["FailGuardWatch", "Nobody", "NobodyLoop"]


class FailGuardWatch:
    """failguard with nothing changed but that it writes no record."""

    def __init__(self, framework: str, **keywords: Any) -> None:
        self._keywords = {"sinks": [], **keywords}
        self.guard: Any = None
        self.callbacks: list[Any] = []
        if framework == "lightning":
            from failguard.lightning import FailGuard

            self.guard = FailGuard(**self._keywords)
            self.callbacks = [self.guard]
        elif framework == "keras":
            from failguard.keras import FailGuard as KerasFailGuard

            self.guard = KerasFailGuard(**self._keywords)
            self.callbacks = [self.guard]

    @contextmanager
    def loop(self, model: Any, optimizer: Any) -> Iterator[Any]:
        """See :class:`~benchmarks.detection.program.Watch`."""
        from failguard.torch import FailGuard

        with FailGuard(model, optimizer, **self._keywords) as self.guard:
            yield self.guard


class NobodyLoop:
    """Counts the steps of a plain loop and remembers the first loss that is not finite."""

    should_stop = False

    def __init__(self) -> None:
        self.steps = 0
        self.first_bad: int | None = None

    def step(self, loss: Any, batch: Any = None) -> bool:
        if self.first_bad is None and not math.isfinite(float(loss)):
            self.first_bad = self.steps
        self.steps += 1
        return True

    def end_epoch(self, **metrics: Any) -> None:
        """Nothing is kept."""


class Nobody:
    """Lets a program run to its end. An independent probe notes the first step with a loss that is not finite."""

    def __init__(self, framework: str) -> None:
        self.probe: Any = NobodyLoop()
        self.callbacks: list[Any] = []
        if framework == "lightning":
            self.probe = _lightning_probe()
            self.callbacks = [self.probe]
        elif framework == "keras":
            self.probe = _keras_probe()
            self.callbacks = [self.probe]

    @contextmanager
    def loop(self, model: Any, optimizer: Any) -> Iterator[Any]:
        """See :class:`~benchmarks.detection.program.Watch`."""
        yield self.probe


def _lightning_probe() -> Any:
    import lightning as L

    class Probe(L.Callback):
        def __init__(self) -> None:
            self.inner = NobodyLoop()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            self.inner.step(0.0 if loss is None else loss)

        @property
        def steps(self) -> int:
            return self.inner.steps

        @property
        def first_bad(self) -> int | None:
            return self.inner.first_bad

    return Probe()


def _keras_probe() -> Any:
    import keras

    class Probe(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.inner = NobodyLoop()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.inner.step((logs or {}).get("loss", 0.0))  # the running mean turns bad with the first bad loss

        @property
        def steps(self) -> int:
            return self.inner.steps

        @property
        def first_bad(self) -> int | None:
            return self.inner.first_bad

    return Probe()
