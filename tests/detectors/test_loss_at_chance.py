"""A loss that stays at chance or at its start, without anyone saying what chance is."""

from __future__ import annotations

import math

import pytest

from failguard.analysis import analyze

EPOCHS = range(24)


def codes(**series: list[float]) -> list[str]:
    report = analyze({"epoch": EPOCHS, **series})
    return [finding.code for finding in report.findings]


def near(level: float) -> list[float]:
    return [level * (1.0 + (0.0005 if i % 2 else -0.0005)) for i in EPOCHS]


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_usual_numbers_of_classes(classes: int) -> None:
    losses = [1.05 * math.log(classes), *near(math.log(classes))[1:]]
    assert codes(loss=losses) == ["loss.no_learning"]
    assert codes(loss=losses, val_loss=near(1.3 * math.log(classes))) == ["loss.no_learning"]


def test_other_levels_are_no_chance() -> None:
    assert codes(loss=near(math.log(512))) == [], "a contrastive loss at the size of its batch"
    assert codes(loss=near(0.68)) == []
    falling = [0.6931 - 0.0008 * i for i in EPOCHS]
    assert codes(loss=near(0.6931), val_loss=falling) == [], "validation learns"


def test_a_loss_that_came_down_has_learned() -> None:
    assert codes(loss=[2.0, 1.2, 0.9, 0.75, *near(math.log(2))[4:]]) == []


def test_always_the_more_frequent_class() -> None:
    share = 0.7
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert codes(loss=near(entropy), accuracy=near(share)) == ["loss.no_learning"]
    assert codes(loss=near(entropy), accuracy=[0.6 + 0.01 * i for i in EPOCHS]) == []
    assert codes(loss=near(entropy)) == []


def test_nothing_moves_at_all() -> None:
    still = [1.0831 + 1e-5 * (i % 3) for i in EPOCHS]
    assert codes(loss=still) == ["loss.no_learning"]
    assert codes(loss=still, reward=[float(i) for i in EPOCHS]) == [], "what is wanted gets better"
    assert codes(loss=still, lr=[0.1 * 0.9**i for i in EPOCHS]) == ["loss.no_learning"]
    assert codes(loss=[0.0] * 24) == []
