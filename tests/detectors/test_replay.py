"""replay feeds a detector as the guard does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import ExceptionFacts, Observation
from failguard.detectors.base import Example, replay


@dataclass
class Spy:
    code: ClassVar[str] = "loss.spike"
    TRIPS: ClassVar[tuple[Example, ...]] = ()
    QUIET: ClassVar[tuple[Example, ...]] = ()
    seen: list[Observation] = field(default_factory=list)
    kept: Any = None

    def check(self, observation: Observation, history: History) -> Finding | None:
        self.seen.append(observation)
        self.kept = history
        return Finding(self.code, Severity.INFO, observation.step, observation.epoch, "")


def test_events_come_in_the_order_of_a_run() -> None:
    spy = Spy()
    example = Example(
        "",
        steps={"loss": [2.0] * 20 + [math.nan] + [1.0] * 19},
        epochs={"val_loss": [1.0, 0.5], "non_finite_weights": [0, 1]},
        facts=Facts(accumulate_batches=2),
        exception=ExceptionFacts("ValueError", "no"),
    )
    found = replay(spy, example)
    assert [(o.event, o.step, o.epoch) for o in spy.seen] == [
        (Event.RUN_START, -1, 0),
        (Event.STEP, 0, 0),
        (Event.STEP, 16, 0),
        (Event.EPOCH_END, 19, 0),
        (Event.STEP, 20, 1),
        (Event.STEP, 32, 1),
        (Event.EPOCH_END, 39, 1),
        (Event.EXCEPTION, 40, 1),
        (Event.RUN_END, 39, 1),
    ]
    assert len(found) == len(spy.seen)
    end = spy.seen[6]
    assert end.values == {"val_loss": 0.5, "non_finite_weights": 1.0, "train_loss": 1.0}
    assert end.validated
    assert end.optimizer_step == 20
    history = spy.kept
    assert "non_finite_weights" not in history.epochs
    assert list(history.epochs["train_loss"].values) == [2.0, 1.0]
    assert history.improvement.best_epoch == 1


def test_only_the_events_that_a_detector_asks_for() -> None:
    class AtEpochs(Spy):
        events = frozenset({Event.EPOCH_END})

    spy = AtEpochs()
    replay(spy, Example("", steps={"loss": [1.0] * 40}, epochs={"val_loss": [1.0] * 4}))
    assert {o.event for o in spy.seen} == {Event.EPOCH_END}


def test_an_empty_example_is_a_run_that_never_began() -> None:
    spy = Spy()
    replay(spy, Example(""))
    assert [o.event for o in spy.seen] == [Event.RUN_START, Event.RUN_END]
