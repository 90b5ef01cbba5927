"""Readings of the NVIDIA GPUs that this process may use. Without a driver there are none; a missing field is absent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from failguard.resources.nvml_health import HealthReadings
from failguard.resources.pace import Pace

__all__ = ["Gpu", "GpuReadings"]

PROCESSES_SHARE = 2e-4  # of a core, for asking which processes are on a card


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card, or one slice of a card that is divided (MIG).

    Attributes:
        index: Its number in NVML (PCI bus order); -1 for a slice that was named by its UUID.
        name: Model name, ``""`` where it cannot be read.
        handle: NVML's handle.
        card: Handle of the whole card, for what slices do not have of their own: power, temperature, errors.
        is_slice: It is a slice.
    """

    index: int
    name: str
    handle: Any
    card: Any = None
    is_slice: bool = False

    @property
    def whole(self) -> Any:
        """Handle of the whole card."""
        return self.handle if self.card is None else self.card


class GpuReadings:
    """Reads the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves to this process.

    A number in ``CUDA_VISIBLE_DEVICES`` is taken as PCI bus order. CUDA's own default order differs on machines with
    cards of different speed, unless ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` is set. Of a card that is divided, a number means
    the first slice.

    Attributes:
        gpus: The cards.
        used: Positions in ``gpus`` on which this process or a child of its was seen; empty where NVML does not tell, as
            in containers with process numbers of their own.
        problem: Why there are no readings, ``None`` when there are or when the machine simply has no NVIDIA driver.
    """

    def __init__(self, visible: str | None = None) -> None:
        """Args:
        visible: In the form of ``CUDA_VISIBLE_DEVICES``; ``None`` reads that variable.
        """
        self.gpus: list[Gpu] = []
        self.used: set[int] = set()
        self.problem: str | None = None
        self._nvml: Any = None
        self._health: list[HealthReadings] = []
        self._processes_pace = Pace(PROCESSES_SHARE)
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
            self._health = [HealthReadings(pynvml, gpu.whole) for gpu in self.gpus]
        except Exception as error:  # noqa: BLE001 - as above
            self.problem = f"NVML lists no GPUs: {error}"

    def close(self) -> None:
        """Give NVML back. Calls are counted by NVML: other users of it are not affected."""
        for health in self._health:
            health.close()
        if self._nvml is not None:
            nvml, self._nvml = self._nvml, None
            try:
                nvml.nvmlShutdown()
            except Exception:  # noqa: BLE001 - nothing is left to do with it
                pass

    def read(self, pids: Collection[int] = ()) -> list[dict[str, float]]:
        """Read every card once.

        Args:
            pids: Processes that count as this one, beside itself.

        Returns:
            One dict a card: ``utilization_percent``, ``memory_used_bytes`` (of the whole card, all processes),
            ``memory_total_bytes``, ``process_memory_bytes``, ``power_w``, ``energy_j`` (the card's counter, since the
            driver was loaded), ``temperature_c``, ``clock_mhz``, and what
            :class:`~failguard.resources.nvml_health.HealthReadings` adds. Fields that a card does not give are absent.
        """
        if self._nvml is None:
            return []
        processes = self._processes_pace.due()
        started = time.thread_time()
        values = [
            self._read_one(position, gpu, frozenset(pids) | {os.getpid()}, processes=processes)
            for position, gpu in enumerate(self.gpus)
        ]
        if processes:  # all of it, as the driver's part of the cost cannot be told apart
            self._processes_pace.took(time.thread_time() - started)
        return values

    def _read_one(self, position: int, gpu: Gpu, pids: frozenset[int], *, processes: bool) -> dict[str, float]:
        nvml, handle, card = self._nvml, gpu.handle, gpu.whole
        values: dict[str, float] = {}
        lost = False

        def take(name: str, read: Callable[[], float | None]) -> None:
            nonlocal lost
            try:
                value = read()
            except Exception as error:  # noqa: BLE001 - a field that this card or driver does not give
                lost = lost or type(error).__name__ == "NVMLError_GpuIsLost"
                return
            if value is not None:
                values[name] = float(value)

        take("utilization_percent", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        take("memory_used_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used)
        take("memory_total_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total)
        if processes:
            take("process_memory_bytes", lambda: self._own_memory(position, handle, pids))
        take("power_w", lambda: nvml.nvmlDeviceGetPowerUsage(card) / 1000.0)
        take("energy_j", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000.0)
        take("temperature_c", lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU))
        take("clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM))
        values.update(self._health[position].read())
        if lost:  # it fell off the bus, or was taken away
            values["lost"] = 1.0
        return values

    def _own_memory(self, position: int, handle: Any, pids: frozenset[int]) -> float | None:
        """What this process and its children hold on the card.

        In a container NVML may know processes under other numbers, or know that there are some but not what they hold.
        """
        held: float | None = None
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid in pids:
                self.used.add(position)
                if process.usedGpuMemory is not None:
                    held = (held or 0.0) + float(process.usedGpuMemory)
        return held

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
                return self._slice(-1, self._nvml.nvmlDeviceGetHandleByUUID(part))
            except Exception:  # noqa: BLE001 - no such slice
                return None
        if not part.startswith("GPU-"):
            return None
        for index, handle in enumerate(handles):
            if _text(self._nvml.nvmlDeviceGetUUID(handle)).startswith(part):  # CUDA takes an abbreviated one too
                return self._gpu(index, handle)
        return None

    def _gpu(self, index: int, handle: Any) -> Gpu:
        """The card, or its first slice where it is divided: that is the one CUDA takes."""
        nvml = self._nvml
        try:
            is_divided = nvml.nvmlDeviceGetMigMode(handle)[0] == 1
            mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0) if is_divided else None
        except Exception:  # noqa: BLE001 - most cards cannot be divided, older drivers do not know of it
            mig = None
        if mig is not None:
            return Gpu(index, self._name(mig), mig, card=handle, is_slice=True)
        return Gpu(index, self._name(handle), handle)

    def _slice(self, index: int, handle: Any) -> Gpu:
        try:
            card = self._nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        except Exception:  # noqa: BLE001 - then the fields of the whole card are absent
            card = None
        return Gpu(index, self._name(handle), handle, card=card, is_slice=True)

    def _name(self, handle: Any) -> str:
        try:
            return _text(self._nvml.nvmlDeviceGetName(handle))
        except Exception:  # noqa: BLE001 - a card without a readable name still has readings
            return ""


def _text(value: object) -> str:
    # Older bindings give bytes.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
