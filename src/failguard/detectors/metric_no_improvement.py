"""``metric.no_improvement``: the monitored metric did not improve for ``patience`` epochs."""

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
from failguard.errors import ConfigurationError

__all__ = ["MetricNoImprovement"]


@dataclass(frozen=True, slots=True)
class MetricNoImprovement:
    """The monitored metric did not improve for ``patience`` validated epochs: the rule of early stopping.

    Always ``info``: an early stop is no failure. What improves is decided by
    :class:`~failguard.core.improvement.Improvement` with the user's ``mode`` and ``min_delta``. The finding is due in
    the epoch in which the number of epochs waited reaches ``patience``, as in Keras' and Lightning's EarlyStopping.

    Attributes:
        patience: Validated epochs without improvement, >= 0. With 0 the first epoch that does not improve is enough.

    Raises:
        ConfigurationError: ``patience`` is negative or no whole number.
    """

    patience: int = 10

    code: ClassVar[str] = "metric.no_improvement"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("flat", epochs={"val_loss": [1.0] * 11}),
        Example("worse and worse", epochs={"val_loss": [1.0, 0.5, *(0.6 + 0.1 * i for i in range(10))]}),
        Example("improvements below min_delta", epochs={"val_loss": [1 - 1e-4 * i for i in range(12)]}, min_delta=0.01),
        Example("a score that stalls", epochs={"val_f1": [0.1, 0.8] + [0.7] * 10}, monitor="val_f1", mode="max"),
        Example("NaN never improves", epochs={"val_loss": [1.0] + [math.nan] * 10}),
        Example("NaN from the start", epochs={"val_loss": [math.nan] * 12}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("one epoch short of patience", epochs={"val_loss": [1.0] * 10}),
        Example("always a little better", epochs={"val_loss": [1 - 1e-6 * i for i in range(50)]}),
        Example("better every ninth epoch", epochs={"val_loss": [1 - 0.01 * (i // 9) for i in range(60)]}),
        Example("a rising score", epochs={"val_f1": [0.01 * i for i in range(40)]}, monitor="val_f1", mode="max"),
        Example("the metric is not logged", epochs={"train_loss": [1.0] * 30}),
    )

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 0:
            raise ConfigurationError(f"patience={self.patience!r} must be a whole number of epochs, 0 or more.")

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the epochs waited. Only an epoch that has the metric counts."""
        best = history.improvement
        if history.monitor not in observation.values or best.waited_epochs < max(self.patience, 1):
            return None
        evidence = {"waited_epochs": float(best.waited_epochs), "patience_epochs": float(self.patience)}
        if best.best_value is None:
            message = f"{history.monitor} had no finite value in {best.waited_epochs} epochs."
        else:
            message = (
                f"{history.monitor} did not improve for {best.waited_epochs} epochs; the best was "
                f"{best.best_value:.6g} in epoch {best.best_epoch}."
            )
            evidence["best_value"] = best.best_value
            if best.best_epoch is not None:
                evidence["best_epoch"] = float(best.best_epoch)
        return Finding(
            self.code,
            Severity.INFO,
            observation.step,
            observation.epoch,
            message,
            Where(tensor=history.monitor),
            evidence,
        )
