"""Predictions and truths of a validation set, collected batch by batch for the analysis of false positives."""

from __future__ import annotations

from typing import Any

import numpy as np

from failguard.core.log import logger
from failguard.data.false_positives import FalsePositiveAnalysis, analyze_false_positives
from failguard.errors import FailGuardError

__all__ = ["Collected"]


class Collected:
    """What the Lightning and the Keras callback share.

    Args:
        user_data: The metadata, a row for each validation sample in the order in which they are validated.
        keywords: Of :func:`failguard.analyze_false_positives`.
    """

    def __init__(self, user_data: Any, keywords: dict[str, Any]) -> None:
        self.user_data = user_data
        self.keywords = keywords
        self.analysis: FalsePositiveAnalysis | None = None
        self._predictions: list[Any] = []
        self._truths: list[Any] = []

    def clear(self) -> None:
        """A validation begins."""
        self._predictions, self._truths = [], []

    def add(self, predictions: Any, truth: Any) -> None:
        """Take in a batch, shapes (samples,) or (samples, 1)."""
        for kept, values in ((self._predictions, predictions), (self._truths, truth)):
            array = np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values)
            kept.append(array.reshape(len(array), -1)[:, 0] if array.ndim > 1 and array.shape[-1] == 1 else array)

    def analyze(self) -> None:
        """The validation is over. An analysis that cannot be made is said in the log; training goes on."""
        if not self._predictions:
            return
        try:
            self.analysis = analyze_false_positives(
                np.concatenate(self._predictions), np.concatenate(self._truths), self.user_data, **self.keywords
            )
        except Exception as error:  # noqa: BLE001 - training must not end by it
            level = logger.warning if isinstance(error, FailGuardError) else logger.exception
            level("failguard: false positives could not be analyzed: %s", error)
        self.clear()
