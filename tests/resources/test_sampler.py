from __future__ import annotations

import copy
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from failguard.report.plain import plain
from failguard.resources import ResourceLimits, Sampler, sampler
from failguard.resources.process import ProcessReadings

SLOW = ResourceLimits(interval_s=3600)
FAST = ResourceLimits(interval_s=0.05)


def sampled(limits: ResourceLimits = SLOW, directories: tuple[str, ...] = (".",)) -> dict[str, Any]:
    """A sampler's summary after its first and its last sample."""
    s = Sampler(limits, directories)
    s.start()
    s.stop()
    return s.summary()


def test_samples_at_once_and_at_the_end() -> None:
    summary = sampled()
    assert summary["samples"] == 2
    rss = summary["process_rss_bytes"]
    assert rss.keys() == {"start", "min", "mean", "peak", "last"}
    assert 1e6 < rss["min"] <= rss["mean"] <= rss["peak"]
    assert summary["process_threads"]["peak"] >= 2
    assert summary["host_memory_available_bytes"]["last"] > 0
    assert summary["disk_free_bytes"]["last"] > 0
    assert summary["process_disk_written_bytes"] >= 0
    assert summary["sampler_cpu_s"] > 0
    assert summary["sampler_cpu_share"] == pytest.approx(summary["sampler_cpu_s"] / summary["duration_s"])
    assert len(summary["series"]["elapsed_s"]) == 2
    assert "errors" not in summary
    assert "unreadable" not in summary


def test_summary_before_the_first_sample() -> None:
    summary = Sampler().summary()
    assert summary["samples"] == 0
    assert summary["limits_exceeded"] == []
    assert "process_rss_bytes" not in summary
    assert plain(summary) == summary


def test_starting_and_stopping_twice_is_harmless() -> None:
    s = Sampler(SLOW)
    s.stop()
    s.start()
    first = s._thread
    s.start()
    assert s._thread is first
    s.stop()
    s.stop()
    assert s.summary()["samples"] == 2
    assert not [t for t in threading.enumerate() if t.name == "failguard-sampler"]


def test_goes_on_after_a_restart() -> None:
    s = Sampler(SLOW)
    s.start()
    s.stop()
    before = s.summary()
    s.start()
    s.stop()
    after = s.summary()
    assert after["samples"] == 4
    assert after["duration_s"] >= before["duration_s"]
    assert after["sampler_cpu_s"] >= before["sampler_cpu_s"]


def test_the_thread_is_a_daemon_and_reading_is_safe_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    enough = threading.Event()
    count = iter(range(1_000_000))

    def read(self: ProcessReadings) -> dict[str, float]:
        if next(count) >= 5:
            enough.set()
        return {"process_rss_bytes": 1.0, f"quantity_{next(count)}": 1.0}

    monkeypatch.setattr(ProcessReadings, "read", read)
    s = Sampler(FAST)
    s.start()
    assert s._thread is not None
    assert s._thread.daemon
    while not enough.wait(0):
        summary = s.summary()
        assert len(set(map(len, summary.get("series", {}).values()))) <= 1
        enough.wait(0.01)
    s.stop()
    assert s.summary()["samples"] >= 4


