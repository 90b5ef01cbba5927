from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

import failguard
from failguard.errors import ConfigurationError
from failguard.monitor import resource_monitor

MB = 1 << 20


def take(megabytes: int) -> bytearray:
    """Memory that is really there, page by page."""
    held = bytearray(megabytes * MB)
    held[::4096] = b"x" * len(held[::4096])
    return held


def test_memory_and_time_are_measured() -> None:
    with resource_monitor("wider", max_memory_increase_mb=10_000, max_duration_s=3_600) as monitor:
        held = take(300)
    assert monitor.peak_increase_mb is not None
    assert 250 < monitor.peak_increase_mb < 450
    assert 0 < monitor.duration_s < 100
    assert monitor.exceeded == []
    assert monitor.summary["samples"] >= 1
    assert failguard.resource_monitor is resource_monitor
    del held


def test_before_the_start_there_is_nothing() -> None:
    monitor = resource_monitor("x")
    assert (monitor.peak_increase_mb, monitor.duration_s) == (None, 0.0)


def test_limits_that_are_crossed_are_said_once_and_sent(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    with (
        caplog.at_level(logging.WARNING, logger="failguard"),
        resource_monitor("hungry", 50, 1e-6, alerts=[told.append]) as monitor,
    ):
        held = take(200)
    assert len(monitor.exceeded) == 2
    assert caplog.text.count("max_memory_increase_mb=50") == 1
    assert caplog.text.count("max_duration_s=1e-06") == 1
    assert told == [monitor, monitor]
    del held


def test_a_limit_is_noticed_while_the_code_still_runs() -> None:
    noticed = threading.Event()
    with resource_monitor("long", max_duration_s=0.1, alerts=[lambda m: noticed.set()], interval_s=0.05):
        assert noticed.wait(30)


def test_an_alert_that_fails_is_no_reason_to_fail(caplog: pytest.LogCaptureFixture) -> None:
    def broken(monitor: object) -> None:
        raise OSError("no network")

    with resource_monitor("x", max_duration_s=1e-6, alerts=[broken]):
        pass
    assert "no network" in caplog.text


def test_exceptions_pass_through() -> None:
    monitor = resource_monitor("x")
    with pytest.raises(KeyError, match="mine"), monitor:
        raise KeyError("mine")
    assert monitor.duration_s > 0
    assert not [t for t in threading.enumerate() if t.name == "failguard-sampler"]


def test_nested_and_again() -> None:
    outer = resource_monitor("outer")
    with outer, resource_monitor("inner") as inner:
        held = take(100)
    assert outer.peak_increase_mb is not None
    assert inner.peak_increase_mb is not None
    assert outer.peak_increase_mb > 80
    del held
    with outer:
        pass
    assert outer.peak_increase_mb < 50, "the second use starts anew"


def test_as_a_decorator() -> None:
    names: list[str] = []

    @resource_monitor("work", max_duration_s=1e-6, alerts=[lambda m: names.append(m.name)])
    def work(n: int) -> int:
        """Works."""
        return work(n - 1) + 1 if n else 0

    assert work(2) == 2
    assert work.__doc__ == "Works."
    assert names == ["work"] * 3, "each call by itself, recursion included"

    @resource_monitor("later", max_duration_s=1e-6, alerts=[lambda m: names.append(m.name)])
    async def later() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(later()) == 7
    assert names[-1] == "later"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"name": "x", "max_memory_increase_mb": -1}, "max_memory_increase_mb"),
        ({"name": "x", "max_duration_s": 0}, "max_duration_s"),
        ({"name": "x", "max_duration_s": "1h"}, "max_duration_s"),
        ({"name": "x", "interval_s": 0}, "interval_s"),
        ({"name": "x", "alerts": "mailto://x"}, "alerts"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        resource_monitor(**arguments)


def test_no_limits_and_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    from failguard import monitor as module

    monkeypatch.setattr(module, "_resident_bytes", lambda: None)
    monkeypatch.setattr(module, "_highest_bytes", lambda: None)
    with resource_monitor("x", None, None) as monitor:
        pass
    assert monitor.peak_increase_mb is None, "unknown is not zero"
