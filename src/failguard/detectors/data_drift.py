"""``data.drift`` in the curves: validation gains nothing of what training learns, and is far off from the start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import bounded, median, train_loss_per_epoch
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, noisy

__all__ = ["DataDrift"]

UNLEARNED = 0.5  # of the trivial predictor's loss: so much training had left in the first epoch


@dataclass(frozen=True, slots=True)
class DataDrift:
    """Validation is far worse than a constant prediction in every epoch and does not move, while training is learned.

    All of these hold after ``min_epochs``: no validation loss is below ``far_off`` times the loss ``T`` of the trivial
    predictor on the training targets; the median of the last three is within ``least_fall`` of the first; training had
    half of ``T`` or more left in the first epoch and has ``learned`` of ``T`` or less now. A *warning*: training and
    validation data, or how they are prepared, are not alike. A validation loss in another unit falls with training.

    Evidence: ``best_val_loss``, ``train_loss``, ``trivial_loss``.

    Attributes:
        min_epochs, far_off, least_fall, learned: See above.

    Source: the rule is ours. Preprocessing that is missing on one side is among the faults of Humbatova et al.,
    "Taxonomy of Real Faults in Deep Learning Systems" (ICSE 2020).
    """

    min_epochs: int = 6
    far_off: float = 3.0
    least_fall: float = 0.1
    learned: float = 0.25

    code: ClassVar[str] = "data.drift"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "validation targets in their units",
            epochs={"train_loss": decay(12, 0.9, 0.02), "val_loss": noisy([1744.0] * 12, 0.001)},
            facts=Facts(trivial_loss=1.0),
        ),
        Example(
            "validation inputs that were not scaled",
            epochs={"train_loss": decay(12, 0.6, 0.02), "val_loss": noisy([20.0] * 12, 0.01)},
            facts=Facts(trivial_loss=0.69),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "validation in another unit",
            epochs={"train_loss": decay(12, 0.9, 0.05), "val_loss": decay(12, 1600.0, 90.0)},
            facts=Facts(trivial_loss=1.0),
        ),
        Example(
            "learned within the first epoch, validation as a sum",
            epochs={"train_loss": decay(12, 0.2, 0.05), "val_loss": noisy([50.0] * 12, 0.01)},
            facts=Facts(trivial_loss=1.0),
        ),
        Example(
            "nothing is learned at all",
            epochs={"train_loss": noisy([1.0] * 12, 0.01), "val_loss": noisy([1.0] * 12, 0.01)},
            facts=Facts(trivial_loss=1.0),
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare both losses with the trivial predictor's."""
        trivial, series, val = history.facts.trivial_loss, train_loss_per_epoch(history), history.epochs.get("val_loss")
        if trivial is None or not trivial > 0.0 or series is None or val is None:
            return None
        train, validation = series.values.tolist(), val.values.tolist()
        if min(len(train), len(validation)) < self.min_epochs or not all(map(math.isfinite, (*train, *validation))):
            return None
        now = median(validation[-3:])
        if (
            min(validation) < self.far_off * trivial
            or now < (1.0 - self.least_fall) * validation[0]
            or train[0] < UNLEARNED * trivial
            or median(train[-3:]) > self.learned * trivial
        ):
            return None
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"val_loss is {min(validation):.4g} at best, {min(validation) / trivial:.3g} times what a constant "
            f"prediction gives, and has not moved while the training loss fell from {train[0]:.4g} to {train[-1]:.4g}.",
            Where(tensor="loss"),
            {
                "best_val_loss": bounded(min(validation)),
                "train_loss": bounded(train[-1]),
                "trivial_loss": bounded(trivial),
            },
        )
