"""Which of a trainer's metrics belong to the epoch in progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["EpochMetrics", "logs_at_epoch_end"]


class EpochMetrics:
    """Separates what was logged in this epoch from what a trainer still shows of earlier ones.

    ``trainer.callback_metrics`` keeps the last value of every metric: after an epoch without a validation it shows the
    validation before. A metric that is logged anew is a new object there.
    """

    def __init__(self) -> None:
        self._shown: dict[str, Any] = {}
        self._before_validation: dict[str, Any] = {}
        self._validation: dict[str, float] = {}
        self._validated = False

    def start_validation(self, metrics: Mapping[str, Any]) -> None:
        """A validation begins; ``metrics`` are the trainer's."""
        self._before_validation = dict(metrics)

    def end_validation(self, metrics: Mapping[str, Any]) -> None:
        """It is over. Of several in one epoch the last counts."""
        self._validation.update(_numbers(_changed(metrics, self._before_validation)))
        self._before_validation = {}
        self._validated = True

    def end_epoch(self, metrics: Mapping[str, Any]) -> tuple[dict[str, float], bool]:
        """The epoch is over.

        Returns:
            What was logged in it, and whether there was a validation.
        """
        named = {**_numbers(_changed(metrics, self._shown)), **self._validation}
        validated = self._validated
        self._shown = dict(metrics)
        self._validation, self._validated = {}, False
        return named, validated

    def state_dict(self) -> dict[str, Any]:
        """A checkpoint may be written between a validation and the end of its epoch."""
        return {"validation": dict(self._validation), "validated": self._validated}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._validation = dict(state.get("validation", {}))
        self._validated = bool(state.get("validated", False))


def logs_at_epoch_end(module: Any) -> bool:
    """Whether a module has an ``on_train_epoch_end`` of its own. What it logs comes after callbacks have run."""
    return not type(module).on_train_epoch_end.__module__.startswith(("lightning.pytorch", "pytorch_lightning"))


def _changed(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in now.items() if value is not before.get(name)}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Single real numbers as floats; anything else is left out."""
    named: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, torch.Tensor):
            if value.numel() == 1 and not value.is_complex():
                named[name] = float(value)
        elif isinstance(value, int | float):
            named[name] = float(value)
    return named
