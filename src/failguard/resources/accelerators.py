"""The GPUs of a run, whoever made them, and what is kept of their readings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from failguard.resources.amd import AmdReadings
from failguard.resources.gpu_record import GpuRecord, over_cards
from failguard.resources.nvml import GpuReadings

__all__ = ["Accelerators"]


class Accelerators:
    """Reads the GPUs that the environment leaves to this process. Made and read on the sampling thread.

    Attributes:
        problem: Why there are no readings, ``None`` when there are or when there is no GPU.
        records: One a card.
    """

    def __init__(self) -> None:
        self._nvidia = GpuReadings()
        self._amd = AmdReadings()
        self.problem = self._nvidia.problem
        self.records = [GpuRecord(g.index, g.name, is_slice=g.is_slice) for g in self._nvidia.gpus]
        self.records += [GpuRecord(i, name) for i, name in enumerate(self._amd.names)]

    def read(self, pids: Collection[int]) -> list[dict[str, float]]:
        """Read every card once, in the order of :attr:`records`."""
        return [*self._nvidia.read(pids), *self._amd.read()]

    def together(self, cards: list[dict[str, float]]) -> dict[str, float]:
        """The cards that the run is on, as one; see :func:`~failguard.resources.gpu_record.over_cards`."""
        used = self._nvidia.used
        return over_cards([card for i, card in enumerate(cards) if i in used] if used else cards)

    def to_dicts(self) -> list[dict[str, Any]]:
        """What is kept of each card."""
        used = self._nvidia.used
        return [record.to_dict((i in used) if used else None) for i, record in enumerate(self.records)]

    def close(self) -> None:
        """Give the drivers back."""
        self._nvidia.close()
        self._amd.close()
