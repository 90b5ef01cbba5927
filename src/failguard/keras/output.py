"""How the output of a Keras model meets its loss, from the layers' configuration."""

from __future__ import annotations

from typing import Any

import keras

from failguard.core.facts import OutputFacts
from failguard.keras.loss import LossFacts

__all__ = ["last_layer", "leaves", "read_output"]

MOST_DEPTH = 8  # models within models
SQUASHES = ("sigmoid", "softmax")
SAME_VALUES = ("Flatten", "Reshape", "Identity", "Permute", "Lambda")


def read_output(model: Any, loss: LossFacts) -> OutputFacts:
    """What can be told of the last layer without running it. Nothing for several outputs, or a model of its own class.

    Args:
        model: A model, built or not.
        loss: What it was compiled with.
    """
    facts = OutputFacts(loss_takes=loss.takes, loss_is_summed=loss.is_summed)
    layer = last_layer(model)
    if layer is None:
        return facts
    facts.activation = _activation(layer)
    if facts.activation in SQUASHES and type(layer).__name__ in ("Softmax", "Activation"):
        facts.is_squashed_twice = _activation(_layer_before(model, layer)) in SQUASHES
    shape = _shape(model)
    if shape is not None and facts.activation == "softmax":
        axis = getattr(layer, "axis", -1)
        if isinstance(axis, int) and shape[axis] is not None:
            facts.activation_units = shape[axis]
            facts.activation_over_samples = axis == 0
    sizes = [n for n in (shape or ())[1:] if n is not None]
    if shape is not None and len(sizes) == len(shape) - 1:
        facts.shape = (0, *sizes)  # the number of samples is not known yet
    return facts


def last_layer(model: Any, depth: int = 0) -> Any:
    """The layer that makes the only output, ``None`` where that is not plain to see."""
    if not isinstance(model, keras.Sequential | keras.Model) or depth > MOST_DEPTH:
        return None
    if isinstance(model, keras.Sequential):
        layers = list(model.layers)
        while layers and type(layers[-1]).__name__ in SAME_VALUES[:4]:
            layers.pop()
        last = layers[-1] if layers else None
    else:
        outputs = getattr(model, "outputs", None)
        if not outputs or len(outputs) != 1:
            return None
        history = getattr(outputs[0], "_keras_history", None)  # Keras has no public way from a tensor to its layer
        last = getattr(history, "operation", None)
        if type(last).__name__ in SAME_VALUES:
            return None
    return last_layer(last, depth + 1) if isinstance(last, keras.Model) else last


def leaves(model: Any) -> list[Any]:
    """The layers of a model, with those of models within it in their place."""
    found = []
    for layer in model.layers:
        found.extend(leaves(layer) if isinstance(layer, keras.Model) else [layer])
    return found


def _activation(layer: Any) -> str | None:
    """Name of the function that a layer ends with."""
    if type(layer).__name__ in ("Softmax", "ReLU"):
        return type(layer).__name__.lower()
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return None if name is None else str(name)


def _layer_before(model: Any, layer: Any) -> Any:
    """The layer whose output goes into one of a model, ``None`` where that is not plain to see."""
    if isinstance(model, keras.Sequential):
        layers = list(model.layers)
        at = layers.index(layer) if layer in layers else 0
        return last_layer(layers[at - 1]) or layers[at - 1] if at > 0 else None
    history = getattr(getattr(layer, "input", None), "_keras_history", None)
    return getattr(history, "operation", None)


def _shape(model: Any) -> tuple[int | None, ...] | None:
    try:
        shape = model.output_shape
    except (AttributeError, RuntimeError, ValueError):  # not built, or no graph of layers
        return None
    return shape if isinstance(shape, tuple) and shape and not isinstance(shape[0], tuple) else None
