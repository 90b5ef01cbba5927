"""Asking detectors: what one of them does wrong stays with it."""

from __future__ import annotations

from typing import Any

import pytest

from failguard.core.containment import Containment
from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.look import by_event, look

SPIKE = Finding("loss.spike", Severity.WARNING, 3, 0, "It jumped; token=abc123secret was in its config.")


class Answers:
    TRIPS: tuple[()] = ()
    QUIET: tuple[()] = ()

    def __init__(self, answer: Any, code: str = "loss.spike") -> None:
        self.answer, self.code = answer, code

    def check(self, observation: Observation, history: History) -> Finding | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("answer", ["bad", True, ZeroDivisionError("x"), NoText()])
def test_a_detector_that_does_wrong_is_retired_and_the_others_go_on(answer: Any, contained: None) -> None:
    containment = Containment()
    detectors = [Answers(answer, "loss.plateau"), Answers(SPIKE)]
    for _ in range(2):
        found = look(detectors, Observation(Event.STEP), History(), containment)
        assert [f.code for f in found] == ["loss.spike"]
    assert [e.part for e in containment.errors] == ["detector loss.plateau"]


def test_messages_come_without_secrets() -> None:
    (finding,) = look([Answers(SPIKE)], Observation(Event.STEP), History(), Containment())
    assert "abc123secret" not in finding.message
    assert "It jumped" in finding.message


def test_events_of_a_detector_limit_when_it_is_asked() -> None:
    anytime, at_the_end = Answers(None), Answers(None)
    at_the_end.events = frozenset({Event.RUN_END})  # type: ignore[attr-defined]
    asked = by_event([anytime, at_the_end])
    assert asked[Event.STEP] == [anytime]
    assert asked[Event.RUN_END] == [anytime, at_the_end]
