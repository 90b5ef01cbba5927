"""The validation data of a fit, where reading them again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

__all__ = ["validation_batches"]


def validation_batches(model: Any) -> Iterator[tuple[Any, Any]]:
    """Inputs and targets of each batch, while a fit validates on arrays.

    Nothing for datasets and generators, which may have a state.

    Keras hands its callbacks no validation data; the model holds what iterates over it from the first validation of a
    fit to its end.

    Args:
        model: The model in ``fit``.
    """
    iterator = getattr(model, "_eval_epoch_iterator", None)  # there is no public way
    adapter: Any = getattr(iterator, "data_adapter", None)
    if type(adapter).__name__ != "ArrayDataAdapter" or getattr(adapter, "_shuffle", True):
        return
    for batch in adapter.get_numpy_iterator():
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        yield x, y
