"""The values of a diagnosis. How one is made is in ``failguard.diagnosis``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Cause", "Diagnosis"]


@dataclass(frozen=True, slots=True)
class Cause:
    """A possible explanation of what was found.

    Attributes:
        code: A cause of the taxonomy, such as ``"learning_rate_too_high"``.
        confidence: 0 to 1. A ranking aid, not a calibrated probability.
        evidence: Sentences with numbers that speak for it; those that speak against it start with ``"against: "``.
        remedy: One concrete thing to do.
        config_values: The configuration values involved, by name.
        verified: Whether its remedy removed the symptom when it was tried; ``None``: it was not tried.
    """

    code: str
    confidence: float
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    config_values: Mapping[str, Any] = field(default_factory=dict)
    verified: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """The cause as plain values, for JSON."""
        return {
            "code": self.code,
            "confidence": self.confidence,
            "evidence": list(self.evidence),
            "remedy": self.remedy,
            "config_values": dict(self.config_values),
            "verified": self.verified,
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Cause:
        """The inverse of :meth:`to_dict`."""
        return cls(
            code=str(d["code"]),
            confidence=float(d.get("confidence", 0.0)),
            evidence=tuple(d.get("evidence") or ()),
            remedy=str(d.get("remedy", "")),
            config_values=dict(d.get("config_values") or {}),
            verified=None if d.get("verified") is None else bool(d["verified"]),
        )


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What went wrong and why.

    Attributes:
        summary: One or two sentences for a reader who sees nothing else.
        causes: Possible causes, best first.
        config_issues: Configuration values that look wrong, one sentence each.
    """

    summary: str
    causes: tuple[Cause, ...] = ()
    config_issues: tuple[str, ...] = ()

    @property
    def likely_cause(self) -> str | None:
        """Code of the best cause, ``None`` when there is none."""
        return self.causes[0].code if self.causes else None
