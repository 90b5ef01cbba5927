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


def test_one_call_that_was_held_up_does_not_silence_a_check():
    cadence = Cadence(least=10, share=0.005)
    for step in range(5):
        cadence.ran(step, 20e-6, 1e-3)
    cadence.ran(5, 50e-3, 1e-3)  # another process had the core
    assert cadence.every_steps == 10


def test_checks_share_what_every_step_leaves():
    accounting = Accounting(0.01)
    accounting.weigh_every_step(7e-6, 1e-3, steps=100)  # early: the whole share
    assert accounting.detectors.share == pytest.approx(0.003)
    accounting.weigh_every_step(4e-6, 1e-3, steps=5000)
    assert accounting.detectors.share == accounting.gradients.share == pytest.approx(0.002)
    accounting.weigh_every_step(30e-6, 1e-3, steps=5000)  # more than the budget: checks go on at the least
    assert accounting.internals.share == pytest.approx(0.001)
    accounting.weigh_every_step(0.0, 1e-3, steps=5000)
    assert accounting.internals.share == pytest.approx(0.003)
    accounting.weigh_every_step(30e-6, 0.0, steps=5000)  # the time of a step is not known
    assert accounting.internals.share == pytest.approx(0.003)


def test_time_of_the_past_is_counted_and_is_no_part_of_the_hook_in_progress():
    accounting = Accounting(0.01)
    accounting.add("inner", 0.25)
    accounting.add_past("every step", 0.5)
    assert accounting.counted_s == 0.25
    assert accounting.total_s == 0.75
