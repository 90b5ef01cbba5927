"""How rows leave a TensorFlow step: the cheapest way that each kind of step allows."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__ = ["CAPACITY", "OutputRows", "QueueRows", "Rows", "VariableRows"]

Floats = NDArray[np.float32]

KEY = "failguard"
CAPACITY = 8192  # rows in a queue
FEW = 64  # values that Python sums as fast


class Rows(Protocol):
    """Carries rows of float32 values from the step to Python.

    All rows of a fit are as wide as the first one, but for those of a function that was traced anew.

    Attributes:
        early: Rows are written before the update rather than at the end of the step.
        is_urgent: A value that is not finite waits to be read.
    """

    early: bool
    is_urgent: bool

    def write(self, row: Any, logs: Any) -> Any:
        """Part of the step: write one row.

        Args:
            row: float32, shape (width,), the width known while the step is traced.
            logs: What the step is to return.

        Returns:
            The logs to return, or the operation that writes when ``early``.
        """

    def collect(self, logs: Any) -> Any:
        """After each call of the train function: take the rows out of what it returned."""

    def read(self) -> list[Floats]:
        """The rows since the last time, oldest first. float32, shape (n, width), one array for each width."""


class QueueRows:
    """For steps that XLA does not compile: one operation a step, and a read when it is convenient.

    A queue that is full would block the step: read it at least every ``CAPACITY`` rows.
    """

    early = True
    is_urgent = False  # not known before they are read

    def __init__(self, steps_per_call: int) -> None:
        """Args:
        steps_per_call: Batches in a call of the train function.
        """
        self._capacity = CAPACITY + steps_per_call
        self._queues: dict[int, Any] = {}  # by the width of their rows

    def write(self, row: Any, logs: Any) -> Any:
        """Write one row, see :class:`Rows`."""
        width = int(row.shape[0])
        if width not in self._queues:
            with tf.init_scope(), tf.device("CPU:0"):
                self._queues[width] = tf.queue.FIFOQueue(self._capacity, [tf.float32], shapes=[(width,)])
        return self._queues[width].enqueue([row])

    def collect(self, logs: Any) -> Any:
        """Nothing comes out with the logs."""
        return logs

    def read(self) -> list[Floats]:
        """The rows since the last time."""
        blocks: list[Floats] = []
        for queue in self._queues.values():
            # The methods of the queue do the same and take four times as long.
            handle = queue.queue_ref
            n = int(tf.raw_ops.QueueSizeV2(handle=handle))
            if n:
                (read,) = tf.raw_ops.QueueDequeueManyV2(handle=handle, n=n, component_types=[tf.float32])
                blocks.append(read.numpy())
        return blocks


class OutputRows:
    """For steps compiled by XLA, one a call: the row goes out with the logged loss, or as one more log.

    Keras reads the logged loss after each call anyway, so the row costs no read of its own.
    """

    early = False

    def __init__(self) -> None:
        self.is_urgent = False
        self._rows: list[Floats] = []

    def write(self, row: Any, logs: Any) -> Any:
        """Write one row, see :class:`Rows`."""
        if not isinstance(logs, dict):
            return logs
        loss = logs.get("loss")
        if isinstance(loss, tf.Tensor) and loss.dtype == tf.float32 and loss.shape.rank == 0:
            return {**logs, "loss": tf.concat([loss[None], row], axis=0)}
        return {**logs, KEY: tf.concat([[0.0], row], axis=0)}

    def collect(self, logs: Any) -> Any:
        """Take rows out of what a call returned, see :class:`Rows`."""
        if not isinstance(logs, dict):
            return logs
        if KEY in logs:
            values = logs.pop(KEY).numpy()
        else:
            values = logs["loss"].numpy()
            logs["loss"] = values[0].item()
        self._rows.append(values[1:])
        # A sum is finite only if all values are, but for a sum that overflows: looked at early, and found fine.
        total = sum(values.tolist()) if len(values) <= FEW else values.sum()  # NumPy's own takes longer to call
        self.is_urgent = self.is_urgent or not math.isfinite(total)
        return logs

    def read(self) -> list[Floats]:
        """The rows since the last time."""
        rows, self._rows, self.is_urgent = self._rows, [], False
        return [np.stack(list(same)) for _, same in groupby(rows, key=len)]


class VariableRows:
    """For steps compiled by XLA, several a call: the newest rows and their number, in a variable."""

    early = False

    def __init__(self, steps_per_call: int) -> None:
        """Args:
        steps_per_call: Batches in a call of the train function.
        """
        self._steps_per_call = steps_per_call
        self._newest: Any = None
        self.is_urgent = False
        self._rows: list[Floats] = []

    def write(self, row: Any, logs: Any) -> Any:
        """Write one row, see :class:`Rows`."""
        width = int(row.shape[0])
        if self._newest is None or self._newest.shape[1] != width + 1:
            # The last column counts. Batches in a call never get near the whole numbers that float32 can tell apart.
            with tf.init_scope():
                self._newest = tf.Variable(
                    tf.zeros((self._steps_per_call, width + 1)), trainable=False, name="failguard_rows"
                )
        before = self._newest.read_value()
        counted = tf.concat([row, before[-1, -1:] + 1.0], axis=0)
        self._newest.assign(tf.concat([before[1:], counted[None]], axis=0))
        return logs

    def collect(self, logs: Any) -> Any:
        """Take rows out of what a call returned, see :class:`Rows`."""
        if self._newest is None:
            return logs
        newest = self._newest.numpy()
        n = int(newest[-1, -1])
        if n:
            rows = newest[-n:, :-1]
            self._rows.append(rows)
            self.is_urgent = self.is_urgent or not math.isfinite(rows.sum())
            self._newest.assign(tf.zeros_like(self._newest))
        return logs

    def read(self) -> list[Floats]:
        """The rows since the last time."""
        rows, self._rows, self.is_urgent = self._rows, [], False
        return rows
