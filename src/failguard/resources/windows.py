"""When steps are timed in parts: a few in a row, as often as that may cost."""

from __future__ import annotations

import math

__all__ = ["STEPS", "Windows"]

STEPS = 8  # in a row: workers of a data loader deliver in bursts
FIRST_STEP = 8  # the first steps compile, and wait for workers to start
SHARE = 5e-4  # of the time of steps
EARLY = 4  # windows at the start, so that short runs have some
EARLY_EVERY_STEPS = 32
LONGEST_STEPS = 1 << 16


class Windows:
    """Decides when the next steps are timed.

    Attributes:
        next_step: The step from which a window is due; infinite where none is wanted.
    """

    def __init__(self, first_step: int, *, wanted: bool) -> None:
        """Args:
        first_step: Of the run, above 0 after a resume.
        wanted: Whether time is to be watched at all.
        """
        self.next_step: float = first_step + FIRST_STEP if wanted else math.inf
        self._count = 0

    def closed(self, step: int, cost_s: float, total_s: float) -> None:
        """A window has ended.

        Args:
            step: The step in progress.
            cost_s: What timing it cost, in seconds.
            total_s: What its :data:`STEPS` steps took, in seconds.
        """
        self._count += 1
        if self._count <= EARLY:
            self.next_step = step + EARLY_EVERY_STEPS
            return
        # Steps to let pass until the cost is its share of their time, at the pace of these.
        step_s = max(total_s / STEPS, 1e-9)
        self.next_step = step + min(max(int(cost_s / (SHARE * step_s)), STEPS), LONGEST_STEPS)

    def stop(self) -> None:
        """No more windows."""
        self.next_step = math.inf
