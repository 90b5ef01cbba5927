"""Where the time of a run goes: what is timed whole, and steps that are timed in parts now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PHASES", "StepTimes"]

# In this order, with the words of the report. "step" is what is left of the training steps where its parts are unknown.
PHASES = {
    "data_wait": "waiting for data",
    "step": "forward, backward, optimizer",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "callbacks": "callbacks",
    "validation": "validation",
    "checkpoint": "checkpointing",
    "failguard": "failguard",
    "startup": "before the first step",
    "other": "other",
}
_OF_A_STEP = ("data_wait", "forward", "backward", "optimizer", "callbacks")


class StepTimes:
    """Adds up where time goes.

    Attributes:
        timed_steps: Steps that were timed in parts.
    """

    def __init__(self) -> None:
        self._whole_s: dict[str, float] = {}
        self._parts_s: dict[str, float] = {}
        self._timed_s = 0.0
        self.timed_steps = 0

    def add(self, phase: str, seconds: float) -> None:
        """Count time that is no part of a training step.

        Args:
            phase: ``"validation"``, ``"checkpoint"`` or ``"startup"``.
            seconds: How long.
        """
        self._whole_s[phase] = self._whole_s.get(phase, 0.0) + max(seconds, 0.0)

    def add_window(self, parts_s: Mapping[str, float], total_s: float, steps: int) -> None:
        """Count steps in a row that were timed in parts.

        Args:
            parts_s: Seconds by part, some of ``"data_wait"``, ``"forward"``, ``"backward"``, ``"optimizer"`` and
                ``"callbacks"``.
            total_s: Seconds of the steps in all.
            steps: How many.
        """
        for name in _OF_A_STEP:
            if name in parts_s:
                self._parts_s[name] = self._parts_s.get(name, 0.0) + max(parts_s[name], 0.0)
        self._timed_s += total_s
        self.timed_steps += steps

    @property
    def data_wait_share(self) -> float | None:
        """Share of the timed steps that waited for data, 0 to 1; ``None`` where it was not measured."""
        if self._timed_s <= 0 or "data_wait" not in self._parts_s:
            return None
        return min(self._parts_s["data_wait"] / self._timed_s, 1.0)

    def summary(self, duration_s: float, training_s: float, failguard_s: float) -> dict[str, Any]:
        """Where the time went.

        Args:
            duration_s: Of the run.
            training_s: In training steps, without validation and checkpointing.
            failguard_s: In failguard's own code on the training thread.

        Returns:
            ``phases_s``: seconds by phase (see :data:`PHASES`), which add up to the duration; those within a step are
            projected from ``timed_steps`` steps that were timed in parts. ``data_wait_share`` of the time in steps,
            where it was measured. Empty before the first step.
        """
        if duration_s <= 0 or training_s <= 0:
            return {}
        whole = {name: min(seconds, duration_s) for name, seconds in self._whole_s.items() if seconds > 0}
        training_s = min(training_s, max(duration_s - sum(whole.values()), 0.0))
        failguard_s = min(max(failguard_s, 0.0), training_s)
        in_steps_s = training_s - failguard_s
        phases = {**whole, "failguard": failguard_s}
        known = 0.0
        if self._timed_s > 0:
            for name, seconds in self._parts_s.items():
                phases[name] = in_steps_s * min(seconds / self._timed_s, 1.0)
                known += phases[name]
        names_all = {"forward", "backward", "optimizer"} <= self._parts_s.keys()
        rest = max(in_steps_s - known, 0.0)
        phases["other" if names_all else "step"] = rest
        left = duration_s - training_s - sum(whole.values())
        phases["other"] = phases.get("other", 0.0) + max(left, 0.0)
        found: dict[str, Any] = {
            "phases_s": {name: phases[name] for name in PHASES if phases.get(name, 0.0) > 0},
            "timed_steps": self.timed_steps,
        }
        if self.data_wait_share is not None:
            found["data_wait_share"] = self.data_wait_share
        return found
