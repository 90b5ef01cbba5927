"""``amp.scale_collapse``: the mixed-precision loss scale keeps halving or sits at its floor."""

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
from failguard.detectors.inside import EVENTS

__all__ = ["AmpScaleCollapse"]


@dataclass(frozen=True, slots=True)
class AmpScaleCollapse:
    """The loss scaler finds no scale at which gradients are finite.

    The scale is at most ``floor``, has lost ``halvings`` halvings or more from its highest, and has not risen since the
    sample before. An *error*. Single halvings are how a scaler works.

    Evidence: ``loss_scale``, ``highest_scale``, ``halvings``.

    Attributes:
        floor, halvings: See above.

    Source: torch.amp.GradScaler begins at 65,536 and doubles after 2,000 good steps; a scale near its floor marked the
    instabilities of OPT-175B (Zhang et al., 2022, section 2.5).
    """

    floor: float = 2.0
    halvings: float = 8.0

    code: ClassVar[str] = "amp.scale_collapse"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("halves at every step", steps={"loss_scale": [65536.0 * 0.5**i for i in range(40)]}),
        Example("at its floor", steps={"loss_scale": [65536.0] * 10 + [1.0] * 20}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("settles", steps={"loss_scale": [65536.0, 32768.0, 16384.0] + [8192.0] * 40}),
        Example("a small fixed scale", steps={"loss_scale": [1.0] * 40}),
        Example("recovers", steps={"loss_scale": [65536.0 * 0.5**i for i in range(12)] + [64.0] * 40}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest scale."""
        series = history.steps.get("loss_scale")
        if series is None or len(series) < 2:
            return None
        recent = [x for x in series.recent(2).tolist() if math.isfinite(x)]
        if len(recent) < 2 or recent[-1] > self.floor or recent[-1] > recent[0]:
            return None
        highest = max((b.high for b in series.blocks() if b.finite), default=0.0)
        if highest <= 0.0 or recent[-1] < 0.0:
            return None
        lost = math.log2(highest) - math.log2(max(recent[-1], 1e-300))
        if lost < self.halvings:
            return None
        return Finding(
            self.code,
            Severity.ERROR,
            observation.step,
            observation.epoch,
            f"The loss scale fell from {highest:.4g} to {recent[-1]:.4g}: at no scale are the gradients finite.",
            Where(tensor="gradient"),
            {"loss_scale": recent[-1], "highest_scale": highest, "halvings": lost},
        )
