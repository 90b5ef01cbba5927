"""``gradient.non_finite``: NaN or Inf in a gradient."""

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
from failguard.detectors.base import Example

__all__ = ["GradientNonFinite"]


@dataclass(frozen=True, slots=True)
class GradientNonFinite:
    """The norm over the gradients of a step is NaN or Inf: at least one gradient is.

    ``error``, but ``info`` where a loss scaler is at work and the loss itself is finite: such overflows are how a
    scaler finds its scale, and it skips these steps by itself.

    Evidence: ``last_finite_gradient_norm``, ``loss`` of the step.
    Source: the definition of a float that is not finite (IEEE 754); no threshold.
    """

    code: ClassVar[str] = "gradient.non_finite"
    events: ClassVar[frozenset[Event]] = frozenset({Event.STEP})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("finite loss, bad gradient", steps={"loss": [0.7, 0.6, 0.6], "gradient_norm": [1.0, 1.1, math.nan]}),
        Example("overflow", steps={"loss": [0.7, 0.6], "gradient_norm": [1.0, math.inf]}),
        Example("bad at once", steps={"gradient_norm": [math.nan]}),
        Example(
            "overflow under a loss scaler, as info",
            steps={"loss": [0.7, 0.6], "gradient_norm": [1.0, math.inf]},
            facts=Facts(loss_scaled=True),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("large but finite", steps={"loss": [0.7] * 3, "gradient_norm": [1.0, 1e12, 1e200]}),
        Example("zero", steps={"loss": [0.7] * 3, "gradient_norm": [0.0, 0.0, 0.0]}),
        Example("only the loss is bad", steps={"loss": [0.7, math.nan]}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest norm. The guard calls at once after a value that is not finite."""
        norms = history.steps.get("gradient_norm")
        norm = None if norms is None else norms.last
        if norms is None or norm is None or math.isfinite(norm):
            return None
        step = norms.last_step
        assert step is not None
        losses = history.steps.get("loss")
        loss = losses.last if losses is not None and losses.last_step == step else None
        loss_is_finite = loss is None or math.isfinite(loss)
        scaled = history.facts.loss_scaled and loss_is_finite
        message = f"The gradient norm of step {step} is {norm}"
        if scaled:
            message += " under loss scaling, which tries scales until they overflow"
        elif loss is not None:
            message += f" while the loss is {loss:.6g}" if loss_is_finite else f", and so is the loss ({loss})"
        evidence = {} if loss is None or not loss_is_finite else {"loss": loss}
        finite = [float(v) for v in norms.recent(16) if math.isfinite(v)]
        if finite:
            evidence["last_finite_gradient_norm"] = finite[-1]
        severity = Severity.INFO if scaled else Severity.ERROR
        where = Where(tensor="gradient", batch=step)
        return Finding(self.code, severity, step, observation.epoch, message + ".", where, evidence)
