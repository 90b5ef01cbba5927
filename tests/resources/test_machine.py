from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from failguard.resources import available_memory_bytes, machine
from failguard.resources.machine import total_memory_bytes, usable_cpus


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group that limits nothing yet. Files can be written into it."""
    own = tmp_path / "own"
    own.write_text("0::/job\n")
    monkeypatch.setattr(machine, "OWN_CGROUPS", own)
    monkeypatch.setattr(machine, "CGROUP_ROOT", tmp_path / "root")
    folder = tmp_path / "root" / "job"
    folder.mkdir(parents=True)
    return folder


def test_without_a_limit_the_machine_counts(group: Path) -> None:
    assert total_memory_bytes() == psutil.virtual_memory().total
    (group / "memory.max").write_text("max\n")
    assert total_memory_bytes() == psutil.virtual_memory().total


def test_a_container_leaves_its_limit_minus_what_it_holds(group: Path) -> None:
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("700000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    assert available_memory_bytes() == 500_000
    assert total_memory_bytes() == 1_000_000


def test_more_used_than_allowed_leaves_nothing(group: Path) -> None:
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("7000\n")
    assert available_memory_bytes() == 0


def test_first_version_of_control_groups(tmp_path: Path, group: Path) -> None:
    (tmp_path / "own").write_text("4:memory:/job\n1:cpu,cpuacct:/job\n")
    memory = tmp_path / "root" / "memory" / "job"
    cpu = tmp_path / "root" / "cpu" / "job"
    memory.mkdir(parents=True)
    cpu.mkdir(parents=True)
    (memory / "memory.limit_in_bytes").write_text("5000")
    (memory / "memory.usage_in_bytes").write_text("1000")
    (cpu / "cpu.cfs_quota_us").write_text("50000")
    (cpu / "cpu.cfs_period_us").write_text("100000")
    assert available_memory_bytes() == 4000
    assert usable_cpus() == 0.5
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert total_memory_bytes() == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 100000", 1.5), ("max 100000", None), ("x", None), ("1 0", None)]
)
def test_cpu_quota(group: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: float | None) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (group / "cpu.max").write_text(text)
    assert usable_cpus() == (8.0 if expected is None else expected)


def test_without_psutil_there_is_no_reading(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert available_memory_bytes() is None
    assert total_memory_bytes() is None


def test_platforms_without_affinity(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 6)
    assert usable_cpus() == 6.0
