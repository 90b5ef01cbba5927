"""``metric.degenerate_predictions``: the model outputs one class or one constant for (nearly) every input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.internals import Internals, PredictionReading
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS, held_since

__all__ = ["MetricDegeneratePredictions"]

LEAST_SAMPLES = 8  # of one batch


def _predictions(steps: Sequence[int], **values: float) -> tuple[Internals, ...]:
    reading = PredictionReading(samples=32, **values)  # type: ignore[arg-type]
    return tuple(Internals(step, step, predictions=reading) for step in steps)


@dataclass(frozen=True, slots=True)
class MetricDegeneratePredictions:
    """Whatever goes in, the same comes out.

    For classes: ``top_share`` of a batch or more got one class, while the most frequent class of the targets makes up
    at most ``most_target_share``. For values: outputs spread by less than ``min_spread`` of the targets' spread. In
    ``samples`` samples in a row, of 8 rows or more each. A *warning*, raised only where nothing is learned as well: on
    lopsided data one class may be the right answer to nearly everything.

    Evidence: ``top_share_percent`` and ``target_top_share_percent``, or ``spread`` and ``target_spread``;
    ``since_step``.

    Attributes:
        top_share, most_target_share, min_spread, samples: See above.

    Source: the rule is ours, after the input-dependence check of TheDeepChecker (Ben Braiek and Khomh, 2023).
    """

    top_share: float = 0.98
    most_target_share: float = 0.9
    min_spread: float = 0.01
    samples: int = 3

    code: ClassVar[str] = "metric.degenerate_predictions"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "one class", internals=_predictions([9, 40, 80], predicted_classes=1, top_share=1.0, target_top_share=0.2)
        ),
        Example("one value", internals=_predictions([9, 40, 80], spread=1e-5, target_spread=3.0)),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "many classes",
            internals=_predictions([9, 40, 80], predicted_classes=9, top_share=0.2, target_top_share=0.2),
        ),
        Example(
            "rare events",
            internals=_predictions([9, 40, 80], predicted_classes=1, top_share=1.0, target_top_share=0.97),
        ),
        Example(
            "at the start only", internals=_predictions([0], predicted_classes=1, top_share=1.0, target_top_share=0.2)
        ),
        Example("constant targets", internals=_predictions([9, 40, 80], spread=0.0, target_spread=0.0)),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest samples."""
        held = held_since(history, self._shows, self.samples)
        reading = None if held is None else held[1].predictions
        if held is None or reading is None:
            return None
        if reading.top_share is not None:
            target = reading.target_top_share or 0.0
            evidence = {"top_share_percent": 100.0 * reading.top_share, "target_top_share_percent": 100.0 * target}
            text = (
                f"{reading.top_share:.0%} of the predictions are one class; of the targets it would be at most "
                f"{target:.0%}."
            )
        else:
            spread, target = reading.spread or 0.0, reading.target_spread or 0.0
            evidence = {"spread": spread, "target_spread": target}
            text = f"The outputs hardly differ (standard deviation {spread:.2g}); the targets do ({target:.2g})."
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            text,
            Where(tensor="output"),
            {**evidence, "since_step": float(held[0].step)},
        )

    def _shows(self, reading: Internals) -> bool | None:
        p = reading.predictions
        if p is None or p.samples < LEAST_SAMPLES:
            return None
        if p.top_share is not None and p.target_top_share is not None:
            return p.top_share >= self.top_share and p.target_top_share <= self.most_target_share
        if p.spread is not None and p.target_spread:
            return p.spread < self.min_spread * p.target_spread
        return None
