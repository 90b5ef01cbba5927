"""What the three FailGuard classes share: a report is always there, and nothing of failguard's own gets out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from failguard.adapter import GuardCallback
from failguard.core.decision import Decision
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Status, Where
from failguard.errors import FailGuardError
from failguard.report.run_report import RunReport


class StandInHost:
    def apply(self, decision: Decision) -> None: ...

    def learning_rate(self) -> float | None:
        return None

    def weights_bytes(self) -> int:
        return 0

    def save_weights(self) -> None: ...

    def restore_weights(self) -> None: ...

    def non_finite_weights(self) -> list[str]:
        return []

    def locate(self, finding: Finding) -> Where | None:
        return None


class OwnLoop(GuardCallback):
    """An adapter with the least that one needs."""

    framework = "torch"

    def run(self, steps: int = 3, before_the_end: Callable[[], None] = lambda: None) -> None:
        guard = self._begin(StandInHost())
        if guard is None:
            return
        guard.start(Facts(framework="torch"))
        for _ in range(steps):
            guard.record_loss(1.0)
            guard.allow_update()
            guard.end_batch()
        before_the_end()
        self._end()


class Interrupted:
    """A sink during whose last call the user presses Ctrl-C."""

    name = "slow"
    background = False

    def start(self, report: RunReport) -> None: ...

    def progress(self, report: RunReport) -> None: ...

    def finish(self, report: RunReport) -> None:
        raise KeyboardInterrupt


def own_loop(**keywords: Any) -> OwnLoop:
    return OwnLoop(**{"sinks": [], "resources": False, **keywords})


def test_without_a_run_there_is_no_report() -> None:
    with pytest.raises(FailGuardError, match="no training was run"):
        _ = own_loop().report


def test_a_disabled_guard_has_an_empty_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILGUARD_DISABLE", "1")
    guard = own_loop()
    guard.run()
    assert guard.report.progress.steps == 0
    assert any("FAILGUARD_DISABLE" in note for note in guard.report.notes)


def test_an_interrupt_while_the_report_is_delivered_does_not_cost_the_report() -> None:
    guard = own_loop(sinks=[Interrupted()])
    with pytest.raises(KeyboardInterrupt):
        guard.run()
    assert guard.report.status is Status.COMPLETED
    assert guard.report.progress.steps == 3


def test_a_guard_that_cannot_be_made_says_so(contained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failguard.adapter.Guard", lambda *_: 1 / 0)
    guard = own_loop()
    guard.run()
    assert [e.part for e in guard.report.part_errors] == ["guard"]
    assert guard.report.notes


def test_a_report_that_cannot_be_made_does_not_end_the_training(
    contained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = own_loop()
    guard.run(before_the_end=lambda: monkeypatch.setattr("failguard.recorder.Recorder.report", lambda *_: 1 / 0))
    assert {e.part for e in guard.report.part_errors} >= {"finishing the run", "the report"}


def test_a_run_left_without_a_word_ends_with_the_next(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    guard = own_loop(resources=True)
    left = guard._begin(StandInHost())
    assert left is not None
    left.start(Facts(framework="torch"))
    assert any(t.name == "failguard-sampler" for t in set(threading.enumerate()) - before)
    guard.run()
    assert left.finished
    assert not any(t.name == "failguard-sampler" for t in set(threading.enumerate()) - before)
