"""``gradient.vanishing``: early layers receive (nearly) no gradient relative to late ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.internals import Internals
from failguard.core.observation import Observation
from failguard.core.statistics import median
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS, held_since, layers_at

__all__ = ["GradientVanishing"]

LEAST_LAYERS = 3


@dataclass(frozen=True, slots=True)
class GradientVanishing:
    """Hardly any gradient comes through to the early layers.

    Compared is the root mean square gradient of a layer, its norm over the square root of its parameters: the median of
    the first third of the layers over that of the last layer. Below ``ratio`` in three samples in a row it is a
    *warning*, which is raised only where nothing is learned as well. Models of fewer than three layers are left out,
    and samples in which the last layer has no gradient either.

    Evidence: ``ratio``, ``early_gradient``, ``late_gradient`` (root mean squares), ``layers``, ``since_step``.

    Attributes:
        ratio: See above.

    Source: AUTOTRAINER (Zhang et al., ICSE 2021) takes a ratio of first to last layer below 1e-3.
    """

    ratio: float = 1e-3

    code: ClassVar[str] = "gradient.vanishing"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "twelve sigmoid layers",
            internals=layers_at([10, 40, 80, 120], gradient_norms=[10.0 ** (i - 12) for i in range(12)]),
        ),
        Example("nothing at all in the early ones", internals=layers_at([10, 40, 80], gradient_norms=[0.0, 0.1, 1.0])),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("even", internals=layers_at([10, 40, 80], gradient_norms=[0.5, 0.7, 1.0, 2.0])),
        Example("a wide range", internals=layers_at([10, 40, 80], gradient_norms=[0.01, 0.1, 1.0, 0.5])),
        Example("once", internals=layers_at([10], gradient_norms=[1e-9, 1e-3, 1.0])),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare early with late layers in the newest samples."""
        held = held_since(history, self._shows, least=3)
        if held is None:
            return None
        first, last = held
        parts = _early_and_late(last)
        if parts is None:
            return None
        early, late, count = parts
        name = next(layer.name for layer in last.layers if layer.gradient_norm is not None)
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"The first of {count} layers get gradients of {early:.2g} (root mean square), the last one {late:.2g}: "
            "hardly anything comes through.",
            Where(module=name, tensor="gradient"),
            {
                "ratio": early / late,
                "early_gradient": early,
                "late_gradient": late,
                "layers": float(count),
                "since_step": float(first.step),
            },
        )

    def _shows(self, reading: Internals) -> bool | None:
        parts = _early_and_late(reading)
        return None if parts is None else parts[0] < self.ratio * parts[1]


def _early_and_late(reading: Internals) -> tuple[float, float, int] | None:
    sizes = [
        layer.gradient_norm / math.sqrt(layer.parameters)
        for layer in reading.layers
        if layer.gradient_norm is not None and math.isfinite(layer.gradient_norm) and layer.parameters > 0
    ]
    if len(sizes) < LEAST_LAYERS or sizes[-1] <= 0.0:
        return None
    return median(sizes[: max(1, len(sizes) // 3)]), sizes[-1], len(sizes)
