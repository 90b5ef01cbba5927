"""The tap on the torch backend, where a step is plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from failguard.core.containment import Containment
from failguard.keras.tap import AROUND, Gate, Row, Tap

__all__ = ["TorchTap"]


class TorchTap(Tap):
    """Sees the loss in ``compute_loss`` and the gradients where they are applied; a bad update is not applied.

    Values are read at each step. Keras on torch reads the logs at each step anyway.
    """

    def __init__(self, model: Any, gate: Gate, containment: Containment) -> None:
        super().__init__(model, gate, containment)
        self.drops = bool(gate) or self.is_scaled
        if self.is_scaled:
            self._gate = Gate()
        self._seen: list[Row] = []
        self._is_bad = False
        self._data: Any = None
        self._is_inside = False
        self._loss: float | None = None
        self._norm: float | None = None
        self._gradient_norms: Any = None
        self._dropped = False

    def _patch_all(self) -> None:
        self._patch(self.model, "compute_loss", self._around_loss)
        self._patch(self.model, "train_step", self._around_step)
        self.model.__dict__["train_step"].failguard_tap = self
        if self.optimizer is not None:
            self._patch(self.optimizer, "apply", self._around_apply)

    def _around_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def train_step(data: Any) -> Any:
            if not self.is_calling or self.blind is not None:
                return original(data)
            self._begin_step(data)
            try:
                logs = original(data)
            finally:
                self._is_inside = False
            self._contained(self._end_step)
            return logs

        return train_step

    def _begin_step(self, data: Any) -> None:
        self._is_inside, self._data = True, data
        self._loss, self._norm, self._gradient_norms, self._dropped = None, None, None, False

    def _end_step(self) -> None:
        if self._loss is None:
            self.blind = AROUND
            return
        row = Row(self._loss, self._norm, self._dropped, gradient_norms=self._gradient_norms)
        row = row._replace(batch=self._data) if row.is_bad else row
        self._seen.append(row)
        self._is_bad = self._is_bad or row.is_bad

    def _around_loss(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            loss = original(*args, **kwargs)
            if self._is_inside:
                self._contained(self._see_loss, loss)
            return loss

        return compute_loss

    def _around_apply(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def apply(grads: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._is_inside:
                return original(grads, *args, **kwargs)
            grads = list(grads)
            self._contained(self._see_gradients, grads, args, kwargs)
            bad_norm = self._norm is not None and not math.isfinite(self._norm)
            bad_loss = self._loss is not None and not math.isfinite(self._loss)
            if (bad_norm and self._gate.gradient) or (bad_loss and self._gate.loss):
                self._dropped = True
                return None
            return original(grads, *args, **kwargs)

        return apply

    def _see_loss(self, loss: Any) -> None:
        self._loss = float(loss.detach().mean())

    @torch.no_grad()
    def _see_gradients(self, grads: list[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        present = [g for g in grads if g is not None]
        if self._norm is not None or not present:
            return
        if len(present) != len(self.applied) or len(grads) != len(present) + len(self.without_gradient):
            self._note_variables(grads, args, kwargs)
        norms = torch.stack(torch._foreach_norm(present)).float()
        norm = float(torch.linalg.vector_norm(norms))
        # The sum of squares may overflow where no gradient does.
        if not math.isfinite(norm) and all(bool(torch.isfinite(g).all()) for g in present):
            norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.double()) for g in present])))
        scale = float(self.optimizer.scale_loss(torch.ones(())))
        self._norm = norm / scale
        self._gradient_norms = norms if scale == 1.0 else norms / scale

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run one step."""
        self.is_calling = True
        try:
            logs = function(*args)
        finally:
            self.is_calling = False
        self.is_due = self._is_bad or len(self._seen) >= self.every_steps or self.blind is not None
        return logs

    def take(self, *, wait: bool = False) -> list[Row]:
        """The rows since the last time."""
        rows, self._seen, self._is_bad, self.is_due = self._seen, [], False, False
        return rows

    def batch(self) -> Any:
        """The newest batch."""
        return self._data
