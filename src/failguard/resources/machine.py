"""What the machine offers to this process: memory and CPUs, with the limits of its container taken into account."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_memory_bytes", "container_readings", "total_memory_bytes", "usable_cpus"]

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# A limit this large means none: cgroup v1 writes the largest page-aligned number.
NO_LIMIT_BYTES = 1 << 60


def available_memory_bytes() -> int | None:
    """Host memory that this process can still take without swapping, in bytes.

    The smaller one of what the machine has and what the process's control group (a container) leaves.

    Returns:
        ``None`` where it cannot be read.
    """
    amounts = []
    try:
        import psutil

        amounts.append(int(psutil.virtual_memory().available))
    except Exception:  # noqa: BLE001 - psutil raises what the platform raises; no reading is an answer
        pass
    limit = _group_memory_limit_bytes()
    if limit is not None:
        used = _group_memory_used_bytes()
        if used is not None:
            amounts.append(max(limit - used, 0))
    return min(amounts) if amounts else None


def total_memory_bytes() -> int | None:
    """Host memory that this process could have, in bytes: the machine's or its control group's, the smaller one."""
    amounts = []
    try:
        import psutil

        amounts.append(int(psutil.virtual_memory().total))
    except Exception:  # noqa: BLE001 - see above
        pass
    limit = _group_memory_limit_bytes()
    if limit is not None:
        amounts.append(limit)
    return min(amounts) if amounts else None


def container_readings() -> dict[str, float]:
    """What the control group of this process limits and holds.

    Returns:
        ``memory_limit_bytes`` and ``memory_used_bytes`` (without page cache) where memory is limited, and
        ``cpu_throttled_s`` (so far, of all its processes together) where CPU time is. Absent where there is no limit.
    """
    found: dict[str, float] = {}
    limit = _group_memory_limit_bytes()
    if limit is not None:
        found["memory_limit_bytes"] = float(limit)
        used = _group_memory_used_bytes()
        if used is not None:
            found["memory_used_bytes"] = float(used)
    if _group_cpus() is not None:
        for line in (_read("cpu", "cpu.stat") or "").splitlines():
            name, _, value = line.partition(" ")
            if name in ("throttled_usec", "throttled_time") and value.isdigit():  # version 1 counts nanoseconds
                found["cpu_throttled_s"] = int(value) / (1e6 if name == "throttled_usec" else 1e9)
    return found


def usable_cpus() -> float | None:
    """CPUs that this process may use: its affinity, or the quota of its control group where that is less.

    A quota can be a fraction of a CPU.
    """
    count: float | None
    try:
        count = float(len(os.sched_getaffinity(0)))
    except (AttributeError, OSError):  # not on every platform
        cpus = os.cpu_count()
        count = None if cpus is None else float(cpus)
    quota = _group_cpus()
    if quota is None:
        return count
    return quota if count is None else min(count, quota)


def _group_folders(controller: str) -> list[Path]:
    """Folders of this process's control group: version 2 first, then version 1; within a container the root."""
    folders: list[Path] = []
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inner = path.strip("/")
        if controllers == "":
            folders[:0] = [CGROUP_ROOT / inner, CGROUP_ROOT]
        elif controller in controllers.split(","):
            folders += [CGROUP_ROOT / controller / inner, CGROUP_ROOT / controller]
    return folders


_found: dict[tuple[Path, Path, int, str, tuple[str, ...]], Path] = {}


def _read(controller: str, *names: str) -> str | None:
    """The text of the first of these files that exists in the process's control group."""
    key = (OWN_CGROUPS, CGROUP_ROOT, os.getpid(), controller, names)
    try:  # a process seldom changes its group, and looking for the file costs more than reading it
        return _found[key].read_text().strip()
    except (KeyError, OSError):
        pass
    for folder in _group_folders(controller):
        for name in names:
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                continue
            _found[key] = folder / name
            return text
    return None


def _group_memory_limit_bytes() -> int | None:
    text = _read("memory", "memory.max", "memory.limit_in_bytes")
    if text is None or not text.isdigit() or int(text) >= NO_LIMIT_BYTES:
        return None
    return int(text)


def _group_memory_used_bytes() -> int | None:
    """What the group holds, without the page cache that is given back on demand."""
    text = _read("memory", "memory.current", "memory.usage_in_bytes")
    if text is None or not text.isdigit():
        return None
    used = int(text)
    for line in (_read("memory", "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return max(used - int(value), 0)
    return used


def _group_cpus() -> float | None:
    text = _read("cpu", "cpu.max")
    if text is not None:
        quota, _, period = text.partition(" ")
    else:
        quota, period = _read("cpu", "cpu.cfs_quota_us") or "", _read("cpu", "cpu.cfs_period_us") or ""
    if not quota.isdigit() or not period.isdigit() or int(period) == 0 or int(quota) == 0:
        return None
    return int(quota) / int(period)
