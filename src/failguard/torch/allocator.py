"""Numbers of torch's own allocator, in words people know."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["allocator_probe"]

Reading = Callable[[], dict[str, float]]


def allocator_probe(device: torch.device) -> tuple[Reading, Callable[[], float]] | None:
    """How to read the memory that torch holds on a device.

    Returns:
        A function for the sampler and one for the ends of steps (bytes in tensors); ``None`` where there is no
        allocator to ask. The first gives ``gpu_memory_allocated_bytes`` (in tensors), ``gpu_memory_reserved_bytes``
        (taken from the device), ``gpu_memory_peak_bytes`` (in tensors, so far), ``gpu_allocation_retries`` (the cache
        was emptied to make room) and ``gpu_out_of_memory_events``. Neither waits for the device.
    """
    if device.type == "cuda":

        def cuda() -> dict[str, float]:
            stats = torch.cuda.memory_stats(device)
            names = {
                "gpu_memory_allocated_bytes": "allocated_bytes.all.current",
                "gpu_memory_reserved_bytes": "reserved_bytes.all.current",
                "gpu_memory_peak_bytes": "allocated_bytes.all.peak",
                "gpu_allocation_retries": "num_alloc_retries",
                "gpu_out_of_memory_events": "num_ooms",
            }
            return {name: float(stats[key]) for name, key in names.items() if key in stats}

        return cuda, lambda: float(torch.cuda.memory_allocated(device))
    if device.type == "mps":

        def mps() -> dict[str, float]:
            return {
                "gpu_memory_allocated_bytes": float(torch.mps.current_allocated_memory()),
                "gpu_memory_reserved_bytes": float(torch.mps.driver_allocated_memory()),
            }

        return mps, lambda: float(torch.mps.current_allocated_memory())
    return None
