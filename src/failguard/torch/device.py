"""Measuring on an accelerator: nothing in a step waits for the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where
from failguard.errors import InputError
from failguard.guard import Guard
from failguard.torch.arrivals import Arrivals
from failguard.torch.batches import non_finite_part, non_finite_rows, tensors
from failguard.torch.locate import owner_of
from failguard.torch.measure import gradients, loss_value, norm_on_device
from failguard.torch.protect import random_state
from failguard.torch.readback import Readback, Row
from failguard.torch.snapshot import non_finite_parameters
from failguard.torch.watch import IN_STEP_EVERY, RandomState, StepWatch, parameters_of

__all__ = ["DeviceStepWatch"]

# Batches are kept for a late look while their numbers are on their way. They hold device memory.
KEPT_BATCHES = 16
KEPT_SHARE = 1 / 128  # of the device's memory
KEPT_BYTES_ELSEWHERE = 64 << 20  # where that is not known
WEIGH_BATCH_EVERY = 64  # steps between two sums over the sizes of a batch's tensors
PLACES = {"loss.non_finite": "loss", "gradient.non_finite": "gradient"}


@dataclass(slots=True)
class _Sent:
    """A batch whose numbers are on their way.

    Attributes:
        loss: A loss that was a plain number; one that is a tensor travels in the row.
        began, ended: CUDA events around the pass over all gradients.
    """

    index: int
    batch: Any
    batch_bytes: int
    random: RandomState | None
    updates: int
    loss: float | None
    cost_s: float
    began: Any
    ended: Any


class DeviceStepWatch(StepWatch):
    """A :class:`StepWatch` whose numbers travel as one row a batch and reach the guard when the device is done with it.

    So a bad update is not dropped: training stops as soon as the device has computed the bad step and the loop has
    come to the end of another one, and the guard puts back the best weights or says that the weights are not finite.
    A loop that runs ahead of the device is not held up for that.
    """

    def __init__(self, *args: Any, readback: Readback | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given_readback = readback
        self._sent = 0
        self._late: deque[_Sent] = deque()
        self._loss_row: Tensor | None = None
        self._loss_number: float | None = None
        self._near_input: Tensor | None = None
        self._norm: Tensor | None = None
        self._cost_s = 0.0
        self._began: Any = None
        self._ended: Any = None
        self._batch_bytes = self._weigh_at = 0
        self._taken_at = 0.0
        self._has_failed = False

    def start(self, guard: Guard, facts: Facts, optimizers: Sequence[Any] = ()) -> None:
        """As in :class:`StepWatch`."""
        self._readback = self._given_readback or Readback()
        self._sent = guard.step
        super().start(guard, facts, optimizers)
        first = next(self._model.parameters(), None)
        self._device = torch.device("cpu") if first is None else first.device
        self._room_bytes = _room_bytes(self._device)
        self._bad_at_start = non_finite_parameters(self._model)
        self._weigh_at = guard.step
        self._taken_at = perf_counter()

    def start_epoch(self, epoch: int) -> None:
        """As in :class:`StepWatch`."""
        super().start_epoch(epoch)
        self._taken_at = perf_counter()  # a validation is no part of a step

    def begin_batch(self, batch: Any) -> bool:
        """As in :class:`StepWatch`, by the batches that were sent: the guard may be some behind."""
        if not super().begin_batch(batch):
            return False
        if self._sent < self._chores_at:
            return True
        self._do_chores(batch)
        return False

    def remember_random_state(self) -> None:
        """As in :class:`StepWatch`, the device's stream included. Its state is a number on the host."""
        try:
            self._random = random_state(self._device)
        except RuntimeError:  # it cannot be read while a CUDA graph is captured
            self._random = None

    def before_update(
        self, optimizer: Any, *, factor: float = 1.0, scale: Any = 1.0, once_per_batch: bool = False
    ) -> bool:
        """As in :class:`StepWatch`, but nothing is known yet: always ``True``."""
        if self._loss is not None:
            self._record_loss(factor)
        self._newest_optimizer = optimizer
        self._updates += 1
        if self._updates == 1 and not self._has_failed:
            try:
                self._look_at_gradients(optimizer, scale)
                if self._inside is not None:
                    sentinel = self._sentinels.get(id(optimizer)) or self._sentinel(optimizer)
                    self._look_inside(self._inside, optimizer, sentinel, scale, wants_update=True)
            except RuntimeError as error:
                self._give_up(error)
        return True

    def end_quiet_batch(self) -> bool:
        """A row has to be sent for each batch."""
        return False

    def end_batch(self, *, factor: float = 1.0) -> None:
        """The batch is over: send its row, take in what has arrived."""
        if self._loss is not None:
            self._record_loss(factor)
        if self._has_failed:
            self._batch = None
            return
        sent = self._sending()
        self._sent += 1
        try:
            scale = self._scale if isinstance(self._scale, Tensor) else None
            self._readback.push((self._loss_row, self._near_input, self._norm, scale), context=sent)
        except RuntimeError as error:
            self._give_up(error)
        self._late.append(sent)
        self._loss_row = self._near_input = self._norm = self._scale = None
        self._loss_number = self._began = self._ended = None
        self._cost_s = 0.0
        self._batch = None
        self._take_in()

    def settle(self) -> None:
        """Take in everything that is still on its way."""
        self._take_in(wait=True)
        if not self._has_failed:
            super().settle()

    # Host

    def non_finite_weights(self) -> list[str]:
        """See :meth:`failguard.core.host.Host.non_finite_weights`. Of a device that has failed nothing is known."""
        return [] if self._has_failed else super().non_finite_weights()

    def locate(self, finding: Finding) -> Where | None:
        """See :meth:`failguard.core.host.Host.locate`.

        The bad update has reached the weights by now. So bad weights are a consequence, unless they were bad at the
        start, and a second forward pass would say nothing. Nor is it worth one where a loss scaler only tries a scale.
        """
        if self._has_failed or finding.severity is Severity.INFO:
            return None
        if finding.code in PLACES and non_finite_parameters(self._model):
            batch, _ = self._kept(finding.step)
            part = None if batch is None else non_finite_part(batch)
            if part is None and self._bad_at_start:
                return Where(module=owner_of(self._bad_at_start[0]), tensor="weight", batch=finding.step)
            rows = () if part is None else non_finite_rows(batch, part)
            return Where(tensor=part or PLACES[finding.code], batch=finding.step, rows=rows)
        return super().locate(finding)

    # How it is done

    def _look_at_gradients(self, optimizer: Any, scale: Any) -> None:
        cadence = self._guard.accounting.gradients
        if not (self._sent % IN_STEP_EVERY == 0 if self._in_step else cadence.due(self._sent)):
            sentinel = self._sentinels.get(id(optimizer)) or self._sentinel(optimizer)
            self._near_input = sentinel.on_device()
            return
        started = perf_counter()
        found = gradients(parameters_of(optimizer))
        if found:
            self._began = _mark(found[0].device)
            self._norm = norm_on_device(found) / scale
            self._ended = _mark(found[0].device)
        self._cost_s = perf_counter() - started
        cadence.ran(self._sent, self._cost_s, self._guard.typical_step_s)

    def _sending(self) -> _Sent:
        """What is kept of the batch in progress until its row has arrived."""
        batch, random = self._batch, self._random
        if batch is not None:
            if self._sent >= self._weigh_at:
                self._weigh_at = self._sent + WEIGH_BATCH_EVERY
                self._batch_bytes = sum(t.numel() * t.element_size() for t in tensors(batch))
            # The newest one gives way: the oldest is judged next.
            kept = [sent.batch_bytes for sent in self._late if sent.batch is not None]
            if len(kept) >= KEPT_BATCHES or sum(kept) + self._batch_bytes > self._room_bytes:
                batch = random = None
        return _Sent(
            index=self._sent,
            batch=batch,
            batch_bytes=self._batch_bytes,
            random=random,
            updates=self._updates,
            loss=self._loss_number,
            cost_s=self._cost_s,
            began=self._began,
            ended=self._ended,
        )

    def _take_in(self, *, wait: bool = False) -> None:
        """Tell the guard of every row that has arrived."""
        if self._has_failed:
            return
        try:
            rows = self._readback.arrived(wait=wait)
        except RuntimeError as error:
            self._give_up(error)
            return
        if rows:
            self._take_in_rows(rows)
        if self._inside is not None:
            self._inside.take_in()

    def _take_in_rows(self, rows: list[Row]) -> None:
        now = perf_counter()
        # Rows come in bursts where the loop runs ahead; they share the time since the last.
        step_s = (now - self._taken_at) / len(rows)
        self._taken_at = now
        for row in rows:
            self._take_in_row(row.values, row.context, step_s)

    def _take_in_row(self, values: tuple[float | None, ...], sent: _Sent, step_s: float) -> None:
        guard = self._guard
        loss, near_input, norm, scale = values
        loss = sent.loss if loss is None else loss
        if loss is not None:
            guard.record_loss(loss)
        if norm is not None:
            guard.record_gradient(norm, max(sent.cost_s, _elapsed_s(sent)))
        elif near_input is not None:
            guard.check_gradient(near_input)
        if scale is not None:
            guard.record_loss_scale(scale)
        guard.optimizer_steps += min(sent.updates, 1)
        guard.end_batch(step_s=step_s)
        while self._late and self._late[0].index <= sent.index:
            self._late.popleft()

    def _give_up(self, error: RuntimeError) -> None:
        """After an error of the device nothing can be read from it. The loop's own next call raises it too.

        Raises:
            RuntimeError: It is another one.
        """
        if "CUDA error" not in str(error):
            raise error
        self._has_failed = True
        self._late.clear()
        self._chores_at = float("inf")
        lost = self._sent - self._guard.step
        self._guard.note(
            f"The device failed ({str(error).splitlines()[0][:200]}); the numbers of {lost} step(s) before are lost."
        )

    def _arrivals(self) -> Arrivals:
        return Arrivals(event=self._readback.event)

    def _look_at(self, batch: Any) -> None:
        try:
            super()._look_at(batch)
        except RuntimeError as error:
            self._give_up(error)

    def _index(self) -> int:
        return self._sent

    def _kept(self, index: int) -> tuple[Any, RandomState | None]:
        return next(((s.batch, s.random) for s in self._late if s.index == index), (None, None))

    def _record_loss(self, factor: float) -> None:
        """A loss on the device stays there. Of several in one batch the first counts."""
        loss, self._loss = self._loss, None
        if self._has_loss:
            return
        if isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex():
            self._loss_row = loss.detach() if factor == 1.0 else loss.detach() * factor
        else:
            try:
                self._loss_number = loss_value(loss) * factor
            except (InputError, RuntimeError):
                self.reject_loss(loss)
                return
        self._has_loss = True


def _room_bytes(device: torch.device) -> int:
    """Device memory that kept batches may take."""
    if device.type != "cuda":
        return KEPT_BYTES_ELSEWHERE
    return int(KEPT_SHARE * torch.cuda.get_device_properties(device).total_memory)


def _mark(device: torch.device) -> Any:
    """An event in the device's stream that knows its time; ``None`` on a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _elapsed_s(sent: _Sent) -> float:
    """Seconds that the device took for the pass over all gradients. Its row has arrived, so both events have passed."""
    return 0.0 if sent.began is None else float(sent.began.elapsed_time(sent.ended)) / 1e3
