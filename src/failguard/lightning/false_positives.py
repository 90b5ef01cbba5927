"""Collects predictions over the validation set of a Lightning fit, and analyzes its false positives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from failguard.data.collected import Collected
from failguard.data.false_positives import FalsePositiveAnalysis
from failguard.lightning.framework import callback_base

__all__ = ["FalsePositives"]


class FalsePositives(callback_base()):  # type: ignore[misc]
    """Analyzes the false positives of each validation; :attr:`analysis` is that of the last one.

    ``validation_step`` must return a mapping with ``"predictions"`` and ``"targets"``, or ``outputs`` says how to get
    both. The validation loader must not shuffle, and one process validates: rows of ``user_data`` are matched by order.

    Args:
        user_data: The metadata, a row for each validation sample.
        outputs: From what ``validation_step`` returned and the batch, to predictions and targets.
        keywords: Of :func:`failguard.analyze_false_positives`.
    """

    def __init__(
        self, user_data: Any, outputs: Callable[[Any, Any], tuple[Any, Any]] | None = None, **keywords: Any
    ) -> None:
        super().__init__()
        self._outputs = outputs or _by_name
        self._collected = Collected(user_data, keywords)

    @property
    def analysis(self) -> FalsePositiveAnalysis | None:
        """Of the last validation; ``None`` before the first, or where it could not be made."""
        return self._collected.analysis

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """A validation begins."""
        self._collected.clear()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take in a batch of the first validation loader."""
        found = self._outputs(outputs, batch) if dataloader_idx == 0 and not trainer.sanity_checking else None
        if found is not None:
            self._collected.add(*found)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Analyze what was collected."""
        self._collected.analyze()


def _by_name(outputs: Any, batch: Any) -> tuple[Any, Any] | None:
    if isinstance(outputs, dict) and "predictions" in outputs and "targets" in outputs:
        return outputs["predictions"], outputs["targets"]
    return None
