"""Batches are read in a row at first, then as far apart as their cost asks for."""

from __future__ import annotations

import itertools

import pytest

from failguard.core import reading_pace
from failguard.core.reading_pace import MOST_APART, ReadingPace


def steps_read(monkeypatch: pytest.MonkeyPatch, *, cost_s: float, step_s: float, steps: int = 20_000) -> list[int]:
    now = [0.0]
    monkeypatch.setattr(reading_pace, "perf_counter", lambda: now[0])
    pace, read, due = ReadingPace(4, 32, budget=0.01), [], 0
    for step in range(steps):
        if step >= due:
            pace.begin(step)
            now[0] += cost_s
            due = pace.end(step)
            read.append(step)
        now[0] += step_s
    return read


def test_the_budget_decides_how_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = steps_read(monkeypatch, cost_s=1e-6, step_s=1e-2)
    assert cheap[:6] == [0, 1, 2, 3, 35, 67]
    dear = steps_read(monkeypatch, cost_s=1e-3, step_s=1e-2)  # a thousandth of 10 ms a step is 100 steps apart
    assert dear[:4] == [0, 1, 2, 3]
    assert {b - a for a, b in itertools.pairwise(dear[3:])} <= {100, 101}
    very_dear = steps_read(monkeypatch, cost_s=1.0, step_s=1e-3)
    assert very_dear[4] - very_dear[3] == MOST_APART


def test_a_validation_between_two_batches_is_no_part_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(reading_pace, "perf_counter", lambda: now[0])
    pace = ReadingPace(2, 32, budget=0.01)
    for step in range(9):
        pace.begin(step)
        now[0] += 1e-3
        pace.end(step)
        now[0] += 1e-2 if step != 5 else 60.0
    assert pace.every_steps in (100, 101)
