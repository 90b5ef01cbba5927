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
from failguard.torch.watch import IN_STEP_EVERY, RandomState, StepWatch, parameters_of

__all__ = ["DeviceStepWatch"]

KEPT_BATCHES = 2  # batches kept for a late look; each holds device memory


@dataclass(slots=True)
class _Sent:
    """A batch whose numbers are on their way."""

    index: int
    batch: Any
    random: RandomState | None
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
        self._late: list[_Sent] = []
        self._loss_row: Tensor | None = None
        self._near_input: Tensor | None = None
        self._norm: Tensor | None = None
        self._cost_s = 0.0

    def start(self, guard: Guard, facts: Facts) -> None:
        """As in :class:`StepWatch`."""
        super().start(guard, facts)
        self._sent = guard.step

    def before_update(
        self, optimizer: Any, *, factor: float = 1.0, scale: Any = 1.0, once_per_batch: bool = False
    ) -> bool:
        """As in :class:`StepWatch`, but nothing is known yet: always ``True``."""
        if self._loss is not None:
            self._record_loss(factor)
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
            sentinel = self._sentinels.get(id(optimizer)) or self._sentinel(optimizer)
            self._near_input = sentinel.on_device()
        return True

    def end_batch(self, *, factor: float = 1.0) -> None:
        """The batch is over: send its row, take in what has arrived."""
        if self._loss is not None:
            self._record_loss(factor)
        sent = _Sent(self._sent, self._batch, self._random, self._updates, self._cost_s)
        if len(self._late) >= KEPT_BATCHES:
            self._late.pop(0).batch = None
        self._late.append(sent)
        self._readback.push((self._loss_row, self._near_input, self._norm), context=sent)
        self._sent += 1
        self._loss_row = self._near_input = self._norm = None
        self._cost_s = 0.0
        self._batch = None
        self._take_in()

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
            self._late = [later for later in self._late if later.index > sent.index]

    def _index(self) -> int:
        return self._sent

    def _kept(self, index: int) -> tuple[Any, RandomState | None]:
        return next(((s.batch, s.random) for s in self._late if s.index == index), (None, None))

    def _record_loss(self, factor: float) -> None:
        """A loss on the device stays there."""
        loss, self._loss = self._loss, None
        if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
            self.reject_loss(loss)
        elif not self._has_loss:
            self._has_loss = True
            self._loss_row = loss.detach() if factor == 1.0 else loss.detach() * factor
