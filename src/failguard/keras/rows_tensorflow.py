"""How rows leave a TensorFlow step: the cheapest way that each kind of step allows."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

__all__ = ["OutputRows", "QueueRows", "Rows", "VariableRows"]

KEY = "failguard"
CAPACITY = 8192


class Rows(Protocol):
    """Carries rows of float32 values from the step to Python.

    Attributes:
        early: Rows are written before the update rather than at the end of the step.
    """

    early: bool

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

    A queue that is full would block the step, so :meth:`collect` empties it in time by itself.
    """

    early = True

    def __init__(self, width: int, steps_per_call: int) -> None:
        """Args:
        width: Values in a row.
        steps_per_call: Batches in a call of the train function.
        """
        self._width = width
        self._steps = steps_per_call
        self._unread = 0
        with tf.device("CPU:0"):
            self._queue = tf.queue.FIFOQueue(CAPACITY + steps_per_call, [tf.float32] * width, shapes=[()] * width)

    def write(self, values: list[Any], logs: Any) -> Any:
        """Write one row, see :class:`Rows`."""
        return self._queue.enqueue(values)

    def collect(self, logs: Any) -> Any:
        """Take rows out of what a call returned, see :class:`Rows`."""
        self._unread += self._steps
        if self._unread > CAPACITY:  # nobody reads any more
            self.read()
        return logs

    def read(self) -> list[list[float]]:
        """The rows since the last time."""
        self._unread = 0
        n = int(self._queue.size())
        if n == 0:
            return []
        columns = [column.numpy().tolist() for column in self._queue.dequeue_many(n)]
        return [list(row) for row in zip(*columns, strict=True)]


class OutputRows:
    """For steps compiled by XLA, one a call: the row is one more output."""

    early = False

    def __init__(self) -> None:
        self._rows: list[list[float]] = []

    def write(self, values: list[Any], logs: Any) -> Any:
        """Write one row, see :class:`Rows`."""
        return {**logs, KEY: tf.stack(values)} if isinstance(logs, dict) else logs

    def collect(self, logs: Any) -> Any:
        """Take rows out of what a call returned, see :class:`Rows`."""
        row = logs.pop(KEY, None) if isinstance(logs, dict) else None
        if row is not None:
            self._rows.append(row.numpy().tolist())
        return logs

    def read(self) -> list[list[float]]:
        """The rows since the last time."""
        rows, self._rows = self._rows, []
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
            self._rows.extend(newest[-n:, :-1].tolist())
            self._newest.assign(tf.zeros_like(self._newest))
        return logs

    def read(self) -> list[list[float]]:
        """The rows since the last time."""
        rows, self._rows = self._rows, []
        return rows
