"""The budget widens the cadence of what is costly."""

from __future__ import annotations

import pytest

from failguard.accounting import MAX_EVERY_STEPS, Accounting, Cadence


@pytest.mark.parametrize(
    ("cost_s", "step_s", "every"),
    [
        (1e-6, 1e-3, 10),  # cheap: the shortest interval
        (1e-3, 1e-3, 201),  # a whole step's time at a share of 0.5 %
        (10.0, 1e-3, MAX_EVERY_STEPS),  # bounded
        (1e-3, 0.0, 10),  # step time not known yet
    ],
)
def test_the_interval_follows_cost_over_budget(cost_s: float, step_s: float, every: int) -> None:
    cadence = Cadence(least=10, share=0.005)
    assert cadence.due(0)
    cadence.ran(0, cost_s, step_s)
    assert cadence.every_steps == every
    assert not cadence.due(every - 1)
    assert cadence.due(every)


def test_the_interval_narrows_again_when_the_check_gets_cheap() -> None:
    cadence = Cadence(least=10, share=0.005)
    cadence.ran(0, 1e-3, 1e-3)
    for step in range(100):
        cadence.ran(step, 1e-7, 1e-3)
    assert cadence.every_steps == 10


def test_the_account_adds_up() -> None:
    accounting = Accounting(0.01)
    accounting.add("a", 0.5)
    accounting.add("a", 0.25)
    accounting.add("b", 0.25)
    accounting.note_cadence("flag", 1)
    overhead = accounting.overhead(duration_s=100.0, snapshot_bytes=7)
    assert overhead.total_s == 1.0
    assert overhead.share == 0.01
    assert overhead.parts_s == {"a": 0.75, "b": 0.25}
    assert overhead.cadence_steps == {"gradients": 10, "detectors": 16, "internals": 24, "flag": 1}
    assert overhead.snapshot_bytes == 7
    assert Accounting(0.01).overhead(0.0, 0).share == 0.0
