"""``run.hang``: no step finished for much longer than steps take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.base import Example

__all__ = ["RunHang"]


@dataclass(frozen=True, slots=True)
class RunHang:
    """Nothing of the run was heard for ``times`` its longest pause so far and for ``least_s``, and it stands still.

    Pauses are those between steps, validations, checkpoints and epochs included. Standing still means that for
    ``still_s`` the training thread was at the same place in every sample and neither this process nor its children used
    the CPU: a long validation or a compilation moves. Several ranks that wait for each other keep the CPU busy, so for
    them ``ranks_s`` without a step is enough. Before the first ``first_steps`` steps, in which kernels are compiled in
    one call, the wait is ``first_s``.

    It looks only at the observation, which comes from a thread of failguard's own: ``idle_s``, ``still_s``,
    ``longest_pause_s``, ``steps``, ``ranks`` and, where the user has set it, ``hang_after_s``, which then counts alone.

    Evidence: ``idle_s``, ``still_s``, ``longest_pause_s``.

    Attributes:
        times, least_s, still_s, ranks_s, first_steps, first_s: See above.

    Source: ours; ten minutes is the timeout of NCCL's own watchdog.
    """

    times: float = 20.0
    least_s: float = 600.0
    still_s: float = 300.0
    ranks_s: float = 1800.0
    first_steps: int = 16
    first_s: float = 1800.0

    code: ClassVar[str] = "run.hang"
    events: ClassVar[frozenset[Event]] = frozenset({Event.IDLE})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "a collective that waits for ever",
            idle={"idle_s": 1900.0, "still_s": 0.0, "longest_pause_s": 2.0, "steps": 900.0, "ranks": 8.0},
        ),
        Example(
            "a loader's worker that is stuck",
            idle={"idle_s": 700.0, "still_s": 699.0, "longest_pause_s": 2.0, "steps": 900.0},
        ),
        Example(
            "a loader's worker that is stuck, before the first step",
            idle={"idle_s": 1900.0, "still_s": 1900.0, "longest_pause_s": 0.0, "steps": 0.0},
        ),
        Example(
            "longer than the user allows",
            idle={"idle_s": 31.0, "still_s": 2.0, "longest_pause_s": 5.0, "steps": 9.0, "hang_after_s": 30.0},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("a long validation", idle={"idle_s": 2000.0, "still_s": 3.0, "longest_pause_s": 2.0, "steps": 900.0}),
        Example(
            "the first step compiles", idle={"idle_s": 900.0, "still_s": 890.0, "longest_pause_s": 0.0, "steps": 0.0}
        ),
        Example(
            "a checkpoint that is as slow as the last",
            idle={"idle_s": 900.0, "still_s": 890.0, "longest_pause_s": 780.0, "steps": 900.0},
        ),
        Example("a slow step", idle={"idle_s": 100.0, "still_s": 99.0, "longest_pause_s": 1.0, "steps": 900.0}),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the silence with what the run has shown so far."""
        values = observation.values
        idle_s, still_s = values.get("idle_s", 0.0), values.get("still_s", 0.0)
        longest_s, allowed_s = values.get("longest_pause_s", 0.0), values.get("hang_after_s")
        if allowed_s is None:
            least_s = self.least_s if values.get("steps", 0.0) >= self.first_steps else self.first_s
            if idle_s < max(least_s, self.times * longest_s):
                return None
            wait_for_each_other = values.get("ranks", 1.0) > 1 and idle_s >= self.ranks_s
            if still_s < self.still_s and not wait_for_each_other:
                return None
        elif idle_s < allowed_s:
            return None
        usual = f"; the longest pause before was {longest_s:.3g} s" if longest_s > 0 else ""
        return Finding(
            self.code,
            Severity.ERROR,
            observation.step,
            observation.epoch,
            f"No step has finished for {idle_s:,.0f} s{usual}.",
            evidence={"idle_s": idle_s, "still_s": still_s, "longest_pause_s": longest_s},
        )
