"""Readings of the process and its host. A value that cannot be read is left out, the others stay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from failguard.resources.host import HostReadings
from failguard.resources.tree import TreeReadings

__all__ = ["ProcessReadings", "free_bytes"]

LEAST_INTERVAL_S = 0.2  # processor time is counted in ticks of 10 ms: over less than this a share is noise


class ProcessReadings:
    """Reads what this process uses, and what its host has left.

    Attributes:
        unreadable: Quantities that could not be read, with the type of the error.
    """

    def __init__(self, directories: Sequence[str], pid: int | None = None) -> None:
        """Args:
        directories: Folders that are written to. They need not exist.
        pid: The process; ``None`` for this one.
        """
        import psutil

        self._psutil = psutil
        self._process = psutil.Process(pid)
        self._is_other = pid is not None and pid != os.getpid()
        self._directories = directories
        self._before: tuple[float, float] | None = None  # wall and processor time of this process, s
        self._host_before: tuple[float, float] | None = None  # busy and all processor time of the host, s
        self._io_start: tuple[int, int] | None = None
        self._tree = TreeReadings(self._process)
        self._host = HostReadings()
        self.unreadable: dict[str, str] = {}

    @property
    def pids(self) -> frozenset[int]:
        """This process and its children, as of the last look."""
        return self._tree.pids

    def read(self) -> dict[str, float]:
        """Read everything once.

        Returns:
            ``process_rss_bytes``, ``process_threads``, ``process_open_files`` (descriptors, handles on Windows),
            ``process_cpu_percent`` (100 is one CPU), ``host_cpu_percent`` (100 is all CPUs),
            ``host_memory_available_bytes``, ``disk_free_bytes`` (the fullest of the disks),
            ``process_disk_read_bytes`` and ``process_disk_written_bytes`` (since the first reading). Shares of CPU time
            need a second reading. Now and then also those of :class:`~failguard.resources.tree.TreeReadings` and
            :class:`~failguard.resources.host.HostReadings`, which cost more.
        """
        values: dict[str, float] = {}
        self._take(values, "process_rss_bytes", self._resident)
        self._take(values, "process_threads", lambda: float(self._process.num_threads()))
        self._take(values, "process_open_files", self._open_files)
        self._take(values, "host_memory_available_bytes", _available)
        self._take(values, "disk_free_bytes", self._disk_free)
        for name, read in (
            ("cpu_percent", self._cpu),
            ("disk_bytes", self._io),
            ("children", self._tree.read),
            ("host", self._host.read),
        ):
            try:
                values.update(read())
            except Exception as error:  # noqa: BLE001 - psutil raises its own and the platform's errors
                self._note(name, error)
        return values

    def _note(self, name: str, error: Exception) -> None:
        """Remember that something could not be read. That another process has ended is no failure to read it."""
        if not isinstance(error, self._psutil.NoSuchProcess):
            self.unreadable.setdefault(name, type(error).__name__)

    def _take(self, values: dict[str, float], name: str, read: Callable[[], float | None]) -> None:
        try:
            value = read()
        except Exception as error:  # noqa: BLE001 - as above: one field less
            self._note(name, error)
            return
        if value is not None:
            values[name] = value

    def _resident(self) -> float | None:
        rss = float(self._process.memory_info().rss)
        return rss if rss > 0 else None  # a process that has ended, and was not waited for

    def _open_files(self) -> float | None:
        count = getattr(self._process, "num_fds", None) or getattr(self._process, "num_handles", None)
        return None if count is None else float(count())

    def _disk_free(self) -> float | None:
        free = [f for d in self._directories if (f := free_bytes(d)) is not None]
        return float(min(free)) if free else None

    def _cpu(self) -> dict[str, float]:
        """CPU shares since the last reading that was far enough away."""
        values = {}
        now, used = time.monotonic(), time.process_time()
        if self._is_other:
            times = self._process.cpu_times()
            used = times.user + times.system
        if self._before is None:
            self._before, self._host_before = (now, used), self._host_times()
            return {}
        elapsed_s = now - self._before[0]
        if elapsed_s < LEAST_INTERVAL_S:
            return {}
        values["process_cpu_percent"] = max(100.0 * (used - self._before[1]) / elapsed_s, 0.0)
        self._before = (now, used)
        before, self._host_before = self._host_before, self._host_times()
        if before is not None and self._host_before[1] > before[1]:
            share = (self._host_before[0] - before[0]) / (self._host_before[1] - before[1])
            values["host_cpu_percent"] = min(max(100.0 * share, 0.0), 100.0)
        return values

    def _host_times(self) -> tuple[float, float]:
        """Busy and all processor time of the host. Not ``psutil.cpu_percent``: its memory is shared with the user's."""
        times: Any = self._psutil.cpu_times()
        # On Linux the time of guests is contained in user and nice.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        return total - idle, total

    def _io(self) -> dict[str, float]:
        if not hasattr(self._process, "io_counters"):  # macOS
            return {}
        counters: Any = self._process.io_counters()
        if self._io_start is None:
            self._io_start = (counters.read_bytes, counters.write_bytes)
        return {
            "process_disk_read_bytes": float(max(counters.read_bytes - self._io_start[0], 0)),
            "process_disk_written_bytes": float(max(counters.write_bytes - self._io_start[1], 0)),
        }


def _available() -> float | None:
    from failguard.resources.machine import available_memory_bytes

    available = available_memory_bytes()
    return None if available is None else float(available)


def free_bytes(directory: str) -> int | None:
    """Free space for this user on the disk of a folder, or of its nearest parent that exists, in bytes."""
    import shutil

    path = directory
    while True:
        try:
            usage = shutil.disk_usage(path)
            return (
                usage.free if usage.total > 0 else None
            )  # a pseudo file system such as /proc has no space to run out of
        except (FileNotFoundError, NotADirectoryError):
            parent = os.path.dirname(path)
            if parent == path:
                return None
            path = parent
