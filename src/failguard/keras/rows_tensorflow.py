"""How rows leave a TensorFlow step: the cheapest way that each kind of step allows."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

__all__ = ["CAPACITY", "OutputRows", "QueueRows", "Rows", "VariableRows"]

KEY = "failguard"
CAPACITY = 8192  # rows in a queue


class Rows(Protocol):
    """Carries rows of float32 values from the step to Python.

    Attributes:
        early: Rows are written before the update rather than at the end of the step.
        is_urgent: A value that is not finite waits to be read.
    """

    early: bool
    is_urgent: bool

    def write(self, values: list[Any], logs: Any) -> Any:
        """Part of the step: write one row.

        Args:
            values: Scalars, float32.
            logs: What the step is to return.

        Returns:
            The logs to return, or the operation that writes when ``early``.
        """

    def collect(self, logs: Any) -> Any:
        """After each call of the train function: take the rows out of what it returned."""

    def read(self) -> list[list[float]]:
        """The rows since the last time, oldest first."""


class QueueRows:
    """For steps that XLA does not compile: one operation a step, and a read when it is convenient.

    A queue that is full would block the step: read it at least every ``CAPACITY`` rows.
    """

    early = True
    is_urgent = False  # not known before they are read

    def __init__(self, width: int, steps_per_call: int) -> None:
        """Args:
        width: Values in a row.
        steps_per_call: Batches in a call of the train function.
        """
        self._width = width
        with tf.device("CPU:0"):
            self._queue = tf.queue.FIFOQueue(CAPACITY + steps_per_call, [tf.float32] * width, shapes=[()] * width)

    def write(self, values: list[Any], logs: Any) -> Any:
        """Write one row, see :class:`Rows`."""
        return self._queue.enqueue(values)

    def collect(self, logs: Any) -> Any:
        """Nothing comes out with the logs."""
        return logs

    def read(self) -> list[list[float]]:
        """The rows since the last time."""
        # The methods of the queue do the same and take four times as long.
        handle = self._queue.queue_ref
        n = int(tf.raw_ops.QueueSizeV2(handle=handle))
        if n == 0:
            return []
        read = tf.raw_ops.QueueDequeueManyV2(handle=handle, n=n, component_types=[tf.float32] * self._width)
        return [list(row) for row in zip(*(column.numpy().tolist() for column in read), strict=True)]


class OutputRows:
    """For steps compiled by XLA, one a call: the row goes out with the logged loss, or as one more log.

    Keras reads the logged loss after each call anyway, so the row costs no read of its own.
    """

    early = False

    def __init__(self) -> None:
        self.is_urgent = False
        self._rows: list[list[float]] = []

    def write(self, values: list[Any], logs: Any) -> Any:
        """Write one row, see :class:`Rows`."""
        if not isinstance(logs, dict):
            return logs
        loss = logs.get("loss")
        if isinstance(loss, tf.Tensor) and loss.dtype == tf.float32 and loss.shape.rank == 0:
            return {**logs, "loss": tf.stack([loss, *values])}
        return {**logs, KEY: tf.stack([0.0, *values])}

    def collect(self, logs: Any) -> Any:
        """Take rows out of what a call returned, see :class:`Rows`."""
        if not isinstance(logs, dict):
            return logs
        if KEY in logs:
            _, *row = logs.pop(KEY).numpy().tolist()
        else:
            logs["loss"], *row = logs["loss"].numpy().tolist()
        self._rows.append(row)
        self.is_urgent = self.is_urgent or not all(map(math.isfinite, row))
        return logs

    def read(self) -> list[list[float]]:
        """The rows since the last time."""
        rows, self._rows, self.is_urgent = self._rows, [], False
        return rows


class VariableRows:
    """For steps compiled by XLA, several a call: the newest rows and their number, in a variable."""

    early = False

    def __init__(self, width: int, steps_per_call: int) -> None:
        """Args:
        width: Values in a row.
        steps_per_call: Batches in a call of the train function.
        """
        # The last column counts. Batches in a call never get near the whole numbers that float32 can tell apart.
        self._newest = tf.Variable(tf.zeros((steps_per_call, width + 1)), trainable=False, name="failguard_rows")
        self.is_urgent = False
        self._rows: list[list[float]] = []

    def write(self, values: list[Any], logs: Any) -> Any:
        """Write one row, see :class:`Rows`."""
        before = self._newest.read_value()
        row = tf.stack([*values, before[-1, -1] + 1.0])
        self._newest.assign(tf.concat([before[1:], row[None]], axis=0))
        return logs

    def collect(self, logs: Any) -> Any:
        """Take rows out of what a call returned, see :class:`Rows`."""
        newest = self._newest.numpy()
        n = int(newest[-1, -1])
        if n:
            rows = newest[-n:, :-1]
            self._rows.extend(rows.tolist())
            self.is_urgent = self.is_urgent or not bool(np.isfinite(rows).all())
            self._newest.assign(tf.zeros_like(self._newest))
        return logs

    def read(self) -> list[list[float]]:
        """The rows since the last time."""
        rows, self._rows, self.is_urgent = self._rows, [], False
        return rows
