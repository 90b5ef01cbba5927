"""``run.straggler``: one rank is slower than the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import median
from failguard.detectors.base import Example

__all__ = ["RunStraggler"]


@dataclass(frozen=True, slots=True)
class RunStraggler:
    """The same rank took ``times`` the median of all ranks for its own part of a step, in each of the newest
    ``least_rounds`` rounds, and ``least_s`` longer.

    A step takes as long on every rank, as they wait for each other in the backward pass. A rank's own part is waiting
    for data, the forward pass and callbacks. The ranks tell each other theirs every few hundred steps.

    Evidence: ``rank``, ``own_s``, ``median_s``, ``ratio``.

    Attributes:
        times, least_s, least_rounds: See above.

    Source: ours.
    """

    times: float = 1.5
    least_s: float = 0.005
    least_rounds: int = 3

    code: ClassVar[str] = "run.straggler"
    events: ClassVar[frozenset[Event]] = frozenset({Event.TICK, Event.EPOCH_END, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "rank 3 takes twice as long",
            steps={"loss": [1.0] * 2048},
            machine={"slowest_rank": [3.0] * 4, "slowest_rank_s": [0.21] * 4, "median_rank_s": [0.1] * 4},
        ),
        Example(
            "since a while",
            steps={"loss": [1.0] * 2048},
            machine={
                "slowest_rank": [0.0, 2.0, 1.0, 1.0, 1.0],
                "slowest_rank_s": [0.1, 0.1, 0.3, 0.3, 0.3],
                "median_rank_s": [0.1] * 5,
            },
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "another one each time",
            steps={"loss": [1.0] * 2048},
            machine={
                "slowest_rank": [0.0, 1.0, 2.0, 3.0, 0.0, 1.0],
                "slowest_rank_s": [0.3] * 6,
                "median_rank_s": [0.1] * 6,
            },
        ),
        Example(
            "a little slower",
            steps={"loss": [1.0] * 2048},
            machine={"slowest_rank": [3.0] * 6, "slowest_rank_s": [0.12] * 6, "median_rank_s": [0.1] * 6},
        ),
        Example(
            "microseconds",
            steps={"loss": [1.0] * 2048},
            machine={"slowest_rank": [3.0] * 6, "slowest_rank_s": [0.002] * 6, "median_rank_s": [0.001] * 6},
        ),
        Example("one rank", steps={"loss": [1.0] * 2048}),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest rounds."""
        names = ("slowest_rank", "slowest_rank_s", "median_rank_s")
        series = [history.machine.get(name) for name in names]
        rounds = [list(map(float, s.recent(self.least_rounds))) for s in series if s is not None]
        if len(rounds) < len(names) or any(len(r) < self.least_rounds for r in rounds):
            return None
        ranks, slowest_s, median_s = rounds
        if len(set(ranks)) > 1 or any(
            s < self.times * m or s < m + self.least_s for s, m in zip(slowest_s, median_s, strict=True)
        ):
            return None
        own_s, usual_s = median(slowest_s), median(median_s)
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"Rank {ranks[-1]:.0f} takes {1e3 * own_s:.3g} ms for its own part of a step, the median of all ranks is "
            f"{1e3 * usual_s:.3g} ms: the others wait for it.",
            evidence={
                "rank": ranks[-1],
                "own_s": own_s,
                "median_s": usual_s,
                "ratio": own_s / usual_s if usual_s > 0 else 1e300,
            },
        )
