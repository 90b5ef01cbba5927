"""The memory picture at an out-of-memory error: what was wanted, what was free, who held the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping

from failguard.diagnosis.case import Case, Clue

__all__ = ["device_memory", "host_memory", "shared_memory"]

GB = 1e9
TIGHT = 0.15  # share of what the process could have had that was left at the least: it was running out
# The words of torch's allocator; sizes carry their unit.
_DEVICE = {
    "wanted": re.compile(r"tried to allocate ([\d.]+ [KMGT]?i?B)", re.IGNORECASE),
    "in all": re.compile(r"total capacity of ([\d.]+ [KMGT]?i?B)", re.IGNORECASE),
    "free": re.compile(r"of which ([\d.]+ [KMGT]?i?B) is free", re.IGNORECASE),
    "held by tensors": re.compile(r"([\d.]+ [KMGT]?i?B) is allocated by PyTorch", re.IGNORECASE),
    "reserved and unused": re.compile(r"([\d.]+ [KMGT]?i?B) is reserved by PyTorch but unallocated", re.IGNORECASE),
}


def device_memory(case: Case) -> Clue | None:
    """What the allocator's message says, and the peaks that were sampled."""
    if case.exception is None and "resource.oom" not in case.codes:
        return None
    message = case.exception.message if case.exception else ""
    parts = [f"{m.group(1)} {name}" for name, words in _DEVICE.items() if (m := words.search(message))]
    gpus = case.resources.get("gpus")
    if parts and isinstance(gpus, list):
        for i, gpu in enumerate(gpus[:8]):
            peak = _peak(gpu, "memory_used_bytes") if isinstance(gpu, Mapping) else None
            if peak is not None:
                parts.append(f"GPU {gpu.get('index', i)} held {peak / GB:.1f} GB at most")
    return Clue(0.5, f"device memory: {', '.join(parts)}") if parts else None


def host_memory(case: Case) -> Clue | None:
    """What the process held, and how little was left on the machine."""
    if case.root_code not in ("run.exception", "resource.oom", "resource.memory_growth"):
        return None
    peak = _peak(case.resources, "process_rss_bytes")
    free = _value(case.resources, "host_memory_available_bytes", "min")
    if peak is None or free is None or free > TIGHT * (peak + free):
        return None
    return Clue(1.0, f"the process held {peak / GB:.1f} GB of host memory at most, when {free / GB:.1f} GB were left")


def shared_memory(case: Case) -> Clue | None:
    """Loader workers hand batches over in shared memory, which containers keep small."""
    message = case.exception.message.lower() if case.exception else ""
    if "shared memory" in message or "bus error" in message:
        return Clue(0.5, "loader workers hand batches over in shared memory (/dev/shm), which is small in containers")
    return None


def _peak(values: Mapping[str, object], name: str) -> float | None:
    return _value(values, name, "peak")


def _value(values: Mapping[str, object], name: str, which: str) -> float | None:
    entry = values.get(name)
    value = entry.get(which) if isinstance(entry, Mapping) else None
    return float(value) if isinstance(value, int | float) else None
