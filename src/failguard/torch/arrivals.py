"""Tensors that are read on the host: at once on a CPU, when they have arrived from an accelerator."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Arrivals", "together"]


class Arrivals:
    """Reads tensors without waiting for a device, in the order in which they were asked for."""

    def __init__(self, *, event: Callable[[], Any] | None = None) -> None:
        """Args:
        event: Makes what tells that a device has come so far, as ``torch.cuda.Event``; ``None`` reads at once.
        """
        self._event = event
        self._waiting: deque[tuple[Any, list[Tensor], Callable[[list[Tensor]], None]]] = deque()

    @property
    def is_late(self) -> bool:
        """Whether tensors are read later than asked for."""
        return self._event is not None

    @property
    def is_waiting(self) -> bool:
        """Whether something is on its way."""
        return bool(self._waiting)

    @torch.no_grad()
    def read(self, tensors: Sequence[Tensor], then: Callable[[list[Tensor]], None]) -> None:
        """Copy tensors to the host.

        Args:
            tensors: Of any shape and type; all of one device. Not many values: they are held until they have arrived.
            then: Gets the copies. On a CPU the tensors themselves, now.
        """
        if self._event is None:
            then(list(tensors))
            return
        # To pinned memory, since it need not block.
        copies = [t.detach().to("cpu", non_blocking=True, copy=True) for t in tensors]
        event = self._event()
        device = next((t.device for t in tensors if t.device.type == "cuda"), None)
        event.record(*() if device is None else (torch.cuda.current_stream(device),))
        self._waiting.append((event, copies, then))

    def take_in(self) -> None:
        """Hand over what has arrived."""
        while self._waiting and self._waiting[0][0].query():
            _, copies, then = self._waiting.popleft()
            then(copies)


def together(numbers: list[Tensor]) -> list[Tensor]:
    """Single numbers as one tensor, to be read at once; in a model over several devices on that of the first.

    Args:
        numbers: Of shape ().

    Returns:
        One tensor of shape (len(numbers),), float32; none without numbers.
    """
    if not numbers:
        return []
    device = numbers[0].device
    return [torch.stack([n.to(device, torch.float32, non_blocking=True) for n in numbers])]
