"""``update.too_large`` and ``update.too_small``: the update-to-weight ratio is far outside the healthy band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.internals import Internals
from failguard.core.observation import Observation
from failguard.core.statistics import bounded, median
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS, held_since, layers_at

__all__ = ["UpdateTooLarge", "UpdateTooSmall"]

HEALTHY = 1e-3  # Karpathy's rule of thumb, see the sources below


@dataclass(frozen=True, slots=True)
class UpdateTooLarge:
    """Updates change the weights by a large part of themselves.

    The median over layers of update norm over weight norm is above ``ratio`` in ``samples`` samples in a row. A
    *warning*, raised only where the loss goes badly as well.

    Evidence: ``update_ratio``, ``healthy_ratio``, ``learning_rate`` where known, ``since_step``.

    Attributes:
        ratio, samples: See above.

    Source: TheDeepChecker (Ben Braiek and Khomh, 2023) accepts ratios of 1e-4 to 1e-1; about 1e-3 is usual (Karpathy,
    CS231n course notes, "Neural Networks Part 3").
    """

    ratio: float = 0.1
    samples: int = 3

    code: ClassVar[str] = "update.too_large"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("every update is twice the weights", internals=layers_at([5, 30, 60], update_ratios=[2.0, 3.0, 1.0])),
        Example("a rate of ten", internals=layers_at([5, 30, 60, 90], update_ratios=[0.4, 40.0])),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("healthy", internals=layers_at([5, 30, 60], update_ratios=[1e-3, 2e-3, 5e-3])),
        Example("one small layer moves a lot", internals=layers_at([5, 30, 60], update_ratios=[1e-3, 2e-3, 0.5])),
        Example(
            "only at first", internals=layers_at([5], update_ratios=[2.0]) + layers_at([30, 60], update_ratios=[0.01])
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest samples."""
        held = held_since(history, lambda r: None if (x := _ratio(r)) is None else x > self.ratio, self.samples)
        return None if held is None else _finding(self.code, observation, held, "far above")


@dataclass(frozen=True, slots=True)
class UpdateTooSmall:
    """Updates hardly change the weights.

    The median over layers of update norm over weight norm is below ``ratio``, but not zero, in ``samples`` samples in a
    row. A *warning*, raised only where nothing is learned as well: late in a schedule small updates are right.

    Evidence: as of ``update.too_large``.

    Attributes:
        ratio, samples: See above.

    Source: as of ``update.too_large``; a tenth of the lower limit of TheDeepChecker.
    """

    ratio: float = 1e-5
    samples: int = 3

    code: ClassVar[str] = "update.too_small"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("a rate of 1e-8", internals=layers_at([5, 30, 60], update_ratios=[1e-8, 2e-8, 1e-7])),
        Example("vanishing", internals=layers_at([5, 30, 60], update_ratios=[1e-9, 1e-7, 1e-2])),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("healthy", internals=layers_at([5, 30, 60], update_ratios=[1e-3, 2e-3, 5e-3])),
        Example("nothing moves: another finding", internals=layers_at([5, 30, 60], update_ratios=[0.0, 0.0])),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest samples."""
        held = held_since(history, lambda r: None if (x := _ratio(r)) is None else 0.0 < x < self.ratio, self.samples)
        return None if held is None else _finding(self.code, observation, held, "far below")


def _ratio(reading: Internals) -> float | None:
    ratios = [r for layer in reading.layers if (r := layer.update_ratio) is not None and r == r]
    return median(ratios) if ratios else None


def _finding(code: str, observation: Observation, held: tuple[Internals, Internals], words: str) -> Finding:
    first, last = held
    ratio = _ratio(last) or 0.0
    evidence = {"update_ratio": bounded(ratio), "healthy_ratio": HEALTHY, "since_step": float(first.step)}
    if last.learning_rate is not None:
        evidence["learning_rate"] = bounded(last.learning_rate)
    return Finding(
        code,
        Severity.WARNING,
        observation.step,
        observation.epoch,
        f"An update changes the weights by {ratio:.2g} of their size, {words} the usual {HEALTHY:g}.",
        Where(tensor="weight"),
        evidence,
    )
