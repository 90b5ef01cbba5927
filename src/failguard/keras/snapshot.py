"""Weights in and out of a model, and the statistics that a forward pass moves."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

__all__ = ["BestWeights", "MovingState", "non_finite_variables"]


class BestWeights:
    """One copy of a model's weights in host memory: layer weights and statistics, no seeds, metrics or optimizer."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._saved: list[Any] | None = None

    @property
    def size_bytes(self) -> int:
        """Size of a copy."""
        return sum(_size(v) * np.dtype(_numpy_dtype(v)).itemsize for v in self._model.weights)

    def save(self) -> None:
        """Copy the weights, in place of an earlier copy."""
        self._saved = [np.array(keras.ops.convert_to_numpy(v)) for v in self._model.weights]

    def restore(self) -> None:
        """Put the copy back."""
        for variable, value in zip(self._model.weights, self._saved or [], strict=False):
            variable.assign(value)


class MovingState:
    """Statistics such as those of BatchNorm, which a bad forward pass spoils even where its update is dropped.

    Kept at the start of each epoch. Seeds are whole numbers and are left alone.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._kept: list[tuple[Any, Any]] = []
        self.epoch = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept, as before the model is built."""
        return not self._kept

    def keep(self, epoch: int) -> None:
        """Keep the statistics, if all of them are finite."""
        variables = [v for v in self._model.non_trainable_variables if "float" in str(v.dtype)]
        values = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
        if all(np.isfinite(v).all() for v in values):
            self._kept, self.epoch = list(zip(variables, values, strict=True)), epoch

    def put_back(self) -> list[str]:
        """Put back those that are not finite now.

        Returns:
            Their names.
        """
        names = []
        for variable, value in self._kept:
            if not _is_finite(variable):
                variable.assign(value)
                names.append(variable.path)
        return names


def non_finite_variables(model: Any) -> list[str]:
    """Names of the weights that hold a value that is not finite, trainable or not."""
    return [v.path for v in model.weights if "float" in str(v.dtype) and not _is_finite(v)]


def _is_finite(variable: Any) -> bool:
    return bool(keras.ops.convert_to_numpy(keras.ops.all(keras.ops.isfinite(keras.ops.convert_to_tensor(variable)))))


def _size(variable: Any) -> int:
    return int(np.prod(variable.shape)) if len(variable.shape) else 1


def _numpy_dtype(variable: Any) -> str:
    name = str(variable.dtype)
    return "float16" if name == "bfloat16" else name
