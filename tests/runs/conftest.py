"""Runs for tests: hours from a fixed Monday."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from failguard.report.outcome import Outcome
from failguard.runs.entry import Note, RunEntry

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)

_OUTCOMES = {"s": Outcome.SUCCESS, "f": Outcome.FAILURE, "p": Outcome.PARTIAL, "u": None, "r": None}
_STATUS = {"s": "completed", "f": "stopped", "p": "completed", "u": "completed", "r": "running"}


def _run(run_id: str, kind: str, at_h: float, length_h: float = 1.0, **values: Any) -> RunEntry:
    start = MONDAY + timedelta(hours=at_h)
    defaults: dict[str, Any] = {
        "run_id": run_id,
        "experiment_id": "1",
        "experiment": "churn",
        "name": run_id,
        "status": _STATUS[kind],
        "outcome": _OUTCOMES[kind],
        "started_at": start,
        "ended_at": None if kind == "r" else start + timedelta(hours=length_h),
        "watched": kind != "u",
        "line": "churn",
    }
    return RunEntry(**{**defaults, **values})


def _lesson(text: str, number: int = 1, **values: Any) -> Note:
    defaults: dict[str, Any] = {"kind": "lesson", "author": "ada", "written_at": MONDAY + timedelta(hours=number)}
    return Note(id=f"n{number}", text=text, **{**defaults, **values})


@pytest.fixture(scope="session")
def run() -> Callable[..., RunEntry]:
    """``run(id, kind, at_h, length_h)``: kind is s(uccess), f(ailure), p(artial), u(nknown) or r(unning)."""
    return _run


@pytest.fixture(scope="session")
def lesson() -> Callable[..., Note]:
    """``lesson(text, number)``."""
    return _lesson
