"""The tap on the TensorFlow backend: plain graphs, XLA, eager, one or several steps a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from failguard.core.containment import Containment
from failguard.keras.peek_tensorflow import Peek
from failguard.keras.rows_tensorflow import CAPACITY, OutputRows, QueueRows, Rows, VariableRows
from failguard.keras.tap import AROUND, Gate, Row, Tap

__all__ = ["TensorFlowTap", "why_blind"]

MARK = "failguard keeps this update from the weights"
COLUMNS, LEAST_COLUMNS = 256, 16  # of a gradient that is summed
PARTS = (None, "input", "target", "output")


def why_blind(model: Any) -> str | None:
    """Why the tap cannot be put on a model, ``None`` where it can."""
    strategy = model.distribute_strategy
    with strategy.scope():
        if not tf.distribute.has_strategy():
            return None
    return (
        f"Losses and gradients per step are not seen under {type(strategy).__name__}. Epoch logs are watched, and bad "
        "updates are not kept from the weights."
    )


class _CutShortError(Exception):
    """Ends an eager step before its update."""


class TensorFlowTap(Tap):
    """Sees the loss in ``compute_loss`` and the gradients where they are applied.

    A bad step without XLA raises an error of its own before any weight changes, which ends the step there and is
    caught by :meth:`call`: that costs two small operations, while a condition around the update costs a tenth to a
    third of a small model's step. Decoupled weight decay and the optimizer's count do not wait for gradients, so they
    may have run; the count is put back. XLA knows no errors: there the update is in one branch of a condition.

    A row holds the loss, under XLA the part that is not finite, and half the sum of squares of each gradient. A sum
    beyond the range of float32 (a norm above 2.6e19) counts as not finite.
    """

    def __init__(self, model: Any, gate: Gate, containment: Containment) -> None:
        super().__init__(model, gate, containment)
        steps = self.steps_per_call
        self._eager = bool(model.run_eagerly)
        self._xla = bool(model.jit_compile) and not self._eager
        self._rows: Rows
        if not self._xla:
            self._rows = QueueRows(steps)
        elif steps == 1:
            self._rows = OutputRows()
        else:
            self._rows = VariableRows(steps)
        self.may_peek = self._xla and steps == 1
        self.drops = bool(gate) or self.is_scaled
        if self.is_scaled:
            self._gate = Gate()
        self._count_start = 0
        self._applied = 0
        self._untaken = 0
        self._cut_short = False
        self._batch_variables: list[Any] = []
        self._batch_layout: Any = None
        self._peeking: Peek | None = None
        self._forget_step()

    def _forget_step(self) -> None:
        self._graph: Any = None
        self._data: Any = None
        self._loss: Any = None
        self._prediction: Any = None
        self._half_squares: Any = None
        self._part: Any = None
        self._is_written = False

    def _patch_all(self) -> None:
        self._patch(self.model, "compute_loss", self._around_loss)
        self._patch(self.model, "train_step", self._around_step)
        self.model.__dict__["train_step"].failguard_tap = self
        if self.optimizer is not None:
            self._patch(self.optimizer, "apply", self._around_apply)
            self._count_start = int(self.optimizer.iterations)

    # Wrappers. They run while a graph is traced, or at each step when eager.

    def _around_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def train_step(data: Any) -> Any:
            # Traced from elsewhere (somebody rebuilt the train function), nobody would read the rows.
            if not self.is_calling or self.blind is not None:
                return original(data)
            try:
                self._graph = tf.compat.v1.get_default_graph()
                self._data = data
                logs = original(data)
                written = self._contained(self._finish_step, logs)
                return logs if written is None else written
            finally:
                self._forget_step()

        return train_step

    def _around_loss(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            loss = original(*args, **kwargs)
            if self._is_inside():
                prediction = kwargs.get("y_pred", args[2] if len(args) > 2 else None)
                self._contained(self._see_loss, loss, prediction)
            return loss

        return compute_loss

    def _around_apply(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def apply(grads: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._is_inside() or self._loss is None:
                return original(grads, *args, **kwargs)
            grads = list(grads)
            fine = self._contained(self._see_gradients, grads, args, kwargs)
            if fine is None or not self._gate:
                return original(grads, *args, **kwargs)
            if self._eager:
                if not fine:
                    raise _CutShortError
                return original(grads, *args, **kwargs)
            if self._xla:

                def update() -> Any:
                    original(grads, *args, **kwargs)
                    return tf.constant(0.0)

                self._part = tf.cond(fine, update, self._first_bad_part)
                return None
            with tf.control_dependencies(fine):
                passed_on = _passed_on(grads)
            return original(passed_on, *args, **kwargs)

        return apply

    def _is_inside(self) -> bool:
        """Whether this is the graph of the step. Tensors of a function compiled inside it are out of reach."""
        return self._graph is not None and tf.compat.v1.get_default_graph() is self._graph

    def _see_loss(self, loss: Any, prediction: Any) -> None:
        loss = tf.convert_to_tensor(loss)
        if loss.shape.rank != 0:
            loss = tf.reduce_mean(loss)
        self._loss = tf.cast(loss, tf.float32)
        self._prediction = prediction

    def _see_gradients(self, grads: list[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Take the norms, write the row where it is due, and check.

        Returns:
            Whether the values are fine: a tensor under XLA, a bool when eager; else operations that fail if not.
        """
        if self._half_squares is None:
            self._note_variables(grads, args, kwargs)
            self._half_squares = _half_square_sums(grads, self._xla)
            if self._half_squares and (self.is_scaled or getattr(self.optimizer, "loss_scale_factor", None)):
                scale = tf.cast(self.optimizer.scale_loss(tf.constant(1.0)), tf.float32)
                self._half_squares = tf.unstack(tf.stack(self._half_squares) / tf.square(scale))
        if self._xla:
            return tf.reduce_all(tf.math.is_finite(self._gated()))
        # The row and the batch must be out before the step is cut short.
        first = []
        gated = None
        if not self._is_written:
            self._is_written = True
            row = tf.stack([self._loss, *self._half_squares])
            gated = row if self._gate.loss and self._gate.gradient else None
            first = [*self._keep_batch(), self._rows.write(row, None)]
        if not self._gate:
            return True if self._eager else []
        gated = self._gated() if gated is None else gated
        if self._eager:
            return bool(np.isfinite(gated.numpy()).all())
        with tf.control_dependencies([op for op in first if op is not None]):
            return [tf.debugging.check_numerics(gated, MARK)]

    def _gated(self) -> Any:
        """The values that keep an update from the weights. float32, shape (n,)."""
        values = [self._loss] if self._gate.loss else []
        return tf.stack([*values, *(self._half_squares if self._gate.gradient else [])] or [tf.constant(0.0)])

    def _finish_step(self, logs: Any) -> Any:
        if self._loss is None:
            self.blind = AROUND
            return logs
        half_squares = self._half_squares or []
        if self._rows.early:
            if not self._is_written:
                self._keep_batch()
                self._rows.write(tf.stack([self._loss, *half_squares]), None)
            return logs
        part = tf.constant(0.0) if self._part is None else self._part
        if isinstance(self._rows, OutputRows) and not isinstance(logs, dict):
            self.blind = AROUND
        return self._rows.write(tf.stack([self._loss, part, *half_squares]), logs)

    def _first_bad_part(self) -> Any:
        """Where the first bad value of the step is, as an index into ``PARTS``. Only under XLA, when it is bad."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(self._data)
        index = tf.constant(0.0)
        for i, values in ((3.0, self._prediction), (2.0, y), (1.0, x)):
            for leaf in tf.nest.flatten(values):
                if isinstance(leaf, tf.Tensor) and leaf.dtype.is_floating:
                    index = tf.where(tf.reduce_all(tf.math.is_finite(leaf)), index, i)
        return index

    def _keep_batch(self) -> list[Any]:
        """Keep the batch. Without a copy: the variables take hold of the tensors."""
        if self._eager:
            self._batch_layout = self._data
            return []
        leaves = tf.nest.flatten(self._data)
        if not all(isinstance(leaf, tf.Tensor) for leaf in leaves):
            self._batch_layout = None
            return []
        if [v.dtype for v in self._batch_variables] != [leaf.dtype for leaf in leaves]:
            with tf.init_scope(), tf.device("CPU:0"):
                self._batch_variables = [
                    tf.Variable(tf.zeros([0], leaf.dtype), shape=tf.TensorShape(None), trainable=False)
                    for leaf in leaves
                ]
        self._batch_layout = tf.nest.map_structure(lambda _: None, self._data)
        return [
            tf.raw_ops.AssignVariableOp(resource=v.handle, value=leaf)
            for v, leaf in zip(self._batch_variables, leaves, strict=True)
        ]

    # Between the steps

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run the train function, and catch what cut a bad step short."""
        if self._xla:
            self._batch_layout = None
            # The call after which something is due.
            if self.peeks and self.may_peek and self._untaken + 1 >= self.every_steps:
                args = self._peeked(args)
        self.is_calling = True
        try:
            logs = function(*args)
        except (_CutShortError, tf.errors.InvalidArgumentError) as error:
            if not isinstance(error, _CutShortError) and MARK not in str(error):
                raise
            self._cut_short = self.is_due = True
            self._forget_step()
            return self.model.get_metrics_result()
        finally:
            self.is_calling = False
        if self.blind is not None:
            self.is_due = True
            return logs
        logs = self._rows.collect(logs)
        self._untaken += self.steps_per_call
        if self._untaken >= self.every_steps or self._rows.is_urgent:
            self.is_due = True
            if self._untaken > CAPACITY:  # nobody takes any more
                self.take()
        return logs

    def _peeked(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Under XLA a batch is known only if it is taken out of the iterator before the call.

        Errors of the data pass through.
        """
        if self._peeking is None or not self._peeking.fits(args[0]):
            self._contained(self._start_peeking, args[0])
            if self._peeking is None:
                self.may_peek = False
                return args
        batch = self._batch_layout = self._peeking.take(args[0])
        return args if batch is None else (self._peeking.iterator, *args[1:])

    def _start_peeking(self, iterator: Any) -> None:
        self._peeking = None
        self._peeking = Peek(iterator) if Peek.suits(iterator) else None

    def take(self, *, wait: bool = False) -> list[Row]:
        """The rows since the last time. The last one of a call that was cut short is the bad one."""
        self.is_due = False
        self._untaken = 0
        rows = [row for block in self._rows.read() for row in self._rows_of(block)]
        if self._cut_short:
            self._cut_short = False
            if rows:
                rows[-1] = rows[-1]._replace(dropped=True, batch=self.batch())
            self._put_count_back(applied=self._applied + len(rows) - 1)
        self._applied += sum(not row.dropped for row in rows)
        return rows

    def _rows_of(self, block: Any) -> list[Row]:
        """Rows out of a block of float32, shape (n, width)."""
        squares = 2.0 * block[:, 2 if self._xla else 1 :]
        losses = block[:, 0].tolist()
        norms = np.sqrt(squares.sum(axis=1, dtype=np.float64)).tolist() if squares.shape[1] else [None] * len(block)
        each = np.sqrt(squares)
        rows = [Row(*values[:2], gradient_norms=values[2]) for values in zip(losses, norms, each, strict=True)]
        if self._xla and not (np.isfinite(block).all() and np.isfinite(squares).all()):
            rows = [
                row if not row.is_bad else row._replace(part=PARTS[int(part)], dropped=self._is_dropped(row))
                for row, part in zip(rows, block[:, 1], strict=True)
            ]
        return rows

    def _is_dropped(self, row: Row) -> bool:
        bad_loss, bad_norm = (value is not None and not math.isfinite(value) for value in row[:2])
        return (self._gate.loss and bad_loss) or (self._gate.gradient and bad_norm)

    def _put_count_back(self, applied: int) -> None:
        """The optimizer's count does not wait for gradients and may have gone on in the step that was cut short."""
        count = self.optimizer.iterations
        if int(count) == self._count_start + applied + 1:
            count.assign(self._count_start + applied)

    def batch(self) -> Any:
        """The newest batch."""
        if self._eager or self._xla or self._batch_layout is None:
            return self._batch_layout
        leaves = [tf.raw_ops.ReadVariableOp(resource=v.handle, dtype=v.dtype) for v in self._batch_variables]
        return tf.nest.pack_sequence_as(self._batch_layout, leaves)


def _half_square_sums(grads: list[Any], xla: bool) -> list[Any]:
    """Half the sum of squares of each gradient: float32, shape (). Of sparse ones the values, as Keras clips them."""
    parts = []
    for grad in grads:
        if grad is None:
            continue
        values = grad.values if isinstance(grad, tf.IndexedSlices) else tf.convert_to_tensor(grad)
        values = tf.cast(values, tf.float32)
        parts.append(_half_square_sum_in_columns(values) if xla else tf.nn.l2_loss(values))
    return parts


def _half_square_sum_in_columns(values: Any) -> Any:
    """As ``l2_loss``, in the form that XLA can vectorize on a CPU, where it sums one by one in the given order."""
    size = values.shape.num_elements()
    columns = math.gcd(size, COLUMNS) if size else 0
    if columns < LEAST_COLUMNS or size == columns:
        return tf.nn.l2_loss(values)
    sums = tf.reduce_sum(tf.square(tf.reshape(values, [-1, columns])), axis=0)
    return 0.5 * tf.reduce_sum(tf.abs(sums))  # without the step between, XLA makes one sum of the two


def _passed_on(grads: list[Any]) -> list[Any]:
    """The same gradients from one operation, so that all updates wait for what it waits for."""
    leaves = tf.nest.flatten([g for g in grads if g is not None], expand_composites=True)
    same = iter(tf.raw_ops.IdentityN(input=leaves)) if leaves else iter(())
    return [
        None
        if g is None
        else tf.nest.pack_sequence_as(
            g, [next(same) for _ in tf.nest.flatten(g, expand_composites=True)], expand_composites=True
        )
        for g in grads
    ]
