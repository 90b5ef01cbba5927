"""Steps of a Keras fit timed in parts: a few calls of the train function now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import keras

from failguard.guard import Guard
from failguard.resources.windows import STEPS, Windows

__all__ = ["StepTimer"]

COST_S = 5e-6  # of a timed call; taking a batch out of an iterator of TensorFlow costs more
TENSORFLOW_COST_S = 150e-6


class StepTimer:
    """For the calls of a window the train function is wrapped on the model; outside of windows nothing is in place.

    On torch, Keras fetches a batch between two calls: what lies there is waiting for data, callbacks that run at each
    batch included; elsewhere it is callbacks alone. On JAX the call takes its batch from an iterator, which is timed.
    On TensorFlow the compiled call does: there the batch is taken before it and handed on. A mark within the step
    would not do: where a single thread runs the operations it may be set after most of them. With several steps a call
    waiting for data is not known.
    """

    def __init__(self, model: Any, guard: Guard) -> None:
        """Args:
        model: The model in ``fit``. Made before the tap is put on.
        guard: Is told of the times.
        """
        self._model = model
        self._guard = guard
        self._backend = keras.backend.backend()
        self._is_inside = self._backend == "tensorflow"
        self._peeking: Any = None
        wanted = guard.resources.limits is not None and int(model.steps_per_execution) == 1
        if wanted and self._is_inside:
            wanted = _has_one_device(model)
        self._windows = Windows(guard.step, wanted=wanted)
        self._wrapper: Any = None
        self._inner: Callable[..., Any] | None = None

    def after_steps(self, step: int) -> None:
        """Steps were taken in: open a window if one is due."""
        if step >= self._windows.next_step and self._wrapper is None:
            self._open()

    def close(self) -> None:
        """Take everything off the model. Further calls do nothing."""
        self._close_window()
        self._windows.stop()
        self._peeking = None

    def spoil(self) -> None:
        """An epoch ended, or a validation began: it is no part of a step."""
        self._close_window()

    def _open(self) -> None:
        model = self._model
        inner = self._inner = model.train_function
        state = {"wait": 0.0, "began": 0.0, "ended": 0.0, "calls": 0.0, "cost": 0.0, "between": 0.0}

        def timed(*args: Any) -> Any:
            entered = began = perf_counter()
            is_ready = self._is_inside and self._guard.containment.run("timing steps", self._peek, args)
            if self._is_inside and not is_ready:
                self._close_window()
                self._windows.stop()
                return inner(*args)
            state["cost"] += perf_counter() - began
            began = perf_counter()
            if state["calls"] == 0.0:
                state["began"] = began
            else:
                state["wait" if self._backend == "torch" else "between"] += entered - state["ended"]
                if self._backend == "jax":
                    args = tuple(_TimedIterator(a, state) if isinstance(a, Iterator) else a for a in args)
            if self._is_inside:
                args = self._handed_on(args, state)
            result = inner(*args)
            state["ended"] = perf_counter()
            state["calls"] += 1.0
            # The first gap is before the window: one call more than gaps.
            enough = STEPS if self._is_inside else STEPS + 1
            if state["calls"] >= enough and self._wrapper is not None:
                self._guard.containment.run("timing steps", self._finish, state)
            return result

        self._wrapper = timed
        model.train_function = timed

    def _finish(self, state: dict[str, float]) -> None:
        self._close_window()
        guard = self._guard
        total_s = state["ended"] - state["began"]
        parts_s = {"data_wait": min(state["wait"], total_s)}
        if self._backend != "torch":
            parts_s["callbacks"] = min(state["between"], total_s)
        guard.resources.time_steps(parts_s, total_s, STEPS, max(guard.step - 1, 0))
        cost_s = STEPS * (TENSORFLOW_COST_S if self._is_inside else COST_S) + state["cost"]
        guard.accounting.add_past("timing steps", cost_s)
        self._windows.closed(guard.step, cost_s, total_s)

    def _close_window(self) -> None:
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None and self._model.train_function is wrapper:
            self._model.train_function = self._inner
        self._inner = None

    # TensorFlow

    def _peek(self, args: tuple[Any, ...]) -> bool:
        """Get ready to take the next batches out of the iterator. Not where these are no plain tensors."""
        from failguard.keras.peek_tensorflow import Peek

        iterator = args[0] if args else None
        if self._peeking is None or not self._peeking.fits(iterator):
            if not Peek.suits(iterator):
                return False
            self._peeking = Peek(iterator)
        return True

    def _handed_on(self, args: tuple[Any, ...], state: dict[str, float]) -> tuple[Any, ...]:
        """Time the next batch. At the end of the data the step is left to find that out by itself."""
        began = perf_counter()
        batch = self._peeking.take(args[0])
        state["wait"] += perf_counter() - began
        return args if batch is None else (self._peeking.iterator, *args[1:])


class _TimedIterator(Iterator[Any]):
    """Counts the time that an iterator takes for its next batch."""

    def __init__(self, inner: Iterator[Any], state: dict[str, float]) -> None:
        self._inner = inner
        self._state = state

    def __next__(self) -> Any:
        began = perf_counter()
        try:
            return next(self._inner)
        finally:
            self._state["wait"] += perf_counter() - began


def _has_one_device(model: Any) -> bool:
    import tensorflow as tf

    return (
        not tf.distribute.has_strategy() and type(model.distribute_strategy).__name__ == "_DefaultDistributionStrategy"
    )
