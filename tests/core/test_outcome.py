from __future__ import annotations

import math

import pytest

from failguard.core.event import Event
from failguard.core.facts import Facts, OptimizerFacts
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.outcome import learning_is_bad


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
