"""What trials of remedies gave, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from failguard.report.plain import from_plain, plain

__all__ = ["Outcome", "Replay", "Trial", "Verification"]

SCHEMA_VERSION = 1


class Outcome(str, Enum):
    """What trials said together."""

    VERIFIED = "verified"  # a remedy removed the symptom
    NOT_REMOVED = "not_removed"  # none did
    NOT_REPRODUCED = "not_reproduced"  # without any change the symptom did not come back
    NOT_TRIED = "not_tried"  # nothing could be tried

    def __str__(self) -> str:
        return self.value


@dataclass(slots=True)
class Replay:
    """Recorded batches trained on once more.

    Attributes:
        losses: Of each batch.
        recorded_losses: Of the same batches in the run, as far as they are known.
        norms: Global gradient norm of each update, before clipping.
        updates: How many were made.
        before, after: Mean loss over the same recorded batches, before the first update and after the last; NaN where
            it is not finite.
        ended: What ended it early: ``"loss"``, ``"gradient"`` or ``"weights"`` that are not finite, ``"time"``,
            ``"error"``; ``""`` where it went through.
        error: Type and text of an error.
        seconds: What it took.
    """

    losses: list[float] = field(default_factory=list)
    recorded_losses: list[float | None] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    updates: int = 0
    before: float = float("nan")
    after: float = float("nan")
    ended: str = ""
    error: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Trial:
    """One remedy, tried.

    Attributes:
        cause: Its cause.
        what: The change in words, such as ``"with the learning rate 0.01 instead of 0.5"``.
        removed: Whether the symptom was gone; ``None`` where it was not tried.
        sentence: What came of it.
        replay: The numbers; ``None`` where it was not tried.
    """

    cause: str
    what: str = ""
    removed: bool | None = None
    sentence: str = ""
    replay: Replay | None = None


@dataclass(slots=True)
class Verification:
    """What trials of a failed run's remedies gave.

    Attributes:
        outcome: In one word.
        reason: The same in a sentence.
        from_step: Step of the run that training was taken up from.
        batches: Recorded batches that were trained on, again and again where there are more updates.
        original: The same steps without any change.
        trials: The remedies, in the order of their causes.
        remarks: What limits what this says.
        seconds: What all of it took.
        capsule_bytes: Size of the capsule.
    """

    outcome: Outcome = Outcome.NOT_TRIED
    reason: str = ""
    from_step: int | None = None
    batches: int = 0
    original: Replay | None = None
    trials: list[Trial] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    capsule_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As values of strict JSON."""
        values = plain({"schema_version": SCHEMA_VERSION, **asdict(self)})
        assert isinstance(values, dict)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verification:
        """The inverse of :meth:`to_dict`."""
        v = dict(from_plain(values))
        v.pop("schema_version", None)
        original = v.pop("original", None)
        trials = [
            Trial(**{**t, "replay": None if t.get("replay") is None else Replay(**t["replay"])})
            for t in v.pop("trials", None) or ()
        ]
        return cls(
            **{**v, "outcome": Outcome(v["outcome"])},
            original=None if original is None else Replay(**original),
            trials=trials,
        )
