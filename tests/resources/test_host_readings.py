from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from failguard.resources import host, machine
from failguard.resources.host import HostReadings


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(host.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(host.Pace, "due", lambda self: True)


def test_rates_are_per_second_and_need_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    sent = [1000.0]
    monkeypatch.setattr(psutil, "net_io_counters", lambda: SimpleNamespace(bytes_sent=sent[0], bytes_recv=0))
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    readings = HostReadings()
    assert "host_network_sent_bytes_per_s" not in readings.read()
    clock.now, sent[0] = 1002.0, 3000.0
    values = readings.read()
    assert values["host_network_sent_bytes_per_s"] == 1000.0
    assert "host_disk_read_bytes_per_s" not in values
    clock.now, sent[0] = 1004.0, 10.0
    assert "host_network_sent_bytes_per_s" not in readings.read(), "a counter that was reset"


def test_parts_that_cannot_be_read_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied() -> None:
        raise PermissionError

    monkeypatch.setattr(psutil, "swap_memory", denied)
    monkeypatch.setattr(psutil, "disk_io_counters", denied)
    monkeypatch.setattr(host, "SHARED_MEMORY", "/nowhere")
    values = HostReadings().read()
    assert not {"host_swap_used_bytes", "shared_memory_free_bytes"} & values.keys()


def test_limits_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    (tmp_path / "own").write_text("0::/job\n")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "CGROUP_ROOT", tmp_path / "root")
    group = tmp_path / "root" / "job"
    group.mkdir(parents=True)
    readings = HostReadings()
    assert not [name for name in readings.read() if name.startswith("container_")], "no limit, no reading"
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("400000\n")
    (group / "cpu.max").write_text("50000 100000\n")
    (group / "cpu.stat").write_text("usage_usec 1\nthrottled_usec 1000000\n")
    clock.now += 10.0
    values = readings.read()
    assert values["container_memory_limit_bytes"] == 1e6
    assert values["container_memory_used_bytes"] == 4e5
    (group / "cpu.stat").write_text("throttled_usec 3500000\n")
    clock.now += 10.0
    assert readings.read()["container_cpu_throttled_percent"] == pytest.approx(25.0)
