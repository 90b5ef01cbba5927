from __future__ import annotations

from typing import Any

import psutil
import pytest

from failguard.resources import process
from failguard.resources.process import ProcessReadings, free_bytes


class Clock:
    """Time and processor time that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.used = 1000.0, 5.0
        monkeypatch.setattr(process.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(process.time, "process_time", lambda: self.used)


def test_cpu_shares_need_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    readings = ProcessReadings([])
    busy = iter([(10.0, 100.0), (14.0, 108.0)])
    monkeypatch.setattr(readings, "_host_times", lambda: next(busy))
    assert "process_cpu_percent" not in readings.read()
    clock.now, clock.used = 1002.0, 8.0
    values = readings.read()
    assert values["process_cpu_percent"] == pytest.approx(150.0)
    assert values["host_cpu_percent"] == pytest.approx(50.0)


def test_too_short_an_interval_gives_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    readings = ProcessReadings([])
    readings.read()
    clock.now += 0.01
    assert "process_cpu_percent" not in readings.read()


def test_a_clock_that_goes_back_gives_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    readings = ProcessReadings([])
    readings.read()
    clock.now -= 50.0
    assert "process_cpu_percent" not in readings.read()
    assert readings.unreadable == {}


def test_disk_traffic_counts_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = ProcessReadings([])

    class Counters:
        read_bytes, write_bytes = 1000, 500

    monkeypatch.setattr(type(readings._process), "io_counters", lambda self: Counters, raising=False)
    assert readings.read()["process_disk_read_bytes"] == 0.0
    Counters.read_bytes, Counters.write_bytes = 1800, 400
    values = readings.read()
    assert values["process_disk_read_bytes"] == 800.0
    assert values["process_disk_written_bytes"] == 0.0, "a counter that went back is no negative traffic"


def test_the_users_own_psutil_numbers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> float:
        raise AssertionError("psutil.cpu_percent keeps state that belongs to the user")

    monkeypatch.setattr(psutil, "cpu_percent", forbidden)
    monkeypatch.setattr(psutil.Process, "cpu_percent", forbidden)
    assert ProcessReadings([]).read()


def test_free_space_of_a_pseudo_file_system_is_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        total = used = free = 0

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    assert free_bytes("/proc") is None


def test_the_fullest_disk_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "free_bytes", {"a": 10, "b": 3, "c": None}.get)
    assert ProcessReadings(["a", "b", "c"]).read()["disk_free_bytes"] == 3.0
