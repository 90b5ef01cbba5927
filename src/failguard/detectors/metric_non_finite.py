"""``metric.non_finite``: NaN or Inf in a validation or other logged metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import TRAIN_LOSS_NAMES
from failguard.detectors.base import Example

__all__ = ["MetricNonFinite"]


@dataclass(frozen=True, slots=True)
class MetricNonFinite:
    """A metric of an epoch is NaN or Inf. The training loss has a finding of its own.

    ``error`` for the monitored metric and for every loss (a name with "loss" in it). Other metrics can be undefined on
    a healthy run: NaN (a score of a class that does not occur) is a ``warning``, Inf (a perplexity that overflows, a
    signal-to-noise ratio without noise) is ``info``.

    Evidence: ``bad_metrics``, how many are not finite.
    Source: the definition of a float that is not finite (IEEE 754); no threshold.
    """

    code: ClassVar[str] = "metric.non_finite"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("validation loss", epochs={"train_loss": [0.9, 0.8], "val_loss": [0.9, math.nan]}),
        Example("infinite validation loss", epochs={"val_loss": [math.inf]}),
        Example("the monitored score", epochs={"val_f1": [0.1, math.nan]}, monitor="val_f1", mode="max"),
        Example("another score, as a warning", epochs={"val_loss": [0.9], "val_auc": [math.nan]}),
        Example("an overflown perplexity, as info", epochs={"val_loss": [800.0], "val_perplexity": [math.inf]}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("all finite", epochs={"train_loss": [0.9, 0.8], "val_loss": [1e30, -1e30]}),
        Example("only the training loss", epochs={"train_loss": [0.9, math.nan], "val_loss": [0.9, 0.9]}),
        Example("a Keras training loss", epochs={"loss": [math.nan], "val_loss": [0.9]}),
        Example("counted weights", epochs={"non_finite_weights": [2.0]}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the metrics of the epoch."""
        worst: tuple[Severity, str, float] | None = None
        bad = 0
        for name, value in observation.values.items():
            if math.isfinite(value) or name in TRAIN_LOSS_NAMES:
                continue
            bad += 1
            severity = _severity(name, value, history.monitor)
            if worst is None or severity.rank > worst[0].rank:
                worst = severity, name, value
        if worst is None:
            return None
        severity, name, value = worst
        others = f", and {bad - 1} more" if bad > 1 else ""
        message = f"{name} of epoch {observation.epoch} is {value}{others}."
        evidence = {"bad_metrics": float(bad)}
        return Finding(self.code, severity, observation.step, observation.epoch, message, Where(tensor=name), evidence)


def _severity(name: str, value: float, monitor: str) -> Severity:
    if name == monitor or "loss" in name.lower():
        return Severity.ERROR
    return Severity.WARNING if math.isnan(value) else Severity.INFO
