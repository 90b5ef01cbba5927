"""The loss a model was compiled with: what it takes, how it reduces, and which constant predictor it can be held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

__all__ = ["BINARY", "LossFacts", "loss_name", "read_loss"]

CLASSES = ("categorical_crossentropy", "sparse_categorical_crossentropy")
BINARY = "binary_crossentropy"
PROBABILITIES = (*CLASSES, BINARY, "binary_focal_crossentropy", "categorical_focal_crossentropy", "kl_divergence")
VALUES = (
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "huber",
    "log_cosh",
    "logcosh",
    "cosine_similarity",
    "poisson",
    "hinge",
    "squared_hinge",
    "categorical_hinge",
)
# Name of the loss -> how failguard.core.batch_facts knows it.
SPREADS = {
    "mean_squared_error": "squared",
    "mean_absolute_error": "absolute",
    "huber": "huber",
    "log_cosh": "log_cosh",
    "logcosh": "log_cosh",
    BINARY: "binary",
}
AVERAGED = ("sum_over_batch_size", "mean", "mean_with_sample_weight")


@dataclass(frozen=True, slots=True)
class LossFacts:
    """One loss.

    Attributes:
        kind: Name of one of Keras' own losses, whatever the user called it; ``None`` for others and for several.
        takes: ``"logits"``, ``"probabilities"`` or ``"values"``; ``None`` where not known.
        is_summed: It adds up over samples.
        is_plain: It is one of Keras' own with nothing that moves the loss of a constant predictor: no smoothing,
            balancing, weight, sum or penalty.
        delta: Where a Huber loss becomes linear.
        takes_class_numbers: The targets are numbers of the last axis of the output, all of which count.
    """

    kind: str | None = None
    takes: str | None = None
    is_summed: bool = False
    is_plain: bool = False
    delta: float = 1.0
    takes_class_numbers: bool = False

    @property
    def spread(self) -> str | None:
        """How the loss of a constant predictor follows from the targets' spread; ``None`` where it does not."""
        return SPREADS.get(self.kind or "") if self.is_plain else None

    @property
    def has_class_prior(self) -> bool:
        """Whether the loss of a constant predictor follows from the classes' frequencies."""
        return self.is_plain and self.kind in (*CLASSES, BINARY)


def read_loss(model: Any) -> LossFacts:
    """The loss of a compiled model. What layers add to it is known once the model was called."""
    loss = _only(getattr(model, "loss", None))
    if loss is None:
        return LossFacts()
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    kind, config = _kind(loss)
    reduction = getattr(loss, "reduction", "sum_over_batch_size")
    # Without a reduction TensorFlow adds up the gradients of all samples.
    is_summed = reduction == "sum" or (reduction in (None, "none") and keras.backend.backend() == "tensorflow")
    takes = None
    if kind in PROBABILITIES:
        takes = "logits" if config.get("from_logits") else "probabilities"
    elif kind in VALUES:
        takes = "values"
    ignored = config.get("ignore_class")
    is_moved = (
        config.get("label_smoothing")
        or config.get("apply_class_balancing")
        or config.get("axis", -1) != -1
        or (ignored is not None and ignored >= 0)
    )
    is_plain = kind is not None and reduction in AVERAGED and not is_moved and not _has_more(model)
    own_step = any(getattr(type(model), n) is not getattr(keras.Model, n) for n in ("train_step", "compute_loss"))
    takes_class_numbers = kind == "sparse_categorical_crossentropy" and not is_moved and not own_step
    return LossFacts(kind, takes, is_summed, is_plain, float(config.get("delta", 1.0)), takes_class_numbers)


def loss_name(loss: Any) -> str | None:
    """``"sparse_categorical_crossentropy"`` for that loss however it was given; names joined for several outputs."""
    if loss is None or isinstance(loss, str):
        named = None if loss is None else keras.losses.get(loss)
        return loss if named is None else str(getattr(named, "name", None) or getattr(named, "__name__", loss))
    if isinstance(loss, Mapping):
        loss = list(loss.values())
    if isinstance(loss, list | tuple):
        names = [loss_name(part) for part in loss]
        return ", ".join(name for name in names if name) or None
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None)
    return str(name) if name else type(loss).__name__


def _only(loss: Any) -> Any:
    """The one loss of a model; ``None`` where there are several or none."""
    while isinstance(loss, Mapping | list | tuple):
        parts = list(loss.values()) if isinstance(loss, Mapping) else list(loss)
        if len(parts) != 1:
            return None
        loss = parts[0]
    return loss


def _kind(loss: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Name of one of Keras' own losses, and how it is set."""
    for name in (*PROBABILITIES, *VALUES):
        function = getattr(keras.losses, name, None)
        if function is not None and loss is function:
            return name, {}
        own = keras.losses.get(_class_name(name)) if function is not None else None
        if own is not None and type(loss) is type(own):
            return name, loss.get_config()
    return None, {}


def _class_name(name: str) -> str:
    known = {"kl_divergence": "KLDivergence", "log_cosh": "LogCosh", "logcosh": "LogCosh"}
    return known.get(name) or "".join(part.capitalize() for part in name.split("_"))


def _has_more(model: Any) -> bool:
    """Whether the logged loss has more in it than the loss itself: a weight, penalties, what the user's class adds."""
    if type(model).compute_loss is not keras.Model.compute_loss:
        return True
    if getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None) is not None:
        return True
    if any(getattr(v, "regularizer", None) is not None for v in model.trainable_variables):
        return True
    return any(
        # The second is what add_loss left in the newest call.
        getattr(layer, "activity_regularizer", None) is not None or getattr(layer, "_losses", None)
        for layer in model._flatten_layers(include_self=True, recursive=True)
    )
