"""Numbers of a step on an accelerator, read when they have arrived and never waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Readback", "Row"]

SLOTS = 64  # steps that the accelerator may lag behind before a push waits for the oldest
WIDTH = 4


class _Event(Protocol):
    def record(self, stream: Any = ...) -> None: ...
    def query(self) -> bool: ...
    def synchronize(self) -> None: ...


@dataclass(slots=True)
class Row:
    """Numbers of one batch.

    Attributes:
        values: One number for each that was pushed; ``None`` where there was none.
        context: Whatever was pushed with them.
    """

    values: tuple[float | None, ...]
    context: Any


class Readback:
    """A queue of small rows on their way from the device to the host.

    A row is copied to pinned memory without blocking, and an event behind it tells when it has arrived.

    Attributes:
        event: Makes an event.
    """

    def __init__(self, *, event: Callable[[], _Event] | None = None, pinned: bool = True) -> None:
        """Args:
        event: Makes an event; default ``torch.cuda.Event``.
        pinned: Whether host memory is pinned; it must be for copies that do not block.
        """
        self.event: Callable[[], _Event] = event or torch.cuda.Event
        self._buffer = torch.empty(SLOTS, WIDTH, dtype=torch.float32, pin_memory=pinned)
        self._waiting: deque[tuple[int, tuple[bool, ...], _Event, Any]] = deque()
        self._arrived: list[Row] = []
        self._next = 0

    @torch.no_grad()
    def push(self, values: tuple[Tensor | None, ...], context: Any = None) -> None:
        """Send a row on its way.

        Args:
            values: At most four numbers, tensors with one element; they may be on different devices.
            context: Comes back with the row.
        """
        if len(self._waiting) == SLOTS:  # a device this far behind holds the loop up anyway
            self._waiting[0][2].synchronize()
            self._arrived.append(self._take())
        present = tuple(v is not None for v in values)
        row = [v.detach().reshape(()).float() for v in values if v is not None]
        slot, self._next = self._next, (self._next + 1) % SLOTS
        device = next((v.device for v in row if v.device.type != "cpu"), None)
        if row:
            if device is not None:
                row = [v if v.device == device else v.to(device, non_blocking=True) for v in row]
            self._buffer[slot, : len(row)].copy_(torch.stack(row), non_blocking=True)
        event = self.event()
        if device is None:
            event.record()
        else:  # behind the copy: the present device of the program may be another one
            event.record(torch.cuda.current_stream(device))
        self._waiting.append((slot, present, event, context))

    def arrived(self, *, wait: bool = False) -> list[Row]:
        """Rows that have arrived since the last call, oldest first.

        Args:
            wait: Wait for all of them.
        """
        rows, self._arrived = self._arrived, []
        while self._waiting:
            event = self._waiting[0][2]
            if wait:
                event.synchronize()
            elif not event.query():
                break
            rows.append(self._take())
        return rows

    def _take(self) -> Row:
        slot, present, _, context = self._waiting.popleft()
        numbers = iter(self._buffer[slot].tolist())
        return Row(tuple(next(numbers) if there else None for there in present), context)
