from __future__ import annotations

import pytest

from failguard.resources.gpu_record import GpuRecord, over_cards


def test_energy_comes_from_the_counter() -> None:
    record = GpuRecord(0, "Card")
    for t, joules in enumerate([5e6, 5.1e6, 5.3e6, 100.0, 200.0]):  # the driver was loaded anew
        record.add(float(t), {"energy_j": joules, "power_w": 1e9})
    found = record.to_dict(used=True)
    assert found["energy_kwh"] == pytest.approx(300_100 / 3.6e6)
    assert found["energy_source"] == "counter"
    assert found["used_by_run"] is True


def test_else_power_is_integrated_and_said_so() -> None:
    record = GpuRecord(0, "Card")
    for t in (0.0, 10.0, 20.0, 500.0, 510.0):  # over the gap nothing is known
        record.add(t, {"power_w": 360.0})
    found = record.to_dict(used=None)
    assert found["energy_kwh"] == pytest.approx(360.0 * 30.0 / 3.6e6)
    assert found["energy_source"] == "power"
    assert "used_by_run" not in found


def test_without_either_there_is_no_energy() -> None:
    record = GpuRecord(0, "Card")
    record.add(0.0, {"utilization_percent": 50.0})
    found = record.to_dict(used=None)
    assert not [name for name in found if "energy" in name]


def test_histogram_and_reasons() -> None:
    record = GpuRecord(2, "Card", is_slice=True)
    for percent in (0.0, 9.9, 10.0, 99.0, 100.0):
        record.add(0.0, {"utilization_percent": percent, "throttle_reasons": 0x20})
    found = record.to_dict(used=None)
    assert found["utilization_histogram"] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found["throttle_reasons"] == ["software thermal slowdown"]
    assert found["is_slice"] is True


def test_several_cards_as_one() -> None:
    assert over_cards([]) == {}
    found = over_cards(
        [
            {"utilization_percent": 40.0, "throttled": 1.0, "memory_used_bytes": 9.0, "memory_total_bytes": 10.0},
            {"utilization_percent": 60.0, "throttled": 0.0, "ecc_errors": 2.0, "lost": 1.0},
        ]
    )
    assert found == {
        "gpu_utilization_percent": 50.0,
        "gpu_throttled": 0.5,
        "gpu_memory_left_bytes": 1.0,
        "gpu_errors": 3.0,
    }
