"""Numbers of the backend's own allocator, in the same words as for torch."""

from __future__ import annotations

from collections.abc import Callable

import keras

__all__ = ["allocator_probe"]

Reading = Callable[[], dict[str, float]]


def allocator_probe() -> tuple[Reading, Callable[[], float]] | None:
    """How to read the memory that the backend holds on the first GPU.

    Returns:
        As :func:`failguard.torch.allocator.allocator_probe`; ``None`` without a GPU, or where there is nothing to ask.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        from failguard.torch.allocator import allocator_probe as of_torch

        return of_torch(torch.device("cuda")) if torch.cuda.is_available() else None
    if backend == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_logical_devices("GPU"):
            return None

        def tensorflow() -> dict[str, float]:
            info = tf.config.experimental.get_memory_info("GPU:0")
            return {
                "gpu_memory_allocated_bytes": float(info["current"]),
                "gpu_memory_peak_bytes": float(info["peak"]),
            }

        return tensorflow, lambda: tensorflow()["gpu_memory_allocated_bytes"]
    if backend == "jax":
        import jax

        devices = [d for d in jax.local_devices() if d.platform != "cpu"]
        if not devices or devices[0].memory_stats() is None:
            return None

        def of_jax() -> dict[str, float]:
            stats = devices[0].memory_stats() or {}
            names = {"gpu_memory_allocated_bytes": "bytes_in_use", "gpu_memory_peak_bytes": "peak_bytes_in_use"}
            return {name: float(stats[key]) for name, key in names.items() if key in stats}

        return of_jax, lambda: of_jax()["gpu_memory_allocated_bytes"]
    return None
