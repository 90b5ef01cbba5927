"""Measuring on an accelerator: nothing in a step waits for the device."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from torch import Tensor

from failguard.core.facts import Facts
from failguard.guard import Guard
from failguard.torch.measure import gradients, norm_on_device
from failguard.torch.readback import Readback
from failguard.torch.watch import IN_STEP_EVERY, BatchInHand, StepWatch, parameters_of

__all__ = ["DeviceStepWatch"]

KEPT_BATCHES = 2  # batches kept for a late look; each holds device memory


@dataclass(frozen=True, slots=True)
class _Sent:
    index: int
    updates: int
    cost_s: float


class DeviceStepWatch(StepWatch):
    """A :class:`StepWatch` whose numbers travel as one row a batch and reach the guard a step or two later.

    So a bad update is not dropped: training stops within two steps, and the guard puts back the best weights or says
    that the weights are not finite.
    """

    def __init__(self, *args: Any, readback: Readback | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._readback = Readback() if readback is None else readback
        self._sent = 0
        self._late: list[BatchInHand] = []
        self._loss: Tensor | None = None
        self._near_input: Tensor | None = None
        self._norm: Tensor | None = None
        self._cost_s = 0.0

    def start(self, guard: Guard, facts: Facts) -> None:
        """As in :class:`StepWatch`."""
        super().start(guard, facts)
        self._sent = guard.step

    def take_loss(self, loss: Any, factor: float = 1.0) -> None:
        """As in :class:`StepWatch`; a loss on the device stays there."""
        if not (isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex()):
            self._guard.note("The loss is not a tensor with one real number, so failguard sees none. Reduce it first.")
            return
        if not self._graph_is_read:
            self._read_graph(loss)
        if self._loss is None:
            self._loss = loss.detach() if factor == 1.0 else loss.detach() * factor
            self._has_loss = True

    def before_update(self, optimizer: Any, *, scale: Any = 1.0, once_per_batch: bool = False) -> bool:
        """As in :class:`StepWatch`, but nothing is known yet: always ``True``."""
        self._updates += 1
        if self._updates > 1:
            return True
        cadence = self._guard.accounting.gradients
        if self._sent % IN_STEP_EVERY == 0 if self._in_step else cadence.due(self._sent):
            started = perf_counter()
            found = gradients(parameters_of(optimizer))
            if found:
                self._norm = norm_on_device(found) / scale
            self._cost_s = perf_counter() - started
            cadence.ran(self._sent, self._cost_s, self._guard.typical_step_s)
        else:
            self._near_input = self._sentinel(optimizer).on_device()
        return True

    def end_batch(self) -> None:
        """The batch is over: send its row, take in what has arrived."""
        if self._step is not None:
            self._late = [*self._late[-(KEPT_BATCHES - 1) :], self._step]
        self._readback.push(
            (self._loss, self._near_input, self._norm), context=_Sent(self._sent, self._updates, self._cost_s)
        )
        self._sent += 1
        self._loss = self._near_input = self._norm = None
        self._cost_s = 0.0
        self._take_in()
        self._step = None

    def settle(self) -> None:
        """Take in everything that is still on its way."""
        self._take_in(wait=True)
        super().settle()

    def _take_in(self, *, wait: bool = False) -> None:
        guard = self._guard
        for row in self._readback.arrived(wait=wait):
            loss, near_input, norm = row.values
            sent: _Sent = row.context
            if loss is not None:
                guard.record_loss(loss)
            if norm is not None:
                guard.record_gradient(norm, sent.cost_s)
            elif near_input is not None:
                guard.check_gradient(near_input)
            guard.optimizer_steps += min(sent.updates, 1)
            guard.end_batch()
            self._late = [batch for batch in self._late if batch.index > sent.index]

    def _index(self) -> int:
        return self._sent

    def _kept(self, index: int) -> BatchInHand | None:
        return next((batch for batch in self._late if batch.index == index), None)
