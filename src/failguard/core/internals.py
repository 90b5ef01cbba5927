"""What goes on inside a model, as adapters sample it: layers, units of activations, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ActivationReading", "Internals", "LayerReading", "PredictionReading"]


@dataclass(frozen=True, slots=True)
class LayerReading:
    """One layer with trainable parameters around one update. ``None`` where something was not taken.

    Attributes:
        name: Qualified name, as the framework names it.
        kind: Class name, such as ``"Linear"``.
        parameters: Trainable scalars in it.
        gradient_norm: L2 norm over its gradients, unclipped and unscaled.
        weight_norm: L2 norm over its weights; biases and other vectors are left out where there is a matrix.
        update_norm: L2 norm of what one update changed in these weights. For large layers both are taken over the same
            sample of elements.
        zero_gradient_units: Share of output units whose gradients were exactly zero, 0 to 1.
    """

    name: str
    kind: str = ""
    parameters: int = 0
    gradient_norm: float | None = None
    weight_norm: float | None = None
    update_norm: float | None = None
    zero_gradient_units: float | None = None

    @property
    def update_ratio(self) -> float | None:
        """Update to weight, ``None`` where it is not known or the weights are zero."""
        if self.update_norm is None or not self.weight_norm:
            return None
        return self.update_norm / self.weight_norm


@dataclass(frozen=True, slots=True)
class ActivationReading:
    """The units of one activation over several batches in a row.

    Attributes:
        name: Qualified name of the layer whose output is activated.
        kind: ``"relu"``, ``"sigmoid"`` or ``"tanh"``.
        units: Units; channels of a convolution.
        dead_units: Those that put out zero for every sample of every batch. For ``"relu"`` only.
        saturated_units: Those that were at a flat end (slope below 1 % of its maximum: ``|x| > 6`` into a sigmoid,
            ``|x| > 3`` into a tanh) for at least 95 % of the samples. For ``"sigmoid"`` and ``"tanh"`` only.
        batches, samples: How much was looked at.
        since_step: First training batch of the window; -1 where it is not known.
    """

    name: str
    kind: str
    units: int
    dead_units: int = 0
    saturated_units: int = 0
    batches: int = 1
    samples: int = 0
    since_step: int = -1


@dataclass(frozen=True, slots=True)
class PredictionReading:
    """What the model put out for the samples of one batch, beside their targets.

    Attributes:
        samples: Samples looked at.
        predicted_classes: Different classes predicted; ``None`` for values.
        top_share: Share of the samples that got the most frequent prediction; ``None`` for values.
        target_classes: Different classes among the targets.
        target_top_share: Share of the most frequent class among the targets.
        spread: Standard deviation of the outputs over the samples, the largest of all columns.
        target_spread: The same of the targets, where they are values.
    """

    samples: int
    predicted_classes: int | None = None
    top_share: float | None = None
    target_classes: int | None = None
    target_top_share: float | None = None
    spread: float | None = None
    target_spread: float | None = None

    @classmethod
    def of_counts(cls, predicted: Sequence[int], targets: Sequence[int]) -> PredictionReading:
        """Of classes.

        Args:
            predicted, targets: How often each class was predicted, and is a target; zeros may be left out.
        """
        samples = sum(predicted)
        return cls(
            samples,
            predicted_classes=sum(n > 0 for n in predicted),
            top_share=max(predicted) / samples,
            target_classes=sum(n > 0 for n in targets),
            target_top_share=max(targets) / sum(targets),
        )


@dataclass(frozen=True, slots=True)
class Internals:
    """One sample of what goes on inside. Parts that were not taken are empty.

    Attributes:
        step: Training batch, from 0 over the whole run.
        optimizer_step: Updates applied before.
        layers: In the order of the forward pass, as far as it is known.
        activations: In the same order.
        predictions: Of this batch.
        learning_rate: At this update, of the first parameter group.
    """

    step: int
    optimizer_step: int = 0
    layers: tuple[LayerReading, ...] = ()
    activations: tuple[ActivationReading, ...] = ()
    predictions: PredictionReading | None = None
    learning_rate: float | None = None
