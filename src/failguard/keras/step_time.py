"""Steps of a Keras fit timed in parts: a few calls of the train function now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import keras

from failguard.guard import Guard
from failguard.resources.windows import STEPS, Windows

__all__ = ["StepTimer"]

COST_S = 5e-6  # of a timed call; reading a variable of TensorFlow costs more
TENSORFLOW_COST_S = 60e-6
MOST_CALL_S = 1e-3  # of what TensorFlow takes from the call to the first operation


class StepTimer:
    """For the calls of a window the train function is wrapped on the model; outside of windows nothing is in place.

    On torch, Keras fetches a batch between two calls: what lies there is waiting for data, callbacks that run at each
    batch included. On JAX the call takes it from an iterator, which is timed. On TensorFlow the compiled call does:
    there the step notes the time at which its batch had come, without XLA and with one step a call; else waiting for
    data is not known. What the call itself takes until then is the shortest such time of the run, 1 ms at most, and
    does not count.
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
        self._arrived: Any = None
        self._call_s = MOST_CALL_S
        self._patched: Any = None
        wanted = guard.resources.limits is not None and int(model.steps_per_execution) == 1
        if wanted and self._is_inside:
            wanted = not model.jit_compile and self._note_arrivals()
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
        patched, self._patched = self._patched, None
        if patched is not None and self._model.__dict__.get("train_step") is patched:
            del self._model.__dict__["train_step"]

    def spoil(self) -> None:
        """An epoch ended, or a validation began: it is no part of a step."""
        self._close_window()

    def _open(self) -> None:
        model = self._model
        inner = self._inner = model.train_function
        state = {"wait": 0.0, "began": 0.0, "ended": 0.0, "calls": 0.0}

        def timed(*args: Any) -> Any:
            began, began_at = perf_counter(), time.time()
            if state["calls"] == 0.0:
                state["began"] = began
            elif self._backend == "torch":
                state["wait"] += began - state["ended"]
            elif self._backend == "jax":
                args = tuple(_TimedIterator(a, state) if isinstance(a, Iterator) else a for a in args)
            result = inner(*args)
            state["ended"] = perf_counter()
            state["calls"] += 1.0
            # The first gap is before the window: one call more than gaps.
            enough = STEPS if self._is_inside else STEPS + 1
            if self._is_inside:
                self._guard.containment.run("timing steps", self._count_arrival, state, began_at)
            if state["calls"] >= enough and self._wrapper is not None:
                self._guard.containment.run("timing steps", self._finish, state)
            return result

        self._wrapper = timed
        model.train_function = timed

    def _finish(self, state: dict[str, float]) -> None:
        self._close_window()
        guard = self._guard
        total_s = state["ended"] - state["began"]
        guard.resources.time_steps({"data_wait": min(state["wait"], total_s)}, total_s, STEPS, max(guard.step - 1, 0))
        cost_s = STEPS * (TENSORFLOW_COST_S if self._is_inside else COST_S)
        guard.accounting.add_past("timing steps", cost_s)
        self._windows.closed(guard.step, cost_s, total_s)

    def _close_window(self) -> None:
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None and self._model.train_function is wrapper:
            self._model.train_function = self._inner
        self._inner = None

    # TensorFlow

    def _note_arrivals(self) -> bool:
        """Have each step note when its batch had come. The operation comes last, so that random ones stay the same."""
        import tensorflow as tf

        model = self._model
        if tf.distribute.has_strategy() or type(model.distribute_strategy).__name__ != "_DefaultDistributionStrategy":
            return False
        original = model.train_step
        if "train_step" in model.__dict__:  # somebody else's is in place
            return False
        with tf.device("CPU:0"):
            arrived = self._arrived = tf.Variable(0.0, dtype=tf.float64, trainable=False)

        def train_step(data: Any) -> Any:
            logs = original(data)
            with tf.control_dependencies([t for t in tf.nest.flatten(data) if t is not None]), tf.device("CPU:0"):
                arrived.assign(tf.timestamp())
            return logs

        self._patched = model.__dict__["train_step"] = train_step
        return True

    def _count_arrival(self, state: dict[str, float], began_at: float) -> None:
        waited = float(self._arrived.numpy()) - began_at
        if waited > 0:  # a step that was cut short has noted nothing
            self._call_s = min(self._call_s, waited)
            state["wait"] += waited - self._call_s


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
