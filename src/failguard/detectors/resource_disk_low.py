"""``resource.disk_low``: the disk that is written to is nearly full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, ModelFacts
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.curves import line

__all__ = ["ResourceDiskLow"]

GB = 1e9
BYTES_PER_PARAMETER = 12  # 32-bit weights and the two moments of Adam


@dataclass(frozen=True, slots=True)
class ResourceDiskLow:
    """The fullest disk that the run writes to has less than ``least_bytes``, or no room for the next checkpoint.

    The size of a checkpoint is that of the last one; before the first, 12 bytes a parameter (32-bit weights and the two
    moments of Adam). Room means ``room`` times that, as a new one is written before an old one is removed; where it is
    less than one and a checkpoint was written before, it is an ``error``.

    Evidence: ``free_bytes``, and ``checkpoint_bytes`` where it is known.

    Attributes:
        least_bytes, room: See above.

    Source: ours.
    """

    least_bytes: float = 1.0 * 2**30
    room: float = 1.5

    code: ClassVar[str] = "resource.disk_low"
    events: ClassVar[frozenset[Event]] = frozenset({Event.TICK, Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("nearly full", steps={"loss": [1.0] * 512}, machine={"disk_free_bytes": line(60, 9 * GB, 0.4 * GB)}),
        Example(
            "no room for another checkpoint",
            steps={"loss": [1.0] * 512},
            machine={"disk_free_bytes": line(60, 90 * GB, 9 * GB), "checkpoint_bytes": [12 * GB]},
        ),
        Example(
            "no room for the first checkpoint",
            steps={"loss": [1.0] * 512},
            facts=Facts(model=ModelFacts(parameters=1_000_000_000)),
            machine={"disk_free_bytes": [10 * GB] * 60},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "room enough",
            steps={"loss": [1.0] * 512},
            machine={"disk_free_bytes": line(60, 90 * GB, 40 * GB), "checkpoint_bytes": [12 * GB]},
        ),
        Example("not known", steps={"loss": [1.0] * 512}),
        Example(
            "a small model on a small disk",
            steps={"loss": [1.0] * 512},
            facts=Facts(model=ModelFacts(parameters=1_000_000)),
            machine={"disk_free_bytes": [2 * GB] * 60},
        ),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare what is free with what is needed."""
        series = history.machine.get("disk_free_bytes")
        free = series.last if series is not None else None
        if free is None:
            return None
        written = history.machine.get("checkpoint_bytes")
        last = written.last if written is not None else None
        parameters = history.facts.model.parameters
        needed = last if last is not None else float(parameters * BYTES_PER_PARAMETER) if parameters else None
        evidence = {"free_bytes": free}
        if needed is not None:
            evidence["checkpoint_bytes"] = needed
        if needed is not None and free < self.room * needed:
            severity = Severity.ERROR if last is not None and free < last else Severity.WARNING
            size = f"{needed / GB:.3g} GB" + ("" if last is not None else " by the number of parameters")
            text = f"{free / GB:.3g} GB are free where the run writes: the next checkpoint ({size}) may not fit."
        elif free < self.least_bytes:
            severity = Severity.WARNING
            text = f"Only {free / GB:.3g} GB are free on a disk that the run writes to."
        else:
            return None
        return Finding(self.code, severity, observation.step, observation.epoch, text, evidence=evidence)
