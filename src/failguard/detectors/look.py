"""Ask detectors about one moment of a run, as the live guard and the analysis of finished runs do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from failguard.core.containment import Containment
from failguard.core.event import Event
from failguard.core.finding import Finding
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.redaction import redact_text
from failguard.detectors.base import ALL_EVENTS, Detector

__all__ = ["by_event", "look"]


def by_event(detectors: Sequence[Detector]) -> dict[Event, list[Detector]]:
    """The detectors to ask at each event."""
    return {event: [d for d in detectors if event in getattr(d, "events", ALL_EVENTS)] for event in Event}


def look(
    detectors: Sequence[Detector], observation: Observation, history: History, containment: Containment
) -> list[Finding]:
    """What the detectors have to say, without secrets.

    A detector that raises, or returns something that is no finding, is retired under the part name
    ``"detector <code>"``; the others go on.
    """
    found = []
    for detector in detectors:
        finding = containment.run(f"detector {detector.code}", _ask, detector, observation, history)
        if finding is not None:
            found.append(finding)
    return found


def _ask(detector: Detector, observation: Observation, history: History) -> Finding | None:
    finding = detector.check(observation, history)
    if finding is None:
        return None
    if not isinstance(finding, Finding):
        raise TypeError(f"check returned {type(finding).__name__}; it returns a Finding or None")
    return replace(finding, message=redact_text(finding.message))
