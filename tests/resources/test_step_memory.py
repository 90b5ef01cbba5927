from __future__ import annotations

import os
import sys

import psutil
import pytest

from failguard.resources import step_memory
from failguard.resources.step_memory import StepMemory


def steps_read(upto: int) -> list[int]:
    memory = StepMemory()
    found, step = [], 0
    while step < upto:
        if step >= memory.next_step:
            memory.read(step)
            found.append(step)
        step += 1
    memory.close()
    return found


def test_short_runs_have_many_readings_and_long_ones_not_too_many() -> None:
    assert len(steps_read(1000)) >= 64
    assert 128 <= len(steps_read(65_536)) <= 128 * 8


@pytest.mark.skipif(sys.platform != "linux", reason="the quick way is Linux's")
def test_what_the_process_holds_is_seen_and_mapped_files_are_not(tmp_path: object) -> None:
    import mmap

    memory = StepMemory()
    before = memory.read(0)
    assert before is not None
    held = bytearray(os.urandom(1) * (64 << 20))
    after = memory.read(8)
    assert after is not None
    assert 60 << 20 < after - before < 90 << 20
    path = f"{tmp_path}/mapped"
    with open(path, "wb") as f:
        f.write(bytes(64 << 20))
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[i] for i in range(0, len(mapped), 4096)) == 0
        assert psutil.Process().memory_info().rss - after > 60 << 20, "the pages are resident"
        now = memory.read(16)
    assert now is not None
    assert now - after < 30 << 20
    memory.close()
    del held


def test_elsewhere_resident_memory_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_memory, "STATM", "/nowhere/statm")
    value = StepMemory().read(0)
    assert value == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_no_reading_where_nothing_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: object) -> None:
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(step_memory, "STATM", "/nowhere/statm")
    monkeypatch.setattr(psutil.Process, "memory_info", denied)
    assert StepMemory().read(0) is None
