"""``run.exception``: training raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import ExceptionFacts, Observation
from failguard.detectors.base import Example

__all__ = ["RunException"]

MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class RunException:
    """Training raised an exception that ends the run. Always ``fatal``. Interrupts have a finding of their own.

    Source: the framework's own report of the exception; no threshold.
    """

    code: ClassVar[str] = "run.exception"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EXCEPTION})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("a shape error", exception=ExceptionFacts("RuntimeError", "mat1 and mat2 shapes cannot be multiplied")),
        Example("an error without text", steps={"loss": [1.0] * 20}, exception=ExceptionFacts("KeyError", "")),
        Example("a long text", exception=ExceptionFacts("ValueError", "x" * 10_000)),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("no exception", steps={"loss": [1.0] * 20}),
        Example("Ctrl-C", exception=ExceptionFacts("KeyboardInterrupt", "", interrupt=True)),
        Example("SystemExit", exception=ExceptionFacts("SystemExit", "143", interrupt=True)),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at what was raised."""
        raised = observation.exception
        if raised is None or raised.interrupt:
            return None
        text = " ".join(raised.message.split())
        if len(text) > MESSAGE_CHARACTERS:
            text = text[: MESSAGE_CHARACTERS - 4] + " ..."
        message = f"Training raised {raised.type_name}{': ' + text if text else '.'}"
        return Finding(self.code, Severity.FATAL, observation.step, observation.epoch, message)
