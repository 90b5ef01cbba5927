"""``gradient.accumulating``: gradients carry over from step to step, because they were not cleared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, SetupFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.outcome import learning_is_bad
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS

__all__ = ["GradientAccumulating"]


@dataclass(frozen=True, slots=True)
class GradientAccumulating:
    """After an update the next backward pass added to the gradients of the last one.

    Exact: at the first backward pass after an optimizer's step the gradients still held values. Seen at ``min_checks``
    updates at least and at nine of ten that were looked at, it is a *warning*; an *error* where nothing is learned. To
    accumulate over several batches before a step is something else, and fine.

    Evidence: ``carried_over`` and ``checks``, numbers of updates.

    Attributes:
        min_checks: See above.

    Source: exact, no threshold but the one above.
    """

    min_checks: int = 3

    code: ClassVar[str] = "gradient.accumulating"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "zero_grad is missing",
            steps={"loss": [1.0] * 40},
            facts=Facts(setup=SetupFacts(carried_over=8, carry_checks=8)),
        ),
        Example(
            "learned badly with it",
            steps={"loss": [2.3] * 900},
            facts=Facts(setup=SetupFacts(carried_over=8, carry_checks=8), trivial_loss=2.3),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("cleared", steps={"loss": [1.0] * 40}, facts=Facts(setup=SetupFacts(carry_checks=8))),
        Example("once", steps={"loss": [1.0] * 40}, facts=Facts(setup=SetupFacts(carried_over=1, carry_checks=8))),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at what backward passes found."""
        setup = history.facts.setup
        if setup.carried_over < self.min_checks or setup.carried_over < 0.9 * setup.carry_checks:
            return None
        severity = Severity.ERROR if learning_is_bad(observation, history) else Severity.WARNING
        return Finding(
            self.code,
            severity,
            observation.step,
            observation.epoch,
            f"At {setup.carried_over} of {setup.carry_checks} updates looked at, gradients still held those of the "
            "update before: they are not cleared.",
            Where(tensor="gradient"),
            {"carried_over": float(setup.carried_over), "checks": float(setup.carry_checks), "since_step": 0.0},
        )
