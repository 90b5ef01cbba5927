"""The moments of a training run at which failguard looks."""

from __future__ import annotations

from enum import Enum

__all__ = ["Event"]


class Event(str, Enum):
    """A moment of a run, the same in every framework.

    ::

        RUN_START
        for epoch:
            for batch:
                forward, loss, backward
                (before the update: losses and gradients that are not finite are seen here)
                STEP                     after the batch; detectors run on many steps at once
            validation
            EPOCH_END                    metrics of the epoch, validation included
        RUN_END                          or EXCEPTION when training raised or was interrupted

    ``TICK`` comes at the end of a batch about every ten seconds, for what need not be looked at more often. ``IDLE``
    comes from a thread of failguard's own while no batch ends: only the values of the observation may be looked at.
    """

    RUN_START = "run_start"
    STEP = "step"
    EPOCH_END = "epoch_end"
    RUN_END = "run_end"
    EXCEPTION = "exception"
    TICK = "tick"
    IDLE = "idle"

    def __str__(self) -> str:
        return self.value
