"""What an adapter knows of a run before and while it trains. Plain values; absent means not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "Facts",
    "InputFacts",
    "LabelOrder",
    "ModelFacts",
    "OptimizerFacts",
    "OutputFacts",
    "SetupFacts",
    "TargetFacts",
]


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

    @property
    def may_start_slowly(self) -> bool:
        """The schedule may begin near a rate of zero."""
        return self._schedule_says("warm", "onecycle", "lambda", "linear", "sequential")

    @property
    def swings(self) -> bool:
        """The schedule raises the rate again and again, so that losses jump or swing by design."""
        return self._schedule_says("restart", "cycl")

    def _schedule_says(self, *words: str) -> bool:
        return any(word in (self.schedule or "").lower() for word in words)


@dataclass(slots=True)
class ModelFacts:
    """The model.

    Attributes:
        name: Class name.
        parameters, trainable_parameters: Numbers of scalars.
        layers: Number of leaf modules that hold parameters.
        dropout: The largest dropout rate in it; ``None`` without dropout.
        normalization: Whether it holds batch, layer, group or instance normalization; ``None`` where not known.
        batch_normalization: Whether it normalizes single units over the samples of a batch; ``None`` where not known.
        idle_layers: Dense layers that directly follow another one without narrowing it, so that they add nothing, in a
            model that has no activation at all; by name.
        activations: Names of activation modules or functions found, in order of first appearance.
        output_width: Units of the last dense layer or convolution.
        recurrent: Whether it holds recurrent layers; ``None`` where not known.
        weight_penalty: Penalties on weights that layers add to the loss, such as ``"L2 0.01"``; the strongest one.
        dtype: Of the first trainable parameter, such as ``"float32"``.
    """

    name: str = ""
    parameters: int | None = None
    trainable_parameters: int | None = None
    layers: int | None = None
    dropout: float | None = None
    normalization: bool | None = None
    batch_normalization: bool | None = None
    idle_layers: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()
    output_width: int | None = None
    recurrent: bool | None = None
    weight_penalty: str | None = None
    dtype: str | None = None


@dataclass(slots=True)
class OutputFacts:
    """What the model hands to the loss, and how the loss takes it: from the model's structure and one batch.

    Attributes:
        activation: The last operation before the loss: ``"softmax"``, ``"log_softmax"``, ``"sigmoid"``, ``"relu"``,
            ``"tanh"``, another activation's name, or ``"linear"``; ``None`` where not known.
        activation_units: Units that a softmax normalizes over.
        activation_over_samples: A softmax normalizes over the samples of a batch rather than over the units.
        loss_takes: What the loss is made for: ``"logits"``, ``"probabilities"``, ``"log_probabilities"`` or
            ``"values"``; ``None`` where not known.
        loss_is_summed: The loss adds up over samples, so that it grows with the batch.
        shape, target_shape: Shapes for one batch as the loss got them, the samples first.
        is_broadcast: The two shapes differ and were broadcast to one that neither has.
        minimum, maximum: Over the batches looked at.
        least_row_sum, greatest_row_sum: Of the probabilities of one sample, where the loss takes one distribution over
            the classes for each.
        ignored_class: Class number that the loss leaves out, such as 255 in segmentation.
        is_negated: The loss is minus one that is never negative.
        is_squashed_twice: What goes into the last sigmoid or softmax has come out of another one.
    """

    activation: str | None = None
    activation_units: int | None = None
    activation_over_samples: bool = False
    loss_takes: str | None = None
    loss_is_summed: bool = False
    shape: tuple[int, ...] | None = None
    target_shape: tuple[int, ...] | None = None
    is_broadcast: bool = False
    minimum: float | None = None
    maximum: float | None = None
    least_row_sum: float | None = None
    greatest_row_sum: float | None = None
    ignored_class: int | None = None
    is_negated: bool = False
    is_squashed_twice: bool = False


@dataclass(slots=True)
class TargetFacts:
    """The targets of the batches looked at.

    Attributes:
        dtype: Such as ``"int64"``.
        minimum, maximum, mean, standard_deviation: Over all of them.
        mean_absolute_deviation: Mean distance from the median.
        below_zero, above_one: Share of the targets there.
        is_whole: All are whole numbers.
        is_one_hot: Every row holds a single 1 and zeros.
        elements_per_sample: Numbers in the target of one sample.
        names_classes: They are whole numbers that name classes: inputs do not follow their order. ``None``: not known.
        samples: How many rows were looked at.
        weigh_differently: In the training loss some samples count more than others, as by weights of classes, which
            are not known to count in validation.
    """

    dtype: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    mean_absolute_deviation: float | None = None
    below_zero: float | None = None
    above_one: float | None = None
    is_whole: bool | None = None
    is_one_hot: bool | None = None
    elements_per_sample: int | None = None
    names_classes: bool | None = None
    samples: int = 0
    weigh_differently: bool = False


@dataclass(slots=True)
class InputFacts:
    """The floating-point inputs and the 8-bit images of the batches looked at; other integers are none, as token ids.

    Attributes:
        minimum, maximum, mean, standard_deviation: Over all elements.
        features: Length of the last dimension of tabular inputs (samples, features); ``None`` for others.
        least_feature_deviation, greatest_feature_deviation: Standard deviations of single features that vary, the
            smallest and the largest; of tabular inputs only.
        greatest_feature_mean: The largest mean of a feature in magnitude; of tabular inputs only.
        constant_features: Features that do not vary over the samples looked at.
        samples: How many rows were looked at.
        dtype: Of the first input, such as ``"float32"``, whatever it is.
    """

    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    features: int | None = None
    least_feature_deviation: float | None = None
    greatest_feature_deviation: float | None = None
    greatest_feature_mean: float | None = None
    constant_features: int | None = None
    samples: int = 0
    dtype: str | None = None


@dataclass(slots=True)
class LabelOrder:
    """How well mixed the labels of consecutive samples are.

    Attributes:
        groups: Groups of consecutive samples looked at, of 64 or more each.
        entropy: Mean entropy of the classes within a group, in nats.
        expected_entropy: What shuffled data would have on average.
    """

    groups: int = 0
    entropy: float = 0.0
    expected_entropy: float = 0.0


@dataclass(slots=True)
class SetupFacts:
    """How model, optimizer and loop are put together, where it can be told exactly.

    Attributes:
        optimizers: Optimizers that were seen or are known.
        left_out: Trainable parameters that got a gradient and that no optimizer updates, by name, in order.
        left_out_share: Their share of all trainable scalars, 0 to 1.
        left_out_last: The last layer with parameters is among them, so that it is no mere frozen backbone.
        hidden: Those among them that a plain list, dict or attribute hides from the model, so that no optimizer that
            was given the model's parameters has them.
        without_gradient: Parameters in an optimizer that got no gradient in any of ``gradient_checks`` updates.
        without_gradient_share: Their share of the scalars in optimizers.
        without_gradient_unused: Their modules were not called in any forward pass that was looked at.
        gradient_checks: Updates at which that was looked at.
        updates_without_gradient: Updates at which no parameter at all had a gradient; or the loop asks before backward.
        loss_reaches_parameters: A path of gradients leads from the loss to parameters; ``None`` where not known.
        maximizes: The optimizer was told to maximize.
        frozen: Parameters in an optimizer that do not require gradients.
        frozen_share: Their share of the scalars in optimizers.
        untrained_frozen: Layers on the way to the output that are frozen and, after an epoch, as an initializer left
            them, by name.
        trains_in_eval_mode: In training every dropout, batch normalization and layer that learns was in eval mode.
        mode_is_passed: The code itself says so at every call, as in ``layer(x, training=False)``.
        evaluates_in_train_mode: Dropout or batch normalization was in train mode in validation.
        carried_over: Updates whose gradients still held those of the update before.
        carry_checks: Updates at which that was looked at.
    """

    optimizers: int = 0
    left_out: tuple[str, ...] = ()
    left_out_share: float = 0.0
    left_out_last: bool = False
    hidden: tuple[str, ...] = ()
    without_gradient: tuple[str, ...] = ()
    without_gradient_share: float = 0.0
    without_gradient_unused: bool = False
    gradient_checks: int = 0
    updates_without_gradient: int = 0
    loss_reaches_parameters: bool | None = None
    maximizes: bool = False
    frozen: tuple[str, ...] = ()
    frozen_share: float = 0.0
    untrained_frozen: tuple[str, ...] = ()
    trains_in_eval_mode: bool = False
    mode_is_passed: bool = False
    evaluates_in_train_mode: bool = False
    carried_over: int = 0
    carry_checks: int = 0


@dataclass(slots=True)
class Facts:
    """Facts of one run.

    Attributes:
        framework: ``"lightning"``, ``"keras"`` or ``"torch"``; ``""`` for finished logs.
        versions: Package name to version, such as ``{"torch": "2.13.0"}``.
        config: The user's hyperparameters.
        optimizer, model, output, target, inputs, setup: See there.
        loss_name: Name of the loss where it can be read, such as ``"sparse_categorical_crossentropy"``.
        batch_size: Samples in a training batch.
        train_samples, validation_samples: Sizes of the data. In Keras, which shows callbacks no data, ``train_samples``
            is the number of batches times the size of the first, so at most one batch too many.
        validates: There will be validations, perhaps not in every epoch; ``None`` where not known.
        steps_per_epoch, max_epochs, max_steps: The plan; ``None`` where open-ended.
        patience: Epochs without improvement before an early stop; ``None``: no early stopping.
        accumulate_batches: Training batches per optimizer step.
        loss_scaled: A mixed-precision loss scaler skips steps with bad gradients by itself.
        drops_bad_updates: The step itself (compiled) keeps updates with bad gradients away from the weights.
        target_kind: ``"classes"``, ``"continuous"`` or ``None``.
        class_counts: Targets seen so far by class, for ``"classes"``.
        validation_class_counts: The same of the validation targets looked at, all of them or at least some thousands.
        label_order: How mixed the labels come, ``None`` where there are no classes or too few samples were seen.
        trivial_loss: Loss of the best constant predictor. For cross-entropy from the targets seen (class-prior entropy
            in nats) or from the output width (ln of the number of classes); for squared and absolute errors the
            variance and the mean absolute deviation of the targets seen.
        trivial_loss_source: Which of these: ``"class_prior"``, ``"output_width"`` or ``"target_spread"``.
        validation_trivial_loss: Loss of the best constant predictor on the validation targets, where all were seen and
            it follows from their spread.
        device: ``"cpu"``, ``"cuda:0"``, ...
        world_size: Number of ranks.
        notes: Remarks for the report, such as why something cannot be measured.
    """

    framework: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    optimizer: OptimizerFacts = field(default_factory=OptimizerFacts)
    model: ModelFacts = field(default_factory=ModelFacts)
    output: OutputFacts = field(default_factory=OutputFacts)
    target: TargetFacts = field(default_factory=TargetFacts)
    inputs: InputFacts = field(default_factory=InputFacts)
    setup: SetupFacts = field(default_factory=SetupFacts)
    loss_name: str | None = None
    batch_size: int | None = None
    train_samples: int | None = None
    validation_samples: int | None = None
    validates: bool | None = None
    steps_per_epoch: int | None = None
    max_epochs: int | None = None
    max_steps: int | None = None
    patience: int | None = None
    accumulate_batches: int = 1
    loss_scaled: bool = False
    drops_bad_updates: bool = False
    target_kind: str | None = None
    class_counts: Mapping[int, int] = field(default_factory=dict)
    validation_class_counts: Mapping[int, int] = field(default_factory=dict)
    label_order: LabelOrder | None = None
    trivial_loss: float | None = None
    trivial_loss_source: str | None = None
    validation_trivial_loss: float | None = None
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
