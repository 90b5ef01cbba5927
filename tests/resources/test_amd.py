"""amdsmi is played by a module of the same shape."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from failguard.resources.accelerators import Accelerators
from failguard.resources.amd import AmdReadings


@pytest.fixture
def amdsmi(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake: Any = ModuleType("amdsmi")
    fake.amdsmi_init = fake.amdsmi_shut_down = lambda: None
    fake.amdsmi_get_processor_handles = lambda: [0, 1]
    fake.amdsmi_get_gpu_activity = lambda h: {"gfx_activity": 30 + h}
    fake.amdsmi_get_gpu_vram_usage = lambda h: {"vram_used": 2, "vram_total": 64}
    fake.amdsmi_get_power_info = lambda h: {"average_socket_power": "N/A", "current_socket_power": 300}
    fake.amdsmi_get_energy_count = lambda h: {"energy_accumulator": 2_000_000, "counter_resolution": 15.3}
    fake.AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    fake.AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)
    fake.amdsmi_get_gpu_asic_info = lambda h: {"market_name": "MI"}
    monkeypatch.setitem(sys.modules, "amdsmi", fake)
    for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return fake


def test_cards_are_read_in_the_same_units(amdsmi: Any) -> None:
    first, second = AmdReadings().read()
    assert first == {
        "utilization_percent": 30.0,
        "memory_used_bytes": 2.0 * 1024**2,
        "memory_total_bytes": 64.0 * 1024**2,
        "power_w": 300.0,
        "energy_j": pytest.approx(30.6),
    }, "no number and no call: no field"
    assert second["utilization_percent"] == 31.0


def test_only_the_visible_ones(amdsmi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1,7")
    assert [r["utilization_percent"] for r in AmdReadings().read()] == [31.0]


def test_without_the_package_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    readings = AmdReadings()
    assert (readings.names, readings.read()) == ([], [])
    readings.close()


def test_they_are_among_the_accelerators(amdsmi: Any) -> None:
    gpus = Accelerators()
    assert [record["name"] for record in gpus.to_dicts()] == ["MI", "MI"]
    assert gpus.together(gpus.read(()))["gpu_utilization_percent"] == 30.5
    gpus.close()
