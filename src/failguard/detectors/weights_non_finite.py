"""``weights.non_finite``: NaN or Inf in a parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.base import Example

__all__ = ["WeightsNonFinite"]


@dataclass(frozen=True, slots=True)
class WeightsNonFinite:
    """At least one parameter holds NaN or Inf. Always an ``error``: every later step starts from it.

    Evidence: ``non_finite_weights``, the number of such parameters (tensors, not scalars).
    Source: the definition of a float that is not finite (IEEE 754); no threshold.
    """

    code: ClassVar[str] = "weights.non_finite"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("one parameter", epochs={"train_loss": [0.5, 0.4], "non_finite_weights": [0, 1]}),
        Example("all of them", epochs={"train_loss": [0.5, math.nan], "non_finite_weights": [0, 12]}),
        Example("from the start", epochs={"non_finite_weights": [3]}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("all finite", epochs={"train_loss": [0.5, 0.4], "non_finite_weights": [0, 0]}),
        Example("not looked at", epochs={"train_loss": [0.5, 0.4]}),
        Example("bad loss, update dropped", epochs={"train_loss": [0.5, math.nan], "non_finite_weights": [0, 0]}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the count that the guard took."""
        count = observation.values.get("non_finite_weights", 0.0)
        if not count > 0:
            return None
        message = (
            f"{count:.0f} parameter{'s hold' if count > 1 else ' holds'} NaN or Inf after epoch {observation.epoch}."
        )
        return Finding(
            self.code,
            Severity.ERROR,
            observation.step,
            observation.epoch,
            message,
            Where(tensor="weight"),
            {"non_finite_weights": float(count)},
        )
