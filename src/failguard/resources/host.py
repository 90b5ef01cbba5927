"""Readings of the machine around the process: swap, traffic, shared memory, and the limits of its container."""

from __future__ import annotations

import os
import time
from typing import Any

from failguard.resources.machine import container_readings
from failguard.resources.pace import Pace

__all__ = ["HostReadings"]

SHARE = 1e-4  # of a core
LEAST_INTERVAL_S = 0.2
SHARED_MEMORY = "/dev/shm"  # where Linux keeps tensors that loader workers hand over


class HostReadings:
    """Reads what all processes of the machine share, as often as its cost allows."""

    def __init__(self) -> None:
        import psutil

        self._psutil: Any = psutil
        self._pace = Pace(SHARE)
        self._before_at: float | None = None
        self._before: dict[str, float] = {}

    def read(self) -> dict[str, float]:
        """Read everything once, when it is time for that.

        Returns:
            ``host_swap_used_bytes``; ``host_network_sent_bytes_per_s``, ``host_network_received_bytes_per_s``,
            ``host_disk_read_bytes_per_s``, ``host_disk_written_bytes_per_s`` since the reading before;
            ``shared_memory_free_bytes``; ``container_memory_limit_bytes``, ``container_memory_used_bytes`` and
            ``container_cpu_throttled_percent`` (of the time) where the process is limited. Empty between readings.
        """
        if not self._pace.due():
            return {}
        started = time.thread_time()
        values: dict[str, float] = {}
        for read in (self._swap, self._shared_memory, self._rates):
            try:
                values.update(read())
            except Exception:  # noqa: BLE001 - one part less: psutil raises what the platform raises
                continue
        self._pace.took(time.thread_time() - started)
        return values

    def _swap(self) -> dict[str, float]:
        return {"host_swap_used_bytes": float(self._psutil.swap_memory().used)}

    def _shared_memory(self) -> dict[str, float]:
        space = os.statvfs(SHARED_MEMORY)
        return {"shared_memory_free_bytes": float(space.f_bavail * space.f_frsize)} if space.f_blocks else {}

    def _rates(self) -> dict[str, float]:
        container = container_readings()
        totals = self._counters()
        throttled_s = container.pop("cpu_throttled_s", None)
        if throttled_s is not None:
            totals["throttled"] = throttled_s
        now = time.monotonic()
        values = {f"container_{name}": value for name, value in container.items()}
        before_at, before = self._before_at, self._before
        if before_at is not None and now - before_at < LEAST_INTERVAL_S:
            return values
        self._before_at, self._before = now, totals
        if before_at is None:
            return values
        for name, total in totals.items():
            if name not in before or total < before[name]:  # a counter that went back was reset
                continue
            rate = (total - before[name]) / (now - before_at)
            if name == "throttled":
                values["container_cpu_throttled_percent"] = min(100.0 * rate, 100.0)
            else:
                values[f"host_{name}_bytes_per_s"] = rate
        return values

    def _counters(self) -> dict[str, float]:
        totals: dict[str, float] = {}
        network = self._psutil.net_io_counters()
        if network is not None:
            totals["network_sent"], totals["network_received"] = float(network.bytes_sent), float(network.bytes_recv)
        try:
            disk = self._psutil.disk_io_counters()
        except Exception:  # noqa: BLE001 - not in every container
            disk = None
        if disk is not None:
            totals["disk_read"], totals["disk_written"] = float(disk.read_bytes), float(disk.write_bytes)
        return totals
