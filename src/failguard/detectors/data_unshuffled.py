"""``data.unshuffled``: batches come sorted by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, LabelOrder
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.outcome import learning_is_bad
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS

__all__ = ["DataUnshuffled"]


@dataclass(frozen=True, slots=True)
class DataUnshuffled:
    """Consecutive samples share their class far more often than shuffled ones would.

    Compared is the entropy of the classes within groups of 64 or more consecutive samples with what it would be on
    average if the same classes came in random order. At most ``sorted_share`` of that, over ``min_groups`` groups, is a
    *warning*; at most ``mixed_badly_share`` only where nothing is learned as well.

    Evidence: ``entropy``, ``expected_entropy`` (nats), ``groups``.

    Attributes:
        sorted_share, mixed_badly_share, min_groups: See above.

    Source: the rule is ours. The program behind question 58237726 on Stack Overflow feeds each class in one block.
    """

    sorted_share: float = 0.35
    mixed_badly_share: float = 0.6
    min_groups: int = 4

    code: ClassVar[str] = "data.unshuffled"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("class after class", steps={"loss": [2.3] * 40}, facts=Facts(label_order=LabelOrder(20, 0.05, 2.2))),
        Example(
            "half sorted, and nothing learned",
            steps={"loss": [2.3] * 800},
            facts=Facts(label_order=LabelOrder(20, 1.1, 2.2), trivial_loss=2.3),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("shuffled", steps={"loss": [2.3] * 40}, facts=Facts(label_order=LabelOrder(20, 2.15, 2.2))),
        Example("too few groups", steps={"loss": [2.3] * 40}, facts=Facts(label_order=LabelOrder(2, 0.05, 2.2))),
        Example("hardly two classes", steps={"loss": [2.3] * 40}, facts=Facts(label_order=LabelOrder(20, 0.01, 0.04))),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the order of the labels with a random one."""
        order = history.facts.label_order
        if order is None or order.groups < self.min_groups or order.expected_entropy < 0.1:
            return None
        share = order.entropy / order.expected_entropy
        if share > self.mixed_badly_share:
            return None
        if share > self.sorted_share and not learning_is_bad(observation, history):
            return None
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"Batches come sorted by label: within {order.groups} groups of consecutive samples the classes vary "
            f"{share:.0%} as much as they would if shuffled.",
            Where(tensor="target"),
            {
                "entropy": order.entropy,
                "expected_entropy": order.expected_entropy,
                "groups": float(order.groups),
                "since_step": 0.0,
            },
        )
