"""``gradient.exploding``: the gradient norm is far above its recent robust range, and stays or grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import bounded, median
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, line, noisy

__all__ = ["GradientExploding"]

RECENT = 4  # norms that must agree
LEAST_BEFORE = 4
MOST_BEFORE = 64


@dataclass(frozen=True, slots=True)
class GradientExploding:
    """The gradient norm is ``factor`` times its level before, for four norms in a row that do not fall.

    The level before is the median of the up to 64 norms before the last four. The last four must all be above
    ``factor`` times that level and above every norm before, and the last no lower than half the highest of them: a
    burst that is over is none. A *warning*; it is raised only where the loss goes badly as well, since norms grow in
    many healthy runs (warm-up, sharpening, scaled losses).

    Evidence: ``gradient_norm``, ``level_before``, ``ratio``, ``since_step``.

    Attributes:
        factor: See above.

    Source: AUTOTRAINER (Zhang et al., ICSE 2021) calls a ratio of 70 between layers exploding, TheDeepChecker (Ben
    Braiek and Khomh, 2023) a mean above 1e6 or growth at four checks in a row; a ratio to the run's own level holds for
    every scale of losses.
    """

    factor: float = 100.0

    code: ClassVar[str] = "gradient.exploding"
    events: ClassVar[frozenset[Event]] = frozenset({Event.STEP, Event.EPOCH_END, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("grows without end", steps={"gradient_norm": noisy([1.0] * 40, 0.2) + [4.0**i for i in range(1, 20)]}),
        Example("a new level", steps={"gradient_norm": noisy([0.5] * 60 + [500.0] * 20, 0.2)}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("falls", steps={"gradient_norm": noisy(decay(200, 20.0, 0.1), 0.3)}),
        Example("one burst", steps={"gradient_norm": [1.0] * 50 + [1e5] + [1.0] * 50}),
        Example("rises slowly", steps={"gradient_norm": noisy(line(300, 0.5, 20.0), 0.3)}),
        Example("heavy tails", steps={"gradient_norm": [1e3 if i % 7 == 0 else 1.0 for i in range(200)]}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the newest norms with those before."""
        series = history.steps.get("gradient_norm")
        if series is None or len(series) < RECENT + LEAST_BEFORE:
            return None
        values = [x for x in series.recent(RECENT + MOST_BEFORE).tolist() if math.isfinite(x)]
        before, newest = values[:-RECENT], values[-RECENT:]
        if len(before) < LEAST_BEFORE:
            return None
        level = median(before)
        lowest = min(newest)
        if level <= 0.0 or lowest < self.factor * level or lowest <= max(before) or newest[-1] < 0.5 * max(newest):
            return None
        steps = series.steps
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"The gradient norm rose from about {level:.3g} to {newest[-1]:.3g} and does not come back.",
            Where(tensor="gradient"),
            {
                "gradient_norm": newest[-1],
                "level_before": level,
                "ratio": bounded(newest[-1] / level),
                "since_step": float(steps[-min(RECENT, len(steps))]),
            },
        )
