"""Readings of the NVIDIA GPUs that this process may use. Without a driver there are none; a missing field is absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Gpu", "GpuReadings"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card.

    Attributes:
        index: Its number in NVML (PCI bus order).
        name: Model name, ``""`` where it cannot be read.
        handle: NVML's handle.
    """

    index: int
    name: str
    handle: Any


class GpuReadings:
    """Reads the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves to this process.

    A number in ``CUDA_VISIBLE_DEVICES`` is taken as PCI bus order. CUDA's own default order differs on machines with
    cards of different speed, unless ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` is set.

    Attributes:
        gpus: The cards.
        problem: Why there are no readings, ``None`` when there are or when the machine simply has no NVIDIA driver.
    """

    def __init__(self, visible: str | None = None) -> None:
        """Args:
        visible: In the form of ``CUDA_VISIBLE_DEVICES``; ``None`` reads that variable.
        """
        self.gpus: list[Gpu] = []
        self.problem: str | None = None
        self._nvml: Any = None
        if visible is None:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        try:
            import pynvml
        except Exception as error:  # noqa: BLE001 - a package of the same name may be broken in any way
            self.problem = f"pynvml cannot be imported: {type(error).__name__}"
            return
        try:
            pynvml.nvmlInit()
        except Exception as error:  # noqa: BLE001 - NVMLError, or what a broken driver library raises
            if type(error).__name__ not in ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded"):
                self.problem = f"NVML does not start: {error}"
            return
        self._nvml = pynvml
        try:
            self.gpus = self._visible(visible)
        except Exception as error:  # noqa: BLE001 - as above
            self.problem = f"NVML lists no GPUs: {error}"

    def close(self) -> None:
        """Give NVML back. Calls are counted by NVML: other users of it are not affected."""
        if self._nvml is not None:
            nvml, self._nvml = self._nvml, None
            try:
                nvml.nvmlShutdown()
            except Exception:  # noqa: BLE001 - nothing is left to do with it
                pass

    def read(self) -> list[dict[str, float]]:
        """Read every card once.

        Returns:
            One dict a card: ``utilization_percent``, ``memory_used_bytes`` (of the whole card, all processes),
            ``memory_total_bytes``, ``process_memory_bytes``, ``power_w``, ``temperature_c``. Fields that a card does
            not give are absent.
        """
        if self._nvml is None:
            return []
        return [self._read_one(gpu.handle) for gpu in self.gpus]

    def _read_one(self, handle: Any) -> dict[str, float]:
        nvml = self._nvml
        values: dict[str, float] = {}

        def take(name: str, read: Callable[[], float | None]) -> None:
            try:
                value = read()
            except Exception:  # noqa: BLE001 - a field that this card or driver does not give
                return
            if value is not None:
                values[name] = float(value)

        take("utilization_percent", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        take("memory_used_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used)
        take("memory_total_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total)
        take("process_memory_bytes", lambda: self._own_memory(handle))
        take("power_w", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0)
        take("temperature_c", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        return values

    def _own_memory(self, handle: Any) -> float | None:
        """What this process holds on the card. In a container NVML may know the process under another number."""
        own = os.getpid()
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == own and process.usedGpuMemory is not None:
                return float(process.usedGpuMemory)
        return None

    def _visible(self, visible: str | None) -> list[Gpu]:
        nvml = self._nvml
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        if visible is None:
            return [self._gpu(i, handle) for i, handle in enumerate(handles)]
        chosen: list[Gpu] = []
        for part in (p.strip() for p in visible.split(",")):
            gpu = self._find(part, handles)
            if gpu is None:  # like CUDA: what follows an entry that cannot be used is not visible
                break
            chosen.append(gpu)
        return chosen

    def _find(self, part: str, handles: list[Any]) -> Gpu | None:
        if part.isdigit():
            index = int(part)
            return self._gpu(index, handles[index]) if index < len(handles) else None
        if part.startswith("MIG-"):  # a slice has a handle of its own, but no number
            try:
                return self._gpu(-1, self._nvml.nvmlDeviceGetHandleByUUID(part))
            except Exception:  # noqa: BLE001 - no such slice
                return None
        if not part.startswith("GPU-"):
            return None
        for index, handle in enumerate(handles):
            if _text(self._nvml.nvmlDeviceGetUUID(handle)).startswith(part):  # CUDA takes an abbreviated one too
                return self._gpu(index, handle)
        return None

    def _gpu(self, index: int, handle: Any) -> Gpu:
        try:
            name = _text(self._nvml.nvmlDeviceGetName(handle))
        except Exception:  # noqa: BLE001 - a card without a readable name still has readings
            name = ""
        return Gpu(index, name, handle)


def _text(value: object) -> str:
    # Older bindings give bytes.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
