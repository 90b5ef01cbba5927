"""What is kept of the readings of one GPU: statistics, a histogram of its utilisation, and its energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from failguard.resources.series import Running

__all__ = ["GpuRecord", "over_cards"]

BINS = 10
LONGEST_GAP_S = 60.0  # power is not integrated over a longer time without a reading
_NOT_AVERAGED = frozenset({"energy_j", "throttle_reasons", "memory_total_bytes"})


class GpuRecord:
    """Collects the readings of one card in constant memory."""

    def __init__(self, index: int, name: str, *, is_slice: bool = False) -> None:
        """Args:
        index: Its number.
        name: Model name.
        is_slice: Power, energy and errors are those of a card that is shared with others.
        """
        self._known: dict[str, Any] = {"index": index, "name": name}
        if is_slice:
            self._known["is_slice"] = True
        self._values: dict[str, Running] = {}
        self._histogram = [0] * BINS
        self._counter_j: float | None = None
        self._counted_j: float | None = None
        self._integrated_j: float | None = None
        self._power_before: tuple[float, float] | None = None
        self._reasons = 0

    def add(self, elapsed_s: float, values: Mapping[str, float]) -> None:
        """Take in the readings of one moment."""
        for name, value in values.items():
            if name == "memory_total_bytes":
                self._known[name] = value
            elif name not in _NOT_AVERAGED:
                self._values.setdefault(name, Running()).add(value)
        self._reasons |= int(values.get("throttle_reasons", 0.0))
        utilization = values.get("utilization_percent")
        if utilization is not None:
            self._histogram[min(max(int(utilization * BINS / 100.0), 0), BINS - 1)] += 1
        counter = values.get("energy_j")
        if counter is not None:
            if self._counter_j is not None:  # a counter that went back was reset
                self._counted_j = (self._counted_j or 0.0) + max(counter - self._counter_j, 0.0)
            self._counter_j = counter
        power = values.get("power_w")
        if power is not None:
            before = self._power_before
            if before is not None and 0.0 < elapsed_s - before[0] <= LONGEST_GAP_S:
                step_j = 0.5 * (power + before[1]) * (elapsed_s - before[0])
                self._integrated_j = (self._integrated_j or 0.0) + step_j
            self._power_before = (elapsed_s, power)

    def to_dict(self, used: bool | None) -> dict[str, Any]:
        """The record as plain values.

        Args:
            used: Whether the run was seen on it; ``None`` where that is not known.

        Returns:
            ``index``, ``name``, ``memory_total_bytes``, the statistics of each field, ``energy_kwh`` with
            ``energy_source`` (``"counter"``, or ``"power"`` integrated over time), ``utilization_histogram``
            (readings in ten equal bins from 0 to 100 %), ``throttle_reasons``, ``used_by_run``.
        """
        found = {**self._known, **{name: running.to_dict() for name, running in self._values.items()}}
        if sum(self._histogram):
            found["utilization_histogram"] = list(self._histogram)
        energy = self._integrated_j if self._counted_j is None else self._counted_j
        if energy is not None:
            found["energy_kwh"] = energy / 3.6e6
            found["energy_source"] = "power" if self._counted_j is None else "counter"
        reasons = _reasons(self._reasons)
        if reasons:
            found["throttle_reasons"] = reasons
        if used is not None:
            found["used_by_run"] = used
        return found


def _reasons(bits: int) -> list[str]:
    from failguard.resources.nvml_health import THROTTLE_REASONS

    return [words for bit, words in THROTTLE_REASONS.items() if bits & bit]


def over_cards(cards: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The readings of all cards of a run as one, for detectors.

    Returns:
        ``gpu_utilization_percent`` (mean), ``gpu_throttled`` (share of the cards), ``gpu_errors`` (memory errors that
        could not be corrected, remapped rows, failed remaps, errors reported by the driver, lost cards),
        ``gpu_memory_left_bytes`` (of the fullest). Absent where no card gives them.
    """
    found: dict[str, float] = {}
    for name, source in (("gpu_utilization_percent", "utilization_percent"), ("gpu_throttled", "throttled")):
        values = [card[source] for card in cards if source in card]
        if values:
            found[name] = sum(values) / len(values)
    left = [
        card["memory_total_bytes"] - card["memory_used_bytes"]
        for card in cards
        if "memory_used_bytes" in card and "memory_total_bytes" in card
    ]
    if left:
        found["gpu_memory_left_bytes"] = min(left)
    errors = ("ecc_errors", "xid_errors", "remapped_rows", "row_remap_failed", "lost")
    if any(name in card for card in cards for name in errors):
        found["gpu_errors"] = sum(card.get(name, 0.0) for card in cards for name in errors)
    return found
