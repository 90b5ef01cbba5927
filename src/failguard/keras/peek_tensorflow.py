"""A batch of TensorFlow taken out of its iterator in Python, and handed on to the compiled step."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["Peek"]

ENDLESS = 1 << 62


class Peek:
    """Takes a batch out of the iterator of a fit and hands it on through an iterator of the same type.

    A compiled step takes its batch from the iterator by itself, so that nobody else knows when it came, nor under XLA
    what it holds. For an iterator of the same type nothing is traced or compiled anew, and results are the same bit by
    bit.

    Attributes:
        iterator: Hands on what :meth:`take` took.
    """

    def __init__(self, iterator: Any) -> None:
        """Args:
        iterator: One that :meth:`suits`.
        """
        self._spec = spec = iterator.element_spec
        leaves = tf.nest.flatten(spec)
        with tf.init_scope(), tf.device("CPU:0"):
            self._variables = variables = [
                tf.Variable(tf.zeros([0], leaf.dtype), shape=tf.TensorShape(None), trainable=False) for leaf in leaves
            ]

            def read(_: Any) -> Any:
                values = [tf.raw_ops.ReadVariableOp(resource=v.handle, dtype=v.dtype) for v in variables]
                for value, leaf in zip(values, leaves, strict=True):
                    value.set_shape(leaf.shape)
                return tf.nest.pack_sequence_as(spec, values)

            options = tf.data.Options()  # nothing may be read ahead
            options.autotune.enabled = False
            options.experimental_optimization.apply_default_optimizations = False
            self._data = tf.data.Dataset.range(ENDLESS).map(read).with_options(options)
            self.iterator = iter(self._data)

    @staticmethod
    def suits(iterator: Any) -> bool:
        """Whether batches can be taken out: an iterator of ``tf.data`` over plain tensors."""
        if not isinstance(iterator, tf.data.Iterator):
            return False
        leaves = tf.nest.flatten(iterator.element_spec)
        return bool(leaves) and all(type(leaf) is tf.TensorSpec and leaf.dtype.is_numpy_compatible for leaf in leaves)

    def fits(self, iterator: Any) -> bool:
        """Whether the batches of an iterator are like those of the first one."""
        return bool(iterator.element_spec == self._spec)

    def take(self, iterator: Any) -> Any:
        """The next batch, which :attr:`iterator` then hands on; ``None`` at the end of the data.

        Errors of the data pass through.
        """
        try:
            batch = next(iterator)
        except StopIteration:
            return None
        try:
            for variable, leaf in zip(self._variables, tf.nest.flatten(batch), strict=True):
                tf.raw_ops.AssignVariableOp(resource=variable.handle, value=leaf)
        except Exception:  # noqa: BLE001 - as when memory is short: the batch must reach the step all the same
            self.iterator, self._spec = iter(tf.data.Dataset.from_tensors(batch)), None
        return batch
