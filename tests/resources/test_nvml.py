"""NVML is played by a module of the same shape: the machines that run these tests need no GPU."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from failguard.resources import ResourceLimits, Sampler
from failguard.resources.nvml import GpuReadings

UUIDS = ["GPU-aaaa-1", "GPU-bbbb-2", "GPU-bbcc-3"]


class NVMLError_DriverNotLoaded(Exception):
    pass


class FakeNvml(ModuleType):
    """Three cards. ``broken`` names calls that raise."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.broken: set[str] = set()
        self.open = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in super().__getattribute__("broken"):

            def fail(*_: object) -> None:
                raise RuntimeError(f"{name}: Not Supported")

            return fail
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        if uuid != "MIG-x":
            raise RuntimeError("Not Found")
        return 7

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return UUIDS[handle].encode()

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"Card {handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=40 + handle)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=1000, total=4000)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> Any:
        own = SimpleNamespace(pid=os.getpid(), usedGpuMemory=300 if handle == 0 else None)
        return [SimpleNamespace(pid=-1, usedGpuMemory=600), own]

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 70_500

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 55


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("0,-1,2", [0]),
        ("0,9,1", [0]),
        ("GPU-aaaa-1", [0]),
        ("GPU-bbc", [2]),
        ("GPU-zzz", []),
        ("MIG-x", [-1]),
        ("MIG-y", []),
        ("NoDevFiles", []),
        (" 1 , 2 ", [1, 2]),
    ],
)
def test_only_the_visible_cards_are_read(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: list[int]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.index for gpu in GpuReadings().gpus] == expected


def test_readings_carry_their_units(nvml: FakeNvml) -> None:
    first, second, _ = GpuReadings().read()
    assert first == {
        "utilization_percent": 40.0,
        "memory_used_bytes": 1000.0,
        "memory_total_bytes": 4000.0,
        "process_memory_bytes": 300.0,
        "power_w": 70.5,
        "temperature_c": 55.0,
    }
    assert "process_memory_bytes" not in second, "not available is no reading"


@pytest.mark.parametrize(
    ("call", "absent"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilization_percent"),
        ("nvmlDeviceGetMemoryInfo", "memory_used_bytes"),
        ("nvmlDeviceGetComputeRunningProcesses", "process_memory_bytes"),
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
    ],
)
def test_a_field_that_a_card_does_not_give_is_absent(nvml: FakeNvml, call: str, absent: str) -> None:
    nvml.broken = {call}
    first = GpuReadings().read()[0]
    assert absent not in first
    assert len(first) >= 4


def test_a_card_without_a_name_has_readings(nvml: FakeNvml) -> None:
    nvml.broken = {"nvmlDeviceGetName"}
    readings = GpuReadings("0")
    assert readings.gpus[0].name == ""
    assert readings.read()[0]["power_w"] == 70.5


def test_without_a_driver_there_is_nothing_to_say(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise NVMLError_DriverNotLoaded("Driver Not Loaded")

    monkeypatch.setattr(nvml, "nvmlInit", init)
    readings = GpuReadings()
    assert (readings.gpus, readings.read(), readings.problem) == ([], [], None)


def test_a_broken_driver_is_named(nvml: FakeNvml) -> None:
    nvml.broken = {"nvmlInit"}
    assert "Not Supported" in (GpuReadings().problem or "")
    nvml.broken = {"nvmlDeviceGetCount"}
    assert "lists no GPUs" in (GpuReadings().problem or "")


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    readings = GpuReadings()
    assert readings.read() == []
    assert "cannot be imported" in (readings.problem or "")


def test_nvml_is_given_back(nvml: FakeNvml) -> None:
    readings = GpuReadings()
    assert nvml.open == 1
    readings.close()
    readings.close()
    assert nvml.open == 0
    assert readings.read() == []


def test_the_sampler_reports_each_card(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    s = Sampler(ResourceLimits(interval_s=3600))
    s.start()
    s.stop()
    summary = s.summary()
    one, zero = summary["gpus"]
    assert (one["index"], one["name"], one["utilization_percent"]["peak"]) == (1, "Card 1", 41.0)
    assert zero["process_memory_bytes"]["last"] == 300.0
    assert zero["memory_total_bytes"] == 4000.0
    assert summary["series"]["gpu1_power_w"][-1] == 70.5, "in the order of CUDA_VISIBLE_DEVICES"
    assert nvml.open == 0


def test_the_sampler_says_why_there_are_no_gpu_numbers(nvml: FakeNvml) -> None:
    nvml.broken = {"nvmlInit"}
    s = Sampler(ResourceLimits(interval_s=3600))
    s.start()
    s.stop()
    assert "Not Supported" in s.summary()["unreadable"]["gpus"]
    assert "gpus" not in s.summary()
