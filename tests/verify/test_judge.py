"""Whether a symptom is seen, and whether it is gone."""

from __future__ import annotations

import math

import pytest

from failguard.core.codes import FINDINGS
from failguard.trials.results import Replay
from failguard.verify.changes import Change
from failguard.verify.judge import _SYMPTOMS, Symptom, has_symptom, is_judged, removed, sentence, symptom_of, went

EXPLODES, STUCK = Symptom.EXPLODES, Symptom.STUCK


def replay(before: float, after: float, ended: str = "", updates: int = 48) -> Replay:
    return Replay(before=before, after=after, ended=ended, updates=updates)


@pytest.mark.parametrize(
    ("tried", "explodes", "stuck"),
    [
        (replay(1.0, math.nan, "loss", 3), True, False),
        (replay(1.0, math.inf), True, False),
        (replay(1.0, 5.0), True, True),
        (replay(1.0, 1.0), False, True),
        (replay(1.0, 0.5), False, False),
        (replay(-1.0, -2.0), False, False),  # a likelihood may be negative
        (replay(-1.0, 1.0), True, True),
        (replay(0.0, 0.0), False, True),
    ],
)
def test_symptoms(tried: Replay, explodes: bool, stuck: bool) -> None:
    assert has_symptom(tried, EXPLODES) is explodes
    assert has_symptom(tried, STUCK) is stuck
    assert not (has_symptom(tried, EXPLODES) and removed(tried, EXPLODES))
    assert not (has_symptom(tried, STUCK) and removed(tried, STUCK))


def test_a_remedy_must_let_the_loss_fall_where_it_was_stuck() -> None:
    assert removed(replay(1.0, 0.93), EXPLODES)
    assert not removed(replay(1.0, 0.93), STUCK)
    assert removed(replay(1.0, 0.8), STUCK)
    assert removed(replay(math.nan, 0.8), EXPLODES)  # without the bad rows
    assert not removed(replay(1.0, 1.05), EXPLODES)


def test_too_few_updates_say_nothing() -> None:
    assert not is_judged(replay(1.0, 0.9, "time", 3))
    assert is_judged(replay(1.0, 0.9, "time", 20))
    assert is_judged(replay(1.0, math.nan, "gradient", 0))
    assert not is_judged(replay(1.0, 0.9, "error", 20))


def test_every_code_is_one_and_has_one_symptom() -> None:
    codes = [code for group in _SYMPTOMS.values() for code in group]
    assert set(codes) <= set(FINDINGS)
    assert len(codes) == len(set(codes))
    assert symptom_of("loss.divergence") == (EXPLODES,)
    assert symptom_of("gradient.accumulating") == (EXPLODES, STUCK)
    assert symptom_of("metric.overfitting") == ()


def test_words() -> None:
    change = Change("with the learning rate 0.01 instead of 0.5")
    assert sentence(change, replay(2.31, 0.42), replay(2.31, math.nan, "loss", 3)) == (
        "with the learning rate 0.01 instead of 0.5 the loss fell from 2.31 to 0.42 in 48 updates; as it was, the loss "
        "was not finite after 3 updates"
    )
    assert went(replay(1.0, 1.00001)) == "the loss stayed at 1 for 48 updates"
    assert went(replay(1.0, math.nan, "gradient", 1)) == "the gradient was not finite after 1 update"
    assert went(replay(math.nan, 2.0)) == "the loss was 2 after 48 updates"
