"""When a monitored metric improves: the one rule behind early stopping and best weights in every framework."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Improvement", "Mode"]

Mode = Literal["min", "max"]


@dataclass(slots=True)
class Improvement:
    """Follows one metric over validated epochs.

    A value improves when it is better than the best so far by more than ``min_delta``. A value that is not finite
    never improves and counts as an epoch waited.

    Attributes:
        mode: ``"min"`` or ``"max"``.
        min_delta: The least change that counts, >= 0, in the metric's unit.
        best_value: The best value so far, ``None`` before the first finite one.
        best_epoch: Its epoch, from 0.
        best_step: The last training step of that epoch.
        waited_epochs: Validated epochs since then.
    """

    mode: Mode = "min"
    min_delta: float = 0.0
    best_value: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    waited_epochs: int = 0

    def update(self, value: float, *, epoch: int, step: int) -> bool:
        """Take in the value of one validated epoch.

        Returns:
            Whether it is the new best.
        """
        best = self.best_value
        if math.isfinite(value) and (
            best is None or (best - value if self.mode == "min" else value - best) > self.min_delta
        ):
            self.best_value, self.best_epoch, self.best_step, self.waited_epochs = value, epoch, step, 0
            return True
        self.waited_epochs += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`load_state_dict` takes back. The settings are not part of it."""
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "best_step": self.best_step,
            "waited_epochs": self.waited_epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.best_value = state.get("best_value")
        self.best_epoch = state.get("best_epoch")
        self.best_step = state.get("best_step")
        self.waited_epochs = int(state.get("waited_epochs", 0))
