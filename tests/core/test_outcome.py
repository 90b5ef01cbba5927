from __future__ import annotations

import math

import pytest

from failguard.core.event import Event
from failguard.core.facts import Facts, OptimizerFacts
from failguard.core.history import History
from failguard.core.internals import Internals, PredictionReading
from failguard.core.observation import Observation
from failguard.core.outcome import learning_is_bad, learning_is_poor


def verdict(losses: list[float], facts: Facts | None = None) -> bool:
    history = History(facts=facts or Facts())
    for step, loss in enumerate(losses):
        history.step_series("loss").append(step, loss)
    return learning_is_bad(Observation(Event.STEP, len(losses) - 1, len(losses)), history)


TEN_CLASSES = Facts(trivial_loss=2.303, trivial_loss_source="class_prior", max_epochs=10, steps_per_epoch=40)


WARM_UP = Facts(
    trivial_loss=2.303, max_epochs=10, steps_per_epoch=40, optimizer=OptimizerFacts(schedule="LinearWarmup")
)


@pytest.mark.parametrize(
    ("losses", "facts"),
    [
        ([2.3] * 200, TEN_CLASSES),
        ([9.0] * 200, TEN_CLASSES),
        ([1.0] * 600, Facts()),
        ([-1.0] * 600, Facts()),
        ([1.0] * 50 + [math.nan], Facts()),
        ([2.3] * 28, Facts(trivial_loss=2.303, max_epochs=1, steps_per_epoch=30)),
    ],
)
def test_bad(losses: list[float], facts: Facts) -> None:
    assert verdict(losses, facts)


@pytest.mark.parametrize(
    ("losses", "facts"),
    [
        ([], Facts()),
        ([2.3] * 60, TEN_CLASSES),  # too young
        ([2.3 - 0.005 * i for i in range(300)], TEN_CLASSES),
        ([1.0] * 60, Facts()),
        ([1.0 - 0.001 * i for i in range(600)], Facts()),
        ([1e-9 * (1.0 - 0.001 * i) for i in range(600)], Facts()),
        ([100.0 - i for i in range(600)], Facts()),  # a likelihood
        (
            [2.3] * 150,
            Facts(
                trivial_loss=2.303, max_epochs=10, steps_per_epoch=40, optimizer=OptimizerFacts(schedule="LinearWarmup")
            ),
        ),
    ],
)
def test_not_bad(losses: list[float], facts: Facts) -> None:
    assert not verdict(losses, facts)


def falling(**facts: object) -> History:
    """A loss without a baseline that falls, as one with a penalty does."""
    history = History(facts=Facts(**facts))  # type: ignore[arg-type]
    for step in range(600):
        history.step_series("loss").append(step, 10.0 - 0.01 * step)
    return history


def is_bad(history: History) -> bool:
    return learning_is_bad(Observation(Event.STEP, 599, 600), history)


@pytest.mark.parametrize(
    ("counts", "accuracies", "bad"),
    [
        ({0: 300, 1: 300, 2: 300}, [0.31, 0.34, 0.35], True),
        ({0: 300, 1: 300, 2: 300}, [0.31, 0.34, 0.45], False),
        ({0: 300, 1: 300, 2: 300}, [0.34, 0.35], False),  # too few epochs
        ({0: 900, 1: 100}, [0.9, 0.9, 0.9], False),  # a good model may name no rare class
        ({0: 100, 1: 100}, [0.5, 0.5, 0.5], False),  # too few samples
        ({0: 300, 1: 300}, [-1.0, -1.0, -1.0], False),  # no accuracy at all
    ],
)
def test_accuracy_where_the_loss_has_no_baseline(counts: dict[int, int], accuracies: list[float], bad: bool) -> None:
    history = falling(target_kind="classes", class_counts=counts)
    for epoch, value in enumerate(accuracies):
        history.epoch_series("accuracy").append(epoch, value)
    assert is_bad(history) is bad


@pytest.mark.parametrize(
    ("spreads", "bad"),
    [([0.01, 0.02, 0.01], True), ([0.01, 0.5, 0.01], False), ([0.01, 0.01], False), ([None] * 3, False)],
)
def test_constant_predictions_where_the_loss_has_no_baseline(spreads: list[float | None], bad: bool) -> None:
    history = falling()
    for i, spread in enumerate(spreads):
        history.add_internals(Internals(i, predictions=PredictionReading(64, spread=spread, target_spread=1.0)))
    assert is_bad(history) is bad


@pytest.mark.parametrize(
    ("level", "steps", "facts", "poor"),
    [
        (1.0, 300, TEN_CLASSES, True),
        (0.5, 300, TEN_CLASSES, False),
        (1.0, 200, TEN_CLASSES, False),  # of 400 planned
        (1.0, 300, Facts(max_epochs=10, steps_per_epoch=40), False),  # nothing to compare with
    ],
)
def test_poor(level: float, steps: int, facts: Facts, poor: bool) -> None:
    history = History(facts=facts)
    for step in range(steps):
        history.step_series("loss").append(step, level)
    assert learning_is_poor(Observation(Event.STEP, steps - 1, steps), history) is poor
