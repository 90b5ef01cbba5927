"""Regressions that explain next to nothing: is it nothing?"""

from __future__ import annotations

import pytest

from failguard.core.facts import Facts
from failguard.core.finding import Severity
from failguard.core.internals import Internals, PredictionReading
from failguard.detectors.base import Example, replay
from failguard.detectors.curves import noisy
from failguard.detectors.loss_no_learning import LossNoLearning


def said(val: float, *, trivial: float | None = 1.0, samples: int = 500, spread: float = 0.2) -> Severity | None:
    """What is made of a training loss of 0.96 and a validation loss, whose trivial predictor has ``trivial``."""
    readings = [
        Internals(step, step, predictions=PredictionReading(32, spread=spread, target_spread=1.0))
        for step in range(0, 450, 30)
    ]
    example = Example(
        "",
        steps={"loss": noisy([0.96] * 450, 0.05)},
        epochs={"val_loss": noisy([val] * 10, 0.002)},
        internals=readings,
        facts=Facts(
            trivial_loss=0.97,
            trivial_loss_source="target_spread",
            validation_trivial_loss=trivial,
            validation_samples=samples,
            max_epochs=10,
            steps_per_epoch=45,
        ),
    )
    findings = replay(LossNoLearning(), example)
    return max((f.severity for f in findings), key=lambda s: s.rank, default=None)


@pytest.mark.parametrize(
    ("val", "options", "severity"),
    [
        (1.03, {}, Severity.WARNING),  # worse than the mean of the targets
        (0.955, {}, None),  # 4.5 % are learned
        (0.99, {}, Severity.INFO),  # a gain that may be chance
        (1.03, {"samples": 50}, Severity.INFO),  # too few to tell
        (1.03, {"trivial": None}, Severity.INFO),  # their spread is not known
    ],
)
def test_validation_decides(val: float, options: dict[str, float], severity: Severity) -> None:
    assert said(val, **options) is severity
