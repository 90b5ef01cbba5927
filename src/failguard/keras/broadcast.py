"""Whether a loss of the user's own compares every output with every target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

__all__ = ["broadcasts"]

SAMPLES = 7  # of the made-up batch: a length that no other dimension is likely to have


def broadcasts(loss: Any, output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> bool:
    """Whether a loss meets shapes ``(n, 1)`` and ``(n,)`` in one operation, which makes ``(n, n)`` of them.

    The loss is traced, not run: no random number is drawn. Known on TensorFlow only.

    Args:
        loss: A function or a ``keras.losses.Loss``, as the model was compiled with.
        output_shape, target_shape: Of one batch, the samples first.

    Returns:
        ``False`` also where it cannot be told.
    """
    if keras.backend.backend() != "tensorflow" or not callable(loss):
        return False
    function: Callable[..., Any] = loss
    if not isinstance(loss, keras.losses.Loss) and len(target_shape) == len(output_shape) - 1 and output_shape[-1] == 1:
        target_shape = (*target_shape, 1)  # Keras itself does so before it calls a function
    import tensorflow as tf

    specs = [tf.TensorSpec((SAMPLES, *shape[1:]), tf.float32) for shape in (target_shape, output_shape)]
    try:
        graph = tf.function(function, autograph=False).get_concrete_function(*specs).graph
    except Exception:  # noqa: BLE001 - a loss may ask for anything, such as whole numbers
        return False
    return any(_is_outer(operation) for operation in graph.get_operations())


def _is_outer(operation: Any) -> bool:
    if len(operation.inputs) != 2 or len(operation.outputs) != 1:
        return False
    shapes = {_shape(tensor) for tensor in operation.inputs}
    return shapes == {(SAMPLES, 1), (SAMPLES,)} and _shape(operation.outputs[0]) == (SAMPLES, SAMPLES)


def _shape(tensor: Any) -> tuple[int | None, ...] | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
