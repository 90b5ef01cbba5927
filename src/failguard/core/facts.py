"""What an adapter knows of a run before and while it trains. Plain values; absent means not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Facts", "ModelFacts", "OptimizerFacts"]


@dataclass(slots=True)
class OptimizerFacts:
    """One optimizer.

    Attributes:
        name: Class name, such as ``"AdamW"``.
        learning_rate: At the start of training.
        momentum, weight_decay: ``None`` where the optimizer has none.
        clipping: ``"norm 1.0"`` or ``"value 0.5"``; ``None`` when gradients are not clipped.
        schedule: Class name of a learning-rate schedule.
    """

    name: str = ""
    learning_rate: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    clipping: str | None = None
    schedule: str | None = None


@dataclass(slots=True)
class ModelFacts:
    """The model.

    Attributes:
        name: Class name.
        parameters, trainable_parameters: Numbers of scalars.
        layers: Number of leaf modules that hold parameters.
        dropout: The largest dropout rate in it; ``None`` without dropout.
        normalization: Whether it holds batch, layer, group or instance normalization; ``None`` where not known.
        activations: Names of activation modules or functions found, in order of first appearance.
        output_width: Units of the last dense layer or convolution.
    """

    name: str = ""
    parameters: int | None = None
    trainable_parameters: int | None = None
    layers: int | None = None
    dropout: float | None = None
    normalization: bool | None = None
    activations: tuple[str, ...] = ()
    output_width: int | None = None


@dataclass(slots=True)
class Facts:
    """Facts of one run.

    Attributes:
        framework: ``"lightning"``, ``"keras"`` or ``"torch"``; ``""`` for finished logs.
        versions: Package name to version, such as ``{"torch": "2.13.0"}``.
        config: The user's hyperparameters.
        optimizer, model: See there.
        loss_name: Name of the loss where it can be read, such as ``"sparse_categorical_crossentropy"``.
        batch_size: Samples in a training batch.
        train_samples, validation_samples: Sizes of the data. In Keras, which shows callbacks no data, ``train_samples``
            is the number of batches times the size of the first, so at most one batch too many.
        validates: There will be validations, perhaps not in every epoch; ``None`` where not known.
        steps_per_epoch, max_epochs, max_steps: The plan; ``None`` where open-ended.
        accumulate_batches: Training batches per optimizer step.
        loss_scaled: A mixed-precision loss scaler skips steps with bad gradients by itself.
        drops_bad_updates: The step itself (compiled) keeps updates with bad gradients away from the weights.
        target_kind: ``"classes"``, ``"continuous"`` or ``None``.
        class_counts: Targets seen so far by class, for ``"classes"``.
        trivial_loss: Loss of the best constant predictor, from the targets seen (class-prior entropy in nats) or from
            the output width (ln of the number of classes). Only set for cross-entropy losses.
        trivial_loss_source: Which of the two: ``"class_prior"`` or ``"output_width"``.
        device: ``"cpu"``, ``"cuda:0"``, ...
        world_size: Number of ranks.
        notes: Remarks for the report, such as why something cannot be measured.
    """

    framework: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    optimizer: OptimizerFacts = field(default_factory=OptimizerFacts)
    model: ModelFacts = field(default_factory=ModelFacts)
    loss_name: str | None = None
    batch_size: int | None = None
    train_samples: int | None = None
    validation_samples: int | None = None
    validates: bool | None = None
    steps_per_epoch: int | None = None
    max_epochs: int | None = None
    max_steps: int | None = None
    accumulate_batches: int = 1
    loss_scaled: bool = False
    drops_bad_updates: bool = False
    target_kind: str | None = None
    class_counts: Mapping[int, int] = field(default_factory=dict)
    trivial_loss: float | None = None
    trivial_loss_source: str | None = None
    device: str | None = None
    world_size: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def planned_steps(self) -> int | None:
        """Training batches that the whole run was to have; ``None`` where open-ended."""
        plans = []
        if self.max_steps is not None and self.max_steps > 0:
            plans.append(self.max_steps * self.accumulate_batches)
        if self.max_epochs is not None and self.max_epochs > 0 and self.steps_per_epoch:
            plans.append(self.max_epochs * self.steps_per_epoch)
        return min(plans) if plans else None

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain values, for JSON."""
        return asdict(self)
