"""A card in trouble, played by a table of functions in which any may be missing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from failguard.resources.nvml import GpuReadings
from failguard.resources.nvml_health import HealthReadings


class GpuIsLost(Exception):
    pass


GpuIsLost.__name__ = "NVMLError_GpuIsLost"


def health(**functions: Any) -> HealthReadings:
    return HealthReadings(SimpleNamespace(**functions), "card")


def test_a_card_that_gives_nothing() -> None:
    assert health().read() == {}


@pytest.mark.parametrize(
    ("reasons", "throttled", "capped"),
    [(0x0, 0.0, 0.0), (0x1, 0.0, 0.0), (0x4, 0.0, 1.0), (0x8, 1.0, 0.0), (0x20, 1.0, 0.0), (0x84, 1.0, 1.0)],
)
def test_heat_and_brakes_throttle_idling_and_the_power_limit_do_not(
    reasons: int, throttled: float, capped: float
) -> None:
    values = health(nvmlDeviceGetCurrentClocksThrottleReasons=lambda card: reasons).read()
    assert (values["throttled"], values["power_capped"]) == (throttled, capped)
    assert values == health(nvmlDeviceGetCurrentClocksEventReasons=lambda card: reasons).read()


def test_errors_of_before_the_run_do_not_count() -> None:
    total = [7]
    readings = health(nvmlDeviceGetTotalEccErrors=lambda card, kind, counter: total[0])
    assert readings.read()["ecc_errors"] == 0.0
    total[0] = 9
    assert readings.read()["ecc_errors"] == 2.0


def test_rows_and_the_bus() -> None:
    values = health(
        nvmlDeviceGetRemappedRows=lambda card: (3, 1, 0, 1), nvmlDeviceGetPcieThroughput=lambda card, way: 1000 + way
    ).read()
    assert values == {
        "remapped_rows": 0.0,
        "row_remap_pending": 0.0,
        "row_remap_failed": 1.0,
        "pcie_sent_bytes_per_s": 1000 * 1024.0,
        "pcie_received_bytes_per_s": 1001 * 1024.0,
    }


def test_errors_that_the_driver_reports() -> None:
    waiting = [13, 79, 48]
    freed = []

    def wait(events: str, timeout_ms: int) -> Any:
        if not waiting:
            raise TimeoutError
        return SimpleNamespace(eventData=waiting.pop(0))

    readings = health(
        nvmlEventSetCreate=lambda: "set",
        nvmlDeviceRegisterEvents=lambda card, kind, events: None,
        nvmlEventSetWait_v2=wait,
        nvmlEventSetFree=freed.append,
    )
    assert readings.read()["xid_errors"] == 2.0, "13 is an error of the program"
    assert readings.read()["xid_errors"] == 2.0
    readings.close()
    assert freed == ["set"]


def fake_nvml(**functions: Any) -> SimpleNamespace:
    table = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: f"card{index}",
        "nvmlDeviceGetName": lambda handle: f"named {handle}",
        "NVML_TEMPERATURE_GPU": 0,
        "NVML_CLOCK_SM": 1,
        **functions,
    }
    return SimpleNamespace(**table)


def test_a_divided_card_is_read_through_its_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    def utilization(handle: str) -> Any:
        raise RuntimeError("Not Supported")  # NVML has none for slices

    nvml = fake_nvml(
        nvmlDeviceGetMigMode=lambda handle: [1, 1],
        nvmlDeviceGetMigDeviceHandleByIndex=lambda handle, index: f"{handle}/slice{index}",
        nvmlDeviceGetUtilizationRates=utilization,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=len(handle), total=100),
        nvmlDeviceGetPowerUsage=lambda handle: {"card0": 50_000}[handle],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    readings = GpuReadings("0")
    (gpu,) = readings.gpus
    assert (gpu.name, gpu.is_slice) == ("named card0/slice0", True)
    assert readings.read() == [
        {"memory_used_bytes": float(len("card0/slice0")), "memory_total_bytes": 100.0, "power_w": 50.0}
    ]


def test_a_card_that_falls_off_the_bus_is_said_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    there = [True]

    def power(handle: str) -> int:
        if not there[0]:
            raise GpuIsLost
        return 1000

    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlDeviceGetPowerUsage=power))
    readings = GpuReadings("0")
    assert readings.read() == [{"power_w": 1.0}]
    there[0] = False
    assert readings.read() == [{"lost": 1.0}]


def test_cards_of_other_processes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    on = {"card0": [SimpleNamespace(pid=4242, usedGpuMemory=10)], "card1": [SimpleNamespace(pid=1, usedGpuMemory=5)]}
    nvml = fake_nvml(nvmlDeviceGetCount=lambda: 2, nvmlDeviceGetComputeRunningProcesses=lambda handle: on[handle])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    readings = GpuReadings("0,1")
    first, second = readings.read(pids=[4242])
    assert first == {"process_memory_bytes": 10.0}, "a child of this process is on it"
    assert second == {}
    assert readings.used == {0}
