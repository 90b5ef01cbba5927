"""What to do about a finding, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from failguard.core.finding import Finding

__all__ = ["Action", "Decision"]


class Action(str, Enum):
    """What a policy may ask for."""

    CONTINUE = "continue"  # record it, train on
    STOP = "stop"  # drop the pending update, end training
    SKIP = "skip"  # drop the pending update, train on
    ROLLBACK = "rollback"  # go back to verified weights, train on

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Decision:
    """An action with its reason.

    Attributes:
        action: What to do.
        reason: One sentence, for the record and the console.
        finding: The finding that led to it, ``None`` when there is none.
    """

    action: Action
    reason: str = ""
    finding: Finding | None = None
