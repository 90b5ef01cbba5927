"""Model, optimizer, loss and plan as plain facts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import keras

from failguard.core.facts import Facts, ModelFacts, OptimizerFacts
from failguard.keras.loss import BINARY, LossFacts, loss_name, read_loss

__all__ = ["learning_rate", "model_facts", "read_facts", "set_trivial_loss"]

NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.UnitNormalization,
)
ACTIVATION_LAYERS = (
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.Softmax,
)

# What hands values on, but for those that dropout leaves out.
SAME_VALUES = ("InputLayer", "Flatten", "Reshape", "Identity", "Permute", "Dropout", "SpatialDropout1D")


def read_facts(model: Any, params: Mapping[str, Any]) -> Facts:
    """What is known of a run at its start.

    Args:
        model: A compiled model, built or not.
        params: What Keras tells callbacks: ``"epochs"``, ``"steps"``.
    """
    optimizer = _optimizer_facts(model.optimizer)
    facts = Facts(
        framework="keras",
        versions=_versions(),
        optimizer=optimizer,
        model=model_facts(model),
        loss_name=loss_name(model.loss),
        steps_per_epoch=params.get("steps"),
        max_epochs=params.get("epochs"),
        accumulate_batches=getattr(_inner(model.optimizer), "gradient_accumulation_steps", None) or 1,
        loss_scaled=isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer),
        device=_device(),
    )
    named = {
        "optimizer": optimizer.name,
        "learning_rate": optimizer.learning_rate,
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
        "loss": facts.loss_name,
        "epochs": facts.max_epochs,
    }
    facts.config = {name: value for name, value in named.items() if value not in (None, "")}
    set_trivial_loss(facts, read_loss(model))
    return facts


def set_trivial_loss(facts: Facts, loss: LossFacts) -> None:
    """Set the loss of a constant predictor from the output width, where the loss allows it and no targets are known."""
    if facts.trivial_loss is not None or facts.class_counts or not loss.has_class_prior:
        return
    width = 2 if loss.kind == BINARY else facts.model.output_width
    if width is not None and width > 1:
        facts.trivial_loss, facts.trivial_loss_source = math.log(width), "output_width"


def model_facts(model: Any) -> ModelFacts:
    """Facts of a model. A model that is not built yet has no numbers of parameters."""
    built = model.built
    rates: list[float] = []
    activations: dict[str, None] = {}
    normalization = batch_normalization = False
    layers = 0
    width: int | None = None
    every = list(model._flatten_layers(include_self=False, recursive=True))
    for layer in _layers(model):
        if layer.weights:
            layers += 1
        rate = getattr(layer, "rate", None)
        if "Dropout" in type(layer).__name__ and isinstance(rate, int | float):
            rates.append(float(rate))
        if isinstance(layer, NORMALIZATIONS) or "RMSNorm" in type(layer).__name__:
            normalization = True
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        if is_batch_norm and getattr(layer.input_spec, "ndim", None) == 2:
            batch_normalization = True
        activation = getattr(getattr(layer, "activation", None), "__name__", None)
        if isinstance(layer, ACTIVATION_LAYERS):
            activation = type(layer).__name__.lower()
        if activation and activation != "linear":
            activations[activation] = None
        units = getattr(layer, "units", None) or getattr(layer, "filters", None)
        if isinstance(units, int) and layer.weights:
            width = units
    return ModelFacts(
        name=type(model).__name__,
        parameters=_count(model.weights) if built else None,
        trainable_parameters=_count(model.trainable_weights) if built else None,
        layers=layers,
        dropout=max(rates, default=None),
        normalization=normalization,
        batch_normalization=batch_normalization,
        idle_layers=_idle_layers(model),
        activations=tuple(activations),
        output_width=width,
        recurrent=any(isinstance(layer, keras.layers.RNN) for layer in every),
        weight_penalty=_strongest_penalty(model),
        dtype=next((keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables), None),
    )


def _idle_layers(model: Any) -> tuple[str, ...]:
    """Dense layers that follow another one directly in a model without any activation, and do not narrow it.

    A hidden layer narrower than both input and output is a bottleneck, which linear models have on purpose.
    """
    if not isinstance(model, keras.Sequential) or not model.built:
        return ()
    layers = [layer for layer in model.layers if type(layer).__name__ not in SAME_VALUES]
    if layers and type(layers[-1]).__name__ in ("Softmax", "Activation"):
        layers.pop()
    if len(layers) < 2 or not all(isinstance(layer, keras.layers.Dense) for layer in layers):
        return ()
    if any(layer.activation is not keras.activations.linear for layer in layers[:-1]):
        return ()
    shapes = [tuple(layer.kernel.shape) for layer in layers]
    hidden = [shape[1] for shape in shapes[:-1]]
    return tuple(layer.name for layer in layers[1:]) if min(hidden) >= min(shapes[0][0], shapes[-1][1]) else ()


def _layers(model: Any) -> Iterator[Any]:
    """Every layer that holds no other, in order of creation."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if not any(True for _ in layer._flatten_layers(include_self=False, recursive=False)):
            yield layer


def _strongest_penalty(model: Any) -> str | None:
    """The strongest of Keras' own penalties on weights, by its factor."""
    found: list[tuple[float, str]] = []
    for variable in model.trainable_variables:
        penalty = getattr(variable, "regularizer", None)
        for name in ("l1", "l2"):
            factor = getattr(penalty, name, None)
            if factor is not None:
                found.append((float(keras.ops.convert_to_numpy(factor)), name.upper()))
    factor, name = max(found, default=(0.0, ""))
    return f"{name} {factor:.4g}" if factor > 0.0 else None


def learning_rate(optimizer: Any) -> float | None:
    """The rate of the next update, of a schedule too; ``None`` where an optimizer has none."""
    try:
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    except (AttributeError, TypeError, ValueError):
        return None


def _count(variables: Any) -> int:
    return sum(math.prod(v.shape) for v in variables)


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _optimizer_facts(optimizer: Any) -> OptimizerFacts:
    optimizer = _inner(optimizer)
    if optimizer is None:
        return OptimizerFacts()
    # Not from get_config(), which schedules and optimizers of the user's own need not have.
    schedule = getattr(optimizer, "_learning_rate", None)
    is_schedule = isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
    clipping = None
    for name, text in (
        ("global_clipnorm", "norm {}"),
        ("clipnorm", "norm {} of each variable"),
        ("clipvalue", "value {}"),
    ):
        if getattr(optimizer, name, None) is not None:
            clipping = text.format(getattr(optimizer, name))
    return OptimizerFacts(
        # Backends make optimizers of subclasses with the same name.
        name=type(optimizer).__name__,
        learning_rate=_number(learning_rate(optimizer)),
        momentum=_number(getattr(optimizer, "momentum", None)),
        weight_decay=_number(getattr(optimizer, "weight_decay", None)),
        clipping=clipping,
        schedule=type(schedule).__name__ if is_schedule else None,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("keras", {"torch": "torch", "jax": "jax"}.get(keras.backend.backend(), "tensorflow")):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # as tensorflow-cpu
            continue
    return {**found, "keras": keras.version()}


def _device() -> str | None:
    try:
        return str(keras.distribution.list_devices()[0]).lower()
    except Exception:  # noqa: BLE001 - not every backend and version can tell
        return None


def _number(value: Any) -> float | None:
    # Seven digits: what a float32 variable can hold, so that 0.01 stays 0.01.
    return float(f"{value:.7g}") if isinstance(value, int | float) else None
