"""The tap on the JAX backend. A compiled step has no side effects there, so a row is one more entry of its logs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from failguard.core.containment import Containment
from failguard.keras.tap import Gate, Row, Tap

__all__ = ["JaxTap"]

KEY = "failguard"
MOST_WAITING = 16  # rows, each with its batch; a CPU has no queue of steps to be kept filled
AROUND = (
    "Losses and gradients per step are not seen: train_step does not go through the loss metric and "
    "optimizer.stateless_apply. Epoch logs are watched, and bad updates are not kept from the weights."
)


class JaxTap(Tap):
    """Sees the loss where it enters the loss metric, and the gradients in ``optimizer.stateless_apply``.

    A bad update is dropped by choosing the old values among the results, never among the gradients. The loss is not
    known at that point: a bad loss is caught through its gradients.
    """

    def __init__(self, model: Any, gate: Gate, containment: Containment) -> None:
        super().__init__(model, gate, containment)
        self._scale = float(getattr(self.optimizer, "loss_scale_factor", None) or 1.0)
        self.drops = gate.gradient or self.is_scaled
        self._drops_here = gate.gradient and not self.is_scaled
        self._waiting: list[tuple[Any, Any]] = []  # rows on the device, with their batches
        self._most_waiting = 1 if jax.default_backend() == "cpu" else MOST_WAITING
        self._seen: list[Row] = []
        self._is_bad = False
        self._data: Any = None
        self._loss: Any = None
        self._squares: Any = None
        self._is_inside = False

    def _patch_all(self) -> None:
        self._patch(self.model, "train_step", self._around_step)
        self.model.__dict__["train_step"].failguard_tap = self
        for metric in self.model.metrics:
            if metric.name == "loss":
                self._patch(metric, "update_state", self._around_update)
                break
        if self.optimizer is not None:
            self._patch(self.optimizer, "stateless_apply", self._around_apply)

    def _build(self) -> None:
        """Keras loops over the steps of a call in Python; so does :meth:`_call`, which sees each of them."""
        steps = self.model.steps_per_execution
        self.model.steps_per_execution = 1
        try:
            self.model.make_train_function()
        finally:
            self.model.steps_per_execution = steps

    def _around_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def train_step(state: Any, data: Any) -> Any:
            if not self.is_calling or self.blind is not None:
                return original(state, data)
            try:
                self._is_inside = True
                logs, new_state = original(state, data)
                if self._loss is None or not isinstance(logs, dict):
                    self.blind = AROUND
                    return logs, new_state
                return {**logs, KEY: jnp.stack([self._loss, *(self._squares or [])])}, new_state
            finally:
                self._is_inside, self._loss, self._squares = False, None, None

        return train_step

    def _around_update(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def update_state(values: Any, *args: Any, **kwargs: Any) -> Any:
            if self._is_inside:
                self._loss = jnp.mean(jnp.asarray(values)).astype(jnp.float32)
            return original(values, *args, **kwargs)

        return update_state

    def _around_apply(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def stateless_apply(optimizer_variables: Any, grads: Any, trainable_variables: Any) -> Any:
            if not self._is_inside:
                return original(optimizer_variables, grads, trainable_variables)
            grads = list(grads)
            squares = [jnp.sum(jnp.square(g.astype(jnp.float32))) for g in grads if g is not None]
            old = (trainable_variables, optimizer_variables)
            if self._squares is None:
                self._note_variables(grads, (), {})
                scale = self._loss_scale(optimizer_variables)
                self._squares = [s / (scale * scale) for s in squares]
            new = original(optimizer_variables, grads, trainable_variables)
            if not self._drops_here:
                return new
            fine = jnp.all(jnp.isfinite(jnp.stack(squares))) if squares else True
            return jax.tree_util.tree_map(lambda n, o: jnp.where(fine, n, o), _lists(new), _lists(old))

        return stateless_apply

    def _loss_scale(self, optimizer_variables: Any) -> Any:
        if not self.is_scaled:
            return self._scale
        for variable, value in zip(self.optimizer.variables, optimizer_variables, strict=True):
            if variable is self.optimizer.dynamic_scale:
                return value
        return 1.0

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run the steps of a call, one by one."""
        self.is_calling = True
        try:
            return self._run_steps(function, *args)
        finally:
            self.is_calling = False

    def _run_steps(self, function: Callable[..., Any], state: Any, iterator: Any) -> Any:
        logs: Any = None
        for i in range(self.steps_per_call):
            try:
                data = next(iterator)
            except StopIteration:
                if i == 0:
                    raise
                break
            self._data = data
            logs, state = function(state, iter((data,)))
            row = logs.pop(KEY, None) if isinstance(logs, dict) else None
            if row is not None:
                self._waiting.append((row, data))
            self._read_what_is_done()
        self.is_due = self._is_bad or len(self._seen) >= self.every_steps or self.blind is not None
        return logs, state

    def _read_what_is_done(self, *, wait: bool = False) -> None:
        """Rows are read once the device is done with them: no waiting for a step that still runs."""
        while self._waiting and (wait or len(self._waiting) > self._most_waiting or self._waiting[0][0].is_ready()):
            values, batch = self._waiting.pop(0)
            values = jax.device_get(values)
            total = values[1:].sum(dtype=np.float64).item() if len(values) > 1 else None
            row = Row(values.item(0), None if total is None else math.sqrt(total), gradient_norms=np.sqrt(values[1:]))
            if row.is_bad:
                self._is_bad = True
                bad_norm = row.norm is not None and not math.isfinite(row.norm)
                row = row._replace(dropped=self._drops_here and bad_norm, batch=batch)
            self._seen.append(row)

    def take(self, *, wait: bool = False) -> list[Row]:
        """The rows since the last time, as far as the device is done with them."""
        self._read_what_is_done(wait=wait)
        rows, self._seen, self._is_bad, self.is_due = self._seen, [], False, False
        return rows

    def batch(self) -> Any:
        """The newest batch."""
        return self._data

    @property
    def batches_ahead(self) -> int:
        """Batches that the device is not done with."""
        return len(self._waiting) + len(self._seen)


def _lists(values: Any) -> tuple[list[Any], list[Any]]:
    """The pair of sequences that ``stateless_apply`` takes and gives, as lists: the same structure for both."""
    first, second = values
    return list(first), list(second)