@pytest.mark.parametrize("part", ["memory_info", "num_threads", "io_counters"])
def test_a_field_that_cannot_be_read_is_absent_and_named(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def denied(*_: object) -> None:
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(psutil.Process, part, denied)
    summary = sampled()
    absent = {
        "memory_info": "process_rss_bytes",
        "num_threads": "process_threads",
        "io_counters": "process_disk_read_bytes",
    }[part]
    assert absent not in summary
    assert "AccessDenied" in summary["unreadable"].values()
    assert summary["samples"] == 2
    assert "host_memory_available_bytes" in summary
    assert "errors" not in summary


def test_an_error_of_the_thread_is_kept_with_what_was_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def read(self: ProcessReadings) -> dict[str, float]:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("broken sampler")
        return {"process_rss_bytes": 7.0}

    monkeypatch.setattr(ProcessReadings, "read", read)
    s = Sampler(SLOW)
    s.start()
    s.stop()
    assert isinstance(s.error, RuntimeError)
    summary = s.summary()
    assert summary["errors"] == ["RuntimeError: broken sampler"]
    assert summary["process_rss_bytes"]["last"] == 7.0


def test_missing_folders_are_walked_up(tmp_path: Any) -> None:
    free = sampled(directories=(str(tmp_path / "not" / "there"),))["disk_free_bytes"]["last"]
    assert free == pytest.approx(psutil.disk_usage(str(tmp_path)).free, rel=0.2)


def test_without_folders_there_is_no_disk_number() -> None:
    assert "disk_free_bytes" not in sampled(directories=())


def test_a_removed_working_folder_is_survived(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert sampled(directories=("records",))["samples"] == 2


def scripted(monkeypatch: pytest.MonkeyPatch, *rows: dict[str, float]) -> None:
    """Readings to come, the last one for ever."""
    left = list(rows)
    monkeypatch.setattr(ProcessReadings, "read", lambda self: dict(left.pop(0) if len(left) > 1 else left[0]))


def test_limits_that_are_crossed_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    mb = 1024 * 1024
    limits = ResourceLimits(interval_s=3600, max_memory_increase_mb=50, min_disk_free_mb=100)
    rows = [{"process_rss_bytes": 100.0 * mb, "disk_free_bytes": 500.0 * mb}]
    scripted(monkeypatch, *rows, {"process_rss_bytes": 150.0 * mb, "disk_free_bytes": 100.0 * mb})
    assert sampled(limits)["limits_exceeded"] == []
    scripted(monkeypatch, *rows, {"process_rss_bytes": 151.0 * mb, "disk_free_bytes": 99.0 * mb})
    memory, disk = sampled(limits)["limits_exceeded"]
    assert "51 MB" in memory
    assert "max_memory_increase_mb=50" in memory
    assert "99 MB" in disk
    assert "min_disk_free_mb=100" in disk


def test_no_limits_no_remarks(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {"process_rss_bytes": 1.0, "disk_free_bytes": 0.0}, {"process_rss_bytes": 1e12})
    assert sampled(ResourceLimits(interval_s=3600, min_disk_free_mb=None))["limits_exceeded"] == []


def test_time_never_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 101.0])
    real = sampler.time.monotonic
    monkeypatch.setattr(sampler.time, "monotonic", lambda: next(now, 3.0))
    scripted(monkeypatch, {"process_rss_bytes": 1.0})
    s = Sampler(SLOW)
    s._started_at = 100.0
    s._elapsed_s = 0.0
    try:
        for _ in range(4):
            s._sample(ProcessReadings([]), None)
    finally:
        monkeypatch.setattr(sampler.time, "monotonic", real)
    elapsed = s.summary()["series"]["elapsed_s"]
    assert elapsed == sorted(elapsed)


def test_a_thread_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def read(self: ProcessReadings) -> dict[str, float]:
        release.wait(30)
        return {}

    monkeypatch.setattr(ProcessReadings, "read", read)
    monkeypatch.setattr(sampler, "STOP_WAIT_S", 0.05)
    s = Sampler(SLOW)
    s.start()
    thread = s._thread
    s.stop()
    assert "did not end" in s.summary()["errors"][0]
    release.set()
    assert thread is not None
    thread.join(30)


def _in_child(check: Callable[[], bool]) -> int:
    """Exit status of a forked child that runs a check, killed after 20 s."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_the_lost_thread() -> None:
    s = Sampler(SLOW)
    s.start()
    s._lock.acquire()  # as if the fork happened in the middle of a sample
    try:

        def check() -> bool:
            before = s.summary()["samples"]
            s.stop()
            s.start()
            s.stop()
            return bool(s.summary()["samples"] == before + 2)

        assert _in_child(check) == 0
    finally:
        s._lock.release()
        s.stop()
    assert s.summary()["samples"] == 2, "the parent's sampler is untouched"


def test_limits_can_be_copied() -> None:
    assert copy.deepcopy(FAST) == FAST
