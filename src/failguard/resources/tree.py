"""Readings of the processes that this one has started: data loader workers and whatever else runs for it."""

from __future__ import annotations

import time
from typing import Any

from failguard.resources.pace import Pace

__all__ = ["TreeReadings"]

SHARE = 1e-4  # of a core: listing processes means reading the table of all of them
UNIQUE_SHARE = 5e-5  # walking the pages of a process to tell what is its own
MOST_CHILDREN = 256  # whose memory is read; all are counted
LEAST_INTERVAL_S = 0.2  # as in failguard.resources.process


class TreeReadings:
    """Reads the children of this process, theirs included. Each may end at any moment; then it counts no more.

    Attributes:
        pids: The processes at the last reading, this one included.
    """

    def __init__(self, process: Any) -> None:
        """Args:
        process: The ``psutil.Process`` of this process.
        """
        self._process = process
        self._pace = Pace(SHARE)
        self._unique_pace = Pace(UNIQUE_SHARE)
        self._cpu_before: tuple[float, dict[int, float]] | None = None
        self.pids: frozenset[int] = frozenset({process.pid})

    def read(self) -> dict[str, float]:
        """Read the tree, when it is time for that.

        Returns:
            ``child_processes``, ``children_rss_bytes``, ``tree_rss_bytes`` (this process and its children; pages that
            they share count for each), ``children_cpu_percent`` (100 is one CPU; from the second reading on) and
            ``tree_uss_bytes`` (pages that no other process shares; rarer, as it costs more). Empty between readings.
        """
        values: dict[str, float] = {}
        if self._pace.due():
            started = time.thread_time()
            try:
                values.update(self._read_children())
            finally:
                self._pace.took(time.thread_time() - started)
        if self._unique_pace.due():
            started = time.thread_time()
            try:
                values.update(self._read_unique())
            finally:
                self._unique_pace.took(time.thread_time() - started)
        return values

    def _read_children(self) -> dict[str, float]:
        children = self._process.children(recursive=True)
        self.pids = frozenset({self._process.pid, *(child.pid for child in children)})
        rss = 0.0
        cpu_s: dict[int, float] = {}
        for child in children[:MOST_CHILDREN]:
            try:
                with child.oneshot():
                    rss += child.memory_info().rss
                    times = child.cpu_times()
                cpu_s[child.pid] = times.user + times.system
            except Exception:  # noqa: BLE001 - it ended, or belongs to another user
                continue
        values = {
            "child_processes": float(len(children)),
            "children_rss_bytes": rss,
            "tree_rss_bytes": rss + float(self._process.memory_info().rss),
        }
        now = time.monotonic()
        if self._cpu_before is not None and now - self._cpu_before[0] >= LEAST_INTERVAL_S:
            before_at, before = self._cpu_before
            used = sum(max(s - before[pid], 0.0) for pid, s in cpu_s.items() if pid in before)
            values["children_cpu_percent"] = 100.0 * used / (now - before_at)
        self._cpu_before = (now, cpu_s)
        return values

    def _read_unique(self) -> dict[str, float]:
        full = self._process.memory_full_info()
        if not hasattr(full, "uss"):
            return {}
        unique = float(full.uss)
        for pid in self.pids - {self._process.pid}:
            try:
                unique += type(self._process)(pid).memory_full_info().uss
            except Exception:  # noqa: BLE001 - as above
                continue
        return {"tree_uss_bytes": unique}
