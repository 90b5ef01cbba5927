from __future__ import annotations

import math
from typing import Any

import pytest

from failguard.core.history import History
from failguard.errors import ConfigurationError
from failguard.resources import ResourceLimits
from failguard.resources.run_watch import RunWatch


def test_switched_off_nothing_is_read() -> None:
    watch = RunWatch(False, History())
    watch.start(["."], lambda: 0)
    assert watch.next_step == math.inf
    watch.take_in()
    watch.stop()
    assert watch.summary(1.0, 0.0) == {}


def test_samples_go_to_the_history_with_their_step() -> None:
    history = History()
    watch = RunWatch(ResourceLimits(interval_s=3600), history)
    device = iter([5.0])
    watch.add_probe("allocator", lambda: {"gpu_memory_allocated_bytes": 7.0}, lambda: next(device))
    watch.start(["."], lambda: 42)
    watch.end_step(0)
    watch.end_step(8)  # the device's memory cannot be read any more
    watch.stop()
    watch.take_in()
    assert list(history.machine["elapsed_s"].steps) == [42, 42]
    assert history.machine["disk_free_bytes"].last
    assert len(history.steps["process_memory_bytes"]) == 2
    assert list(history.steps["gpu_memory_bytes"].values) == [5.0]
    summary = watch.summary(1.0, 0.0)
    assert summary["gpu_memory_allocated_bytes"]["peak"] == 7.0
    assert [row["name"] for row in history.rows()] == ["process_memory_bytes"] * 2 + ["gpu_memory_bytes"]


def test_a_probe_that_raises_is_named_and_left_out() -> None:
    def broken() -> dict[str, float]:
        raise RuntimeError("CUDA error")

    watch = RunWatch(ResourceLimits(interval_s=3600), History())
    watch.add_probe("allocator", broken)
    watch.start([], lambda: 0)
    watch.stop()
    summary = watch.summary(1.0, 0.0)
    assert summary["unreadable"]["allocator"] == "RuntimeError"
    assert summary["samples"] == 2


def test_where_the_time_went_adds_up() -> None:
    history = History()
    watch = RunWatch(True, history)
    watch.start([], lambda: 0)
    for step in range(100):
        history.step_series("step_s").append(step, 0.1)
    watch.times.add("validation", 3.0)
    watch.time_steps({"data_wait": 0.6, "callbacks": 0.1}, 1.0, 10, 50)
    watch.stop()
    time = watch.summary(20.0, 0.5)["time"]
    phases = time["phases_s"]
    assert sum(phases.values()) == pytest.approx(20.0)
    assert phases["validation"] == 3.0
    assert phases["failguard"] == 0.5
    assert phases["data_wait"] == pytest.approx(0.6 * 9.5)
    assert phases["other"] == pytest.approx(7.0)
    assert time["data_wait_share"] == pytest.approx(0.6)
    assert list(history.steps["data_wait_share"].values) == [pytest.approx(0.6)]


@pytest.mark.parametrize("name", ["price_per_gpu_hour", "tokens_per_step", "flops_per_step", "hang_after_s"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "2", True])
def test_what_cannot_be_used_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ResourceLimits(**{name: value})


def test_memory_that_grows_while_failguard_loads_packages_is_not_the_runs() -> None:
    history = History()
    watch = RunWatch(ResourceLimits(interval_s=3600), history)
    settling = [True]
    watch.start([], lambda: 0, lambda: settling[0])
    try:
        watch.end_step(0)
        assert len(history.step_series("process_memory_bytes")) == 0
        settling[0] = False
        watch.end_step(8)
        assert history.step_series("process_memory_bytes").last_step == 8
    finally:
        watch.stop()
