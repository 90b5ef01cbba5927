"""What tells of a GPU in trouble: slowed clocks, memory errors, errors that the driver reports, its bus."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from failguard.resources.pace import Pace

__all__ = ["THROTTLE_REASONS", "HealthReadings"]

# NVML's bits for slowed clocks that cost speed beyond what the card's power limit always costs. Not among them: idle,
# application clocks and the software power cap, which a busy card at its power limit shows in normal operation.
# https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
THROTTLE_REASONS = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
POWER_CAP = 0x4
SLOW_SHARE = 2e-4  # of a core: PCIe traffic is measured by the driver over 20 ms
XID_EVENT = 0x8
# Errors of the user's program, not of the card: 13 and 31 (bad access), 43 and 45 (stopped, killed).
# https://docs.nvidia.com/deploy/xid-errors
PROGRAM_XIDS = frozenset({13, 31, 43, 45})


class HealthReadings:
    """Reads one card. Counters count from the first reading, so that errors of before the run do not."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Args:
        nvml: The module ``pynvml``, initialised.
        handle: Of the whole card.
        """
        self._nvml = nvml
        self._handle = handle
        self._pace = Pace(SLOW_SHARE)
        self._start: dict[str, float] = {}
        self._xids = 0.0
        self._events = self._watch_events()

    def read(self) -> dict[str, float]:
        """Read everything once.

        Returns:
            ``throttled`` (1 where clocks are slowed by heat or a power brake, else 0), ``power_capped`` (the same for
            the power limit), ``throttle_reasons`` (NVML's bits), ``ecc_errors`` (that could not be corrected) and
            ``xid_errors`` (of the card) since the first reading, ``remapped_rows`` likewise, ``row_remap_failed`` and
            ``row_remap_pending`` (1 or 0); now and then ``pcie_sent_bytes_per_s`` and ``pcie_received_bytes_per_s``.
            Fields that the card does not give are absent.
        """
        nvml, handle = self._nvml, self._handle
        values: dict[str, float] = {}

        def take(name: str, read: Callable[[], float]) -> None:
            try:
                values[name] = float(read())
            except Exception:  # noqa: BLE001 - a field that this card or driver does not give
                return

        take("throttle_reasons", self._reasons)
        if "throttle_reasons" in values:
            reasons = int(values["throttle_reasons"])
            values["throttled"] = float(any(reasons & bit for bit in THROTTLE_REASONS))
            values["power_capped"] = float(bool(reasons & POWER_CAP))
        take("ecc_errors", lambda: self._since_start("ecc_errors", nvml.nvmlDeviceGetTotalEccErrors(handle, 1, 0)))
        if self._pace.due():
            started = time.perf_counter()
            try:
                _, uncorrectable, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
                values["remapped_rows"] = self._since_start("remapped_rows", uncorrectable)
                values["row_remap_pending"], values["row_remap_failed"] = float(bool(pending)), float(bool(failed))
            except Exception:  # noqa: BLE001 - as above
                pass
            take("pcie_sent_bytes_per_s", lambda: nvml.nvmlDeviceGetPcieThroughput(handle, 0) * 1024)
            take("pcie_received_bytes_per_s", lambda: nvml.nvmlDeviceGetPcieThroughput(handle, 1) * 1024)
            self._pace.took((time.perf_counter() - started) / 10)  # most of it is waiting
        if self._events is not None:
            self._take_events()
            values["xid_errors"] = self._xids
        return values

    def close(self) -> None:
        """Stop listening for errors."""
        events, self._events = self._events, None
        if events is not None:
            try:
                self._nvml.nvmlEventSetFree(events)
            except Exception:  # noqa: BLE001 - nothing is left to do with it
                pass

    def _reasons(self) -> int:
        read = getattr(self._nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        if read is None:  # bindings of before the rename
            read = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        return int(read(self._handle))

    def _since_start(self, name: str, count: float) -> float:
        start = self._start.setdefault(name, float(count))
        return max(float(count) - start, 0.0)

    def _watch_events(self) -> Any:
        """Listen for Xid errors, where the driver allows it to this user."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(self._handle, XID_EVENT, events)
        except Exception:  # noqa: BLE001 - not for slices, not in every container
            return None
        return events

    def _take_events(self) -> None:
        wait = getattr(self._nvml, "nvmlEventSetWait_v2", None) or self._nvml.nvmlEventSetWait
        for _ in range(16):
            try:
                event = wait(self._events, 0)
            except Exception:  # noqa: BLE001 - a timeout says that there is none
                return
            if int(event.eventData) not in PROGRAM_XIDS:
                self._xids += 1.0
