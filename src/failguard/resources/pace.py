"""How often a costly reading is taken, so that it keeps to its share of a core."""

from __future__ import annotations

import time

__all__ = ["Pace"]

LONGEST_WAIT_S = 600.0
FIRST_WAIT_S = 2.0  # the first reading loads what the next ones find loaded


class Pace:
    """Spaces out a reading by what it costs.

    The first is taken at once, so that short runs have one. After a reading that took ``c`` seconds of processor time
    the next comes ``c / share`` seconds later at the earliest; after the first, 2 s at most.

    Attributes:
        next_at: When the next one is due, in seconds of :func:`time.monotonic`.
    """

    __slots__ = ("_longest_s", "_share", "next_at")

    def __init__(self, share: float) -> None:
        """Args:
        share: Share of one core that the reading may take, above 0 and at most 1.
        """
        self._share = share
        self._longest_s = FIRST_WAIT_S
        self.next_at = 0.0

    def due(self) -> bool:
        """Whether it is time. A clock that went far back does not silence the reading."""
        now = time.monotonic()
        return now >= self.next_at or now < self.next_at - LONGEST_WAIT_S

    def took(self, cost_s: float) -> None:
        """Note what the reading cost, in seconds."""
        self.next_at = time.monotonic() + min(max(cost_s, 0.0) / self._share, self._longest_s)
        self._longest_s = LONGEST_WAIT_S
