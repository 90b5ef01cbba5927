"""``loss.non_finite``: NaN or Inf in the training loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History, Series
from failguard.core.observation import Observation
from failguard.core.statistics import bounded, median, train_loss_per_epoch
from failguard.detectors.base import Example

__all__ = ["LossNonFinite"]

LOOK_BACK_STEPS = 64


@dataclass(frozen=True, slots=True)
class LossNonFinite:
    """The training loss of a step is NaN or Inf. Always an ``error``.

    The evidence tells a sudden bad value from one at the end of a blow-up:

    - ``last_finite_loss``: the last loss that was finite.
    - ``loss_growth_ratio``: that loss over the level before, the median of the oldest quarter of the last 64 finite
      losses. Near 1 before a corrupted batch, large after divergence. Absent unless that level is above 0.
    - ``steps_of_growth``: how many of the newest finite losses in a row lie above that level.

    Where no loss per step is known, the training loss of an epoch is looked at.
    Source: the definition of a float that is not finite (IEEE 754); no threshold.
    """

    code: ClassVar[str] = "loss.non_finite"
    events: ClassVar[frozenset[Event]] = frozenset({Event.STEP, Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("a corrupted batch", steps={"loss": [0.7, 0.6, 0.65, math.nan]}),
        Example("overflow after a blow-up", steps={"loss": [2.3, 40.0, 9e4, 1e17, math.inf]}),
        Example("minus infinity, the log of zero", steps={"loss": [-1.0, -3.0, -math.inf, -2.0]}),
        Example("the very first step", steps={"loss": [math.nan]}),
        Example("between two checks", steps={"loss": [1.0] * 20 + [math.nan] + [1.0] * 20}),
        Example("a log with one value an epoch", epochs={"train_loss": [0.9, 0.5, math.nan]}),
        Example("a Keras log", epochs={"loss": [0.9, math.inf], "val_loss": [0.8, 0.8]}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("large but finite", steps={"loss": [1e30, 1e300, 1.7e308]}),
        Example("tiny and zero", steps={"loss": [1e-300, 5e-324, 0.0]}),
        Example("negative", steps={"loss": [-1.0, -1e9, -1e12]}),
        Example("only validation is bad", epochs={"train_loss": [0.9, 0.8], "val_loss": [0.9, math.nan]}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest loss. The guard calls at once after a value that is not finite."""
        losses = history.steps.get("loss")
        if losses is not None and len(losses):
            value, what = losses.last, "step"
        elif observation.event is Event.EPOCH_END and (losses := train_loss_per_epoch(history)) is not None:
            value, what = losses.last, "epoch"
        else:
            return None
        if value is None or math.isfinite(value):
            return None
        at = losses.last_step
        step = at if what == "step" and at is not None else observation.step
        evidence = growth_evidence(losses)
        message = f"The training loss of {what} {at} is {value}"
        ratio, rising = evidence.get("loss_growth_ratio"), evidence.get("steps_of_growth", 0.0)
        if ratio is not None and ratio > 10.0 and rising >= 2:
            message += f", after it had grown {ratio:.3g}-fold over {rising:.0f} {what}s"
        elif "last_finite_loss" in evidence:
            message += f"; the last finite one was {evidence['last_finite_loss']:.6g}"
        where = Where(tensor="loss", batch=step if what == "step" else None)
        return Finding(self.code, Severity.ERROR, step, observation.epoch, message + ".", where, evidence)


def growth_evidence(losses: Series) -> dict[str, float]:
    """Whether the loss grew before it stopped being finite. For the keys see :class:`LossNonFinite`."""
    import numpy as np

    recent = losses.recent(LOOK_BACK_STEPS)
    finite = recent[np.isfinite(recent)]
    if finite.size == 0:
        return {}
    evidence = {"last_finite_loss": float(finite[-1])}
    level = median(finite[: max(1, finite.size // 4)].tolist())
    if level > 0.0:
        above = finite > level
        evidence["steps_of_growth"] = float(finite.size if above.all() else np.argmin(above[::-1]))
        evidence["loss_growth_ratio"] = bounded(float(finite[-1]) / level)
    return evidence
