"""When the next batch is to be read: each of the first, then as often as the budget allows."""

from __future__ import annotations

from collections import deque
from statistics import median
from time import perf_counter

__all__ = ["ReadingPace"]

MOST_APART = 4096  # steps
SHARE = 0.1  # of the budget


class ReadingPace:
    """Spreads the reading of batches over a run.

    Attributes:
        seen: Batches read so far.
        every_steps: The distance now.
    """

    def __init__(self, in_a_row: int, apart: int, budget: float) -> None:
        """Args:
        in_a_row: First batches that are read, each of them.
        apart: Steps between two readings after that, at least.
        budget: Share of step time that all watching may take, 0 to 1.
        """
        self.seen = 0
        self.every_steps = 1
        self._in_a_row, self._apart, self._share = in_a_row, apart, budget * SHARE
        self._cost_s = 0.0
        self._steps_s: deque[float] = deque(maxlen=8)
        self._began_at = 0.0
        self._ended: tuple[int, float] | None = None

    def begin(self, step: int) -> None:
        """A batch is about to be read.

        Args:
            step: Its index.
        """
        self.seen += 1
        self._began_at = perf_counter()
        if self._ended is not None and step > self._ended[0]:
            self._steps_s.append((self._began_at - self._ended[1]) / (step - self._ended[0]))

    def end(self, step: int) -> int:
        """It was read.

        Args:
            step: Its index.

        Returns:
            Index of the batch to be read next.
        """
        now = perf_counter()
        cost = now - self._began_at
        self._ended = (step, now)
        # An exponential mean: the first readings allocate, and one slow one is not to silence the others.
        self._cost_s = cost if self._cost_s == 0.0 else 0.8 * self._cost_s + 0.2 * cost
        if self.seen >= self._in_a_row:
            step_s = median(self._steps_s) if self._steps_s else 0.0  # a validation between two is no part of a step
            wanted = self._cost_s / (self._share * step_s) + 1.0 if self._share * step_s > 0.0 else 0.0
            self.every_steps = int(min(max(wanted, self._apart), MOST_APART))
        return step + self.every_steps
