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

    Or it stays at chance: after ``min_epochs`` all validation losses but the first lie within ``at_chance`` of ``T``,
    which is that of the classes' frequencies, while three training losses in a row were below ``solved`` of ``T``. A
    model that has learned by heart is sure of itself and far above ``T``; one at ``T`` puts out next to the same for
    all, as with statistics of batch normalization that have not followed.

    Evidence: ``best_val_loss``, ``train_loss``, ``trivial_loss``.

    Attributes:
        min_epochs, far_off, least_fall, learned, at_chance, solved: See above.

    Source: the rule is ours. Preprocessing that is missing on one side is among the faults of Humbatova et al.,
    "Taxonomy of Real Faults in Deep Learning Systems" (ICSE 2020).
    """

    min_epochs: int = 6
    far_off: float = 3.0
    least_fall: float = 0.1
    learned: float = 0.25
    at_chance: tuple[float, float] = (0.75, 1.25)
    solved: float = 0.1

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
        Example(
            "at chance, while training is solved",
            epochs={"train_loss": decay(12, 1.5, 0.01), "val_loss": noisy([2.0] * 12, 0.03)},
            facts=Facts(trivial_loss=2.3, trivial_loss_source="class_prior"),
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
        Example(
            "learned by heart",
            epochs={
                "train_loss": decay(12, 1.5, 0.01),
                "val_loss": noisy([2.3, *[2.2 + 0.3 * i for i in range(11)]], 0.03),
            },
            facts=Facts(trivial_loss=2.3, trivial_loss_source="class_prior"),
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
        if self._stays_at_chance(train, validation, trivial, history.facts):
            text = (
                f"val_loss stays at {now:.4g}, near the {trivial:.4g} of always predicting the class frequencies, while"
            )
            return _finding(
                observation, f"{text} the training loss fell to {train[-1]:.4g}.", train, validation, trivial
            )
        if (
            min(validation) < self.far_off * trivial
            or now < (1.0 - self.least_fall) * validation[0]
            or train[0] < UNLEARNED * trivial
            or median(train[-3:]) > self.learned * trivial
        ):
            return None
        text = (
            f"val_loss is {min(validation):.4g} at best, {min(validation) / trivial:.3g} times what a constant "
            f"prediction gives, and has not moved while the training loss fell from {train[0]:.4g} to {train[-1]:.4g}."
        )
        return _finding(observation, text, train, validation, trivial)

    def _stays_at_chance(self, train: list[float], validation: list[float], trivial: float, facts: Facts) -> bool:
        low, high = (share * trivial for share in self.at_chance)
        return (
            facts.trivial_loss_source == "class_prior"
            and all(low <= loss <= high for loss in validation[1:])
            and max(train[-3:]) <= self.solved * trivial
        )


def _finding(
    observation: Observation, text: str, train: list[float], validation: list[float], trivial: float
) -> Finding:
    evidence = {
        "best_val_loss": bounded(min(validation)),
        "train_loss": bounded(train[-1]),
        "trivial_loss": bounded(trivial),
    }
    where = Where(tensor="loss")
    return Finding(DataDrift.code, Severity.WARNING, observation.step, observation.epoch, text, where, evidence)
