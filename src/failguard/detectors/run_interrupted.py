"""``run.interrupted``: a signal or the scheduler ended the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import ExceptionFacts, Observation
from failguard.detectors.base import Example

__all__ = ["RunInterrupted"]


@dataclass(frozen=True, slots=True)
class RunInterrupted:
    """A person, a signal or the scheduler ended the run. A ``warning``: the run is incomplete, not faulty.

    Source: the framework's own report of the interrupt; no threshold.
    """

    code: ClassVar[str] = "run.interrupted"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EXCEPTION})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("Ctrl-C", exception=ExceptionFacts("KeyboardInterrupt", "", interrupt=True)),
        Example("a signal", exception=ExceptionFacts("SystemExit", "SIGTERM", interrupt=True)),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("ended as planned", steps={"loss": [1.0] * 20}),
        Example("an error", exception=ExceptionFacts("RuntimeError", "interrupted system call")),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at what was raised."""
        raised = observation.exception
        if raised is None or not raised.interrupt:
            return None
        text = " ".join(raised.message.split())[:100]
        how = raised.type_name + (f" ({text})" if text else "")
        message = f"The run was interrupted at step {observation.step} by {how}."
        return Finding(self.code, Severity.WARNING, observation.step, observation.epoch, message)
