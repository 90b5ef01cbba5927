"""Layers that are frozen although nothing has ever trained them."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from failguard.keras.output import leaves

__all__ = ["untrained_frozen"]

LEAST_ELEMENTS = 64  # of a kernel, for a statement on their distribution
MOST_ELEMENTS = 65_536  # of a kernel, evenly strided
SPREAD_ERROR = 4.0  # standard errors
TRUNCATED = 0.87962566103423978  # standard deviation of a normal distribution cut off at two of its own


def untrained_frozen(model: Any) -> tuple[str, ...]:
    """Names of frozen dense layers and convolutions whose weights are as their initializer left them.

    All biases are zero, no element is beyond what the initializer can give, and their standard deviation is its own
    within four standard errors. Training moves the outermost elements out of those bounds at once. Only layers that
    Keras itself connects are looked at: what a model of the user's own does with a frozen part is not known.

    Args:
        model: A model, built.
    """
    if not isinstance(model, keras.Sequential) and not getattr(model, "outputs", None):
        return ()
    return tuple(layer.name for layer in leaves(model) if not layer.trainable and _is_untrained(layer))


def _is_untrained(layer: Any) -> bool:
    initializer, kernel = getattr(layer, "kernel_initializer", None), getattr(layer, "kernel", None)
    is_known = type(layer) in (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    if not is_known or kernel is None or not isinstance(initializer, keras.initializers.VarianceScaling):
        return False
    bias, size = layer.bias if layer.use_bias else None, math.prod(kernel.shape)
    if size < LEAST_ELEMENTS or (bias is not None and keras.ops.convert_to_numpy(bias).any()):
        return False
    flat = keras.ops.reshape(kernel, (-1,))[:: 1 + (size - 1) // MOST_ELEMENTS]
    values = np.asarray(keras.ops.convert_to_numpy(flat), dtype=np.float64)
    around = math.prod(kernel.shape[:-2])
    fan_in, fan_out = around * kernel.shape[-2], around * kernel.shape[-1]
    fan = {"fan_in": fan_in, "fan_out": fan_out}.get(initializer.mode, 0.5 * (fan_in + fan_out))
    deviation = math.sqrt(initializer.scale / max(fan, 1.0))
    most, kurtosis = {
        "uniform": (math.sqrt(3.0) * deviation, 1.8),
        "truncated_normal": (2.0 * deviation / TRUNCATED, 2.4),
    }.get(initializer.distribution, (math.inf, 3.0))
    # The standard error of a standard deviation, from the fourth moment.
    error = deviation * math.sqrt((kurtosis - 1.0) / (4.0 * values.size))
    within = float(np.abs(values).max()) <= most * (1.0 + 1e-6)
    return within and abs(float(values.std()) - deviation) <= SPREAD_ERROR * error
