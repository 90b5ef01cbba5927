"""Predicts a validation set at the end of a Keras fit, and analyzes its false positives."""

from __future__ import annotations

from typing import Any

import keras

from failguard.data.collected import Collected
from failguard.data.false_positives import FalsePositiveAnalysis

__all__ = ["FalsePositives"]


class FalsePositives(keras.callbacks.Callback):
    """Analyzes the false positives of a validation set when the fit ends; :attr:`analysis` has the result.

    Keras shows callbacks no predictions of its validation, so the set is given here and predicted once.

    Args:
        x: Inputs, as for ``model.predict``.
        y: Targets, 0 and 1, shape (samples,) or (samples, 1).
        user_data: The metadata, a row for each sample.
        batch_size: Of the prediction.
        keywords: Of :func:`failguard.analyze_false_positives`.
    """

    def __init__(self, x: Any, y: Any, user_data: Any, *, batch_size: int | None = None, **keywords: Any) -> None:
        super().__init__()
        self._x, self._y, self._batch_size = x, y, batch_size
        self._collected = Collected(user_data, keywords)

    @property
    def analysis(self) -> FalsePositiveAnalysis | None:
        """Of the fit that ended; ``None`` before, or where it could not be made."""
        return self._collected.analysis

    def on_train_end(self, logs: Any = None) -> None:
        """Predict and analyze."""
        self._collected.clear()
        self._collected.add(self.model.predict(self._x, batch_size=self._batch_size, verbose=0), self._y)
        self._collected.analyze()
