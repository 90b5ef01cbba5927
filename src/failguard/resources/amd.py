"""Readings of AMD GPUs through ``amdsmi``, where ROCm has installed it. The same names and units as for NVIDIA."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

__all__ = ["AmdReadings"]


class AmdReadings:
    """Reads the GPUs that ``HIP_VISIBLE_DEVICES`` or ``ROCR_VISIBLE_DEVICES`` leaves to this process.

    Attributes:
        names: Model names, one a card; none without the package or a card.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._handles: list[Any] = []
        self._smi: Any = None
        try:
            import amdsmi

            amdsmi.amdsmi_init()
        except Exception:  # noqa: BLE001 - not installed, or no such card: the usual case
            return
        self._smi = amdsmi
        try:
            handles = list(amdsmi.amdsmi_get_processor_handles())
        except Exception:  # noqa: BLE001 - as above
            handles = []
        visible = os.environ.get("HIP_VISIBLE_DEVICES") or os.environ.get("ROCR_VISIBLE_DEVICES")
        if visible is not None:
            numbers = [int(p) for p in visible.split(",") if p.strip().isdigit()]
            handles = [handles[n] for n in numbers if n < len(handles)]
        self._handles = handles
        self.names = [self._name(handle) for handle in handles]

    def close(self) -> None:
        """Give the library back."""
        smi, self._smi = self._smi, None
        if smi is not None:
            try:
                smi.amdsmi_shut_down()
            except Exception:  # noqa: BLE001 - nothing is left to do with it
                pass

    def read(self) -> list[dict[str, float]]:
        """Read every card once. See :meth:`failguard.resources.nvml.GpuReadings.read`; many fields are NVIDIA's."""
        return [] if self._smi is None else [self._read_one(handle) for handle in self._handles]

    def _read_one(self, handle: Any) -> dict[str, float]:
        smi = self._smi
        values: dict[str, float] = {}

        def take(name: str, read: Callable[[], Any], factor: float = 1.0) -> None:
            try:
                values[name] = float(read()) * factor  # "N/A" is no number
            except Exception:  # noqa: BLE001 - a field that this card or driver does not give
                return

        def energy_j() -> float:
            count = smi.amdsmi_get_energy_count(handle)
            return float(count["energy_accumulator"]) * float(count["counter_resolution"]) * 1e-6  # microjoules

        take("utilization_percent", lambda: smi.amdsmi_get_gpu_activity(handle)["gfx_activity"])
        take("memory_used_bytes", lambda: smi.amdsmi_get_gpu_vram_usage(handle)["vram_used"], 1024.0**2)
        take("memory_total_bytes", lambda: smi.amdsmi_get_gpu_vram_usage(handle)["vram_total"], 1024.0**2)
        take("power_w", lambda: smi.amdsmi_get_power_info(handle)["average_socket_power"])
        if "power_w" not in values:
            take("power_w", lambda: smi.amdsmi_get_power_info(handle)["current_socket_power"])
        take("energy_j", energy_j)
        take(
            "temperature_c",
            lambda: smi.amdsmi_get_temp_metric(
                handle, smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT
            ),
        )
        return values

    def _name(self, handle: Any) -> str:
        try:
            return str(self._smi.amdsmi_get_gpu_asic_info(handle)["market_name"])
        except Exception:  # noqa: BLE001 - a card without a readable name still has readings
            return ""
