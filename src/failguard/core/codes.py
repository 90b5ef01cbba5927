"""The vocabulary: every finding and every cause that failguard can name. Codes are never renamed or reused."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from failguard.core.finding import Severity
from failguard.errors import ConfigurationError

__all__ = ["CAUSES", "FINDINGS", "NON_FINITE_CODES", "CauseCode", "FindingCode", "check_finding_code"]


@dataclass(frozen=True, slots=True)
class FindingCode:
    """A symptom that can be observed.

    Attributes:
        code: Such as ``"loss.divergence"``.
        meaning: What was seen, in one sentence.
        severity: The usual severity of a confirmed case. A detector may report a milder one.
    """

    code: str
    meaning: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class CauseCode:
    """An explanation that a diagnosis can give.

    Attributes:
        code: Such as ``"learning_rate_too_high"``.
        meaning: What it says, in one sentence.
    """

    code: str
    meaning: str


_INFO, _WARNING, _ERROR, _FATAL = Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.FATAL

_FINDINGS = (
    ("loss.non_finite", _ERROR, "The training loss of a step is NaN or Inf."),
    ("loss.spike", _WARNING, "The loss jumped far above its recent robust range, then came back or may come back."),
    ("loss.divergence", _ERROR, "The loss keeps rising, or stays far above where it started or its best."),
    (
        "loss.no_learning",
        _ERROR,
        "After enough updates the loss is not better than a trivial predictor's, or than its own start, beyond noise.",
    ),
    ("loss.plateau", _WARNING, "Learning happened, then stopped well before convergence."),
    ("loss.oscillation", _WARNING, "The loss swings between levels instead of settling."),
    ("metric.non_finite", _ERROR, "A validation metric or another logged metric is NaN or Inf."),
    ("metric.overfitting", _WARNING, "Validation gets worse while training keeps getting better."),
    (
        "metric.no_improvement",
        _INFO,
        "The monitored metric did not improve for `patience` epochs: the root of an ordinary early stop, never a "
        "failure.",
    ),
    (
        "metric.degenerate_predictions",
        _WARNING,
        "The model outputs one class or one constant for (nearly) every input.",
    ),
    ("gradient.non_finite", _ERROR, "A gradient is NaN or Inf, seen before the update is applied."),
    (
        "gradient.exploding",
        _ERROR,
        "The gradient norm is far above its recent robust range, and stays there or grows.",
    ),
    (
        "gradient.vanishing",
        _WARNING,
        "Early layers receive (nearly) no gradient relative to late ones while the loss does not improve.",
    ),
    ("gradient.missing", _WARNING, "Trainable parameters get no gradient, or no optimizer updates them."),
    ("gradient.accumulating", _ERROR, "Gradients carry over from step to step: they were not cleared."),
    ("update.too_large", _WARNING, "The ratio of update to weight is far above the healthy band."),
    ("update.too_small", _WARNING, "The ratio of update to weight is far below the healthy band."),
    ("weights.non_finite", _ERROR, "A parameter holds NaN or Inf."),
    ("weights.frozen", _WARNING, "Parameters in the optimizer do not change."),
    (
        "activation.dead",
        _WARNING,
        "Units output zero for every sample over many batches, in most of a layer.",
    ),
    (
        "activation.saturated",
        _WARNING,
        "Units are pinned at the flat end of a sigmoid or tanh, in most of a layer.",
    ),
    ("amp.scale_collapse", _ERROR, "The mixed-precision loss scale keeps halving or sits at its floor."),
    (
        "model.output_mismatch",
        _WARNING,
        "The output's width, range or activation cannot match the loss or the targets.",
    ),
    ("model.no_nonlinearity", _WARNING, "The model has several layers and no activation between them."),
    ("model.wrong_mode", _WARNING, "The model trains in eval mode, or is evaluated in train mode."),
    ("data.non_finite", _ERROR, "An input or a target is NaN or Inf."),
    ("data.nulls", _WARNING, "Columns of the dataset hold missing values."),
    ("data.duplicates", _WARNING, "Rows of the dataset occur more than once."),
    ("data.outliers", _WARNING, "Values of the dataset lie far outside their robust range."),
    ("data.distribution", _WARNING, "A column of the dataset is far from the distribution that is expected of it."),
    ("data.constant_feature", _WARNING, "A feature has the same value in every row and carries nothing."),
    ("data.scale", _WARNING, "Features or targets are unscaled: their magnitudes are far from one or far apart."),
    ("data.imbalance", _WARNING, "Some classes have far fewer samples than others."),
    ("data.labels", _ERROR, "Labels are out of range or of the wrong type."),
    ("data.leakage", _ERROR, "Validation rows are also training rows."),
    ("data.drift", _WARNING, "The validation data is distributed unlike the training data."),
    ("data.unshuffled", _WARNING, "Batches come sorted by label."),
    ("data.types", _WARNING, "A column mixes types, holds objects, or holds numbers as text."),
    ("data.identifier", _WARNING, "A feature numbers or names the rows: it is an identifier, not a property."),
    ("data.target_leakage", _ERROR, "A feature gives the label away."),
    ("data.time_leakage", _WARNING, "Training rows are later than validation rows."),
    ("data.schema", _ERROR, "Columns are missing, new or of another kind than those that are expected."),
    ("data.repeated_batch", _WARNING, "Batches repeat each other, as from workers that share one seed."),
    ("resource.oom", _FATAL, "Host or device memory ran out."),
    ("resource.memory_growth", _WARNING, "Resident memory of the process grows steadily with steps."),
    ("resource.gpu_memory_growth", _WARNING, "Device memory grows steadily with steps."),
    ("resource.input_bound", _WARNING, "The step waits for data a large part of the time."),
    ("resource.low_gpu_utilization", _WARNING, "The accelerator idles a large part of the time."),
    ("resource.gpu_throttled", _WARNING, "The accelerator is clocked down by heat or power."),
    ("resource.gpu_error", _ERROR, "The accelerator reports errors."),
    (
        "resource.disk_low",
        _WARNING,
        "The disk that checkpoints, logs or the tracking store are on is nearly full.",
    ),
    ("run.exception", _FATAL, "Training raised an exception."),
    ("run.hang", _ERROR, "No step finished for much longer than steps take."),
    ("run.slow_step", _INFO, "Single steps took far longer than the others."),
    ("run.straggler", _WARNING, "One rank is slower than the others."),
    ("run.interrupted", _WARNING, "A signal or the scheduler ended the run."),
    ("run.replica_mismatch", _ERROR, "Data-parallel replicas no longer hold the same weights."),
    (
        "run.repeat_of_failure",
        _WARNING,
        "This configuration, or this failure, matches an earlier failed run.",
    ),
)

_CAUSES = (
    ("learning_rate_too_high", "Updates are so large that they overshoot: the loss grows instead of falling."),
    ("learning_rate_too_low", "Updates are so small that the loss hardly moves in the time that is planned."),
    ("bad_initialization", "The initial weights put activations or gradients far outside a workable range."),
    ("output_activation_mismatch", "The last activation cannot produce the values that the targets need."),
    ("loss_function_mismatch", "The loss does not fit the targets or the output of the model."),
    ("numerical_instability", "An operation left the range of floats: log of zero, division by zero, overflow."),
    ("mixed_precision_overflow", "A value left the range of the half-precision type."),
    ("unscaled_inputs", "The inputs have magnitudes that the model cannot train on as they are."),
    ("unscaled_targets", "The targets have magnitudes that make the loss and its gradients very large or very small."),
    ("bad_labels", "Labels are wrong, out of range, or encoded in another way than the loss expects."),
    ("corrupted_batch", "Single batches hold values that are not finite or absurd; the others are fine."),
    ("no_signal", "The targets do not depend on the inputs, as after labels were shuffled."),
    ("constant_inputs", "Inputs reach the model without what they held: all values are the same."),
    ("shared_random_state", "Workers or epochs draw the same random numbers, so that batches repeat each other."),
    ("missing_nonlinearity", "Layers follow each other without an activation: together they are one linear map."),
    ("gradients_cleared_early", "Gradients are cleared between the backward pass and the update."),
    ("batch_size_too_small", "Statistics of so few samples in a batch are noise, or nothing at all."),
    ("class_imbalance", "A class is so frequent that predicting it always is nearly the best that is learned."),
    ("unshuffled_data", "Batches come in an order that follows the labels."),
    ("data_leakage", "Validation data was also trained on, so that validation looks better than it is."),
    ("train_validation_mismatch", "Training and validation data, or how they are prepared, are not alike."),
    ("missing_gradient_clipping", "Occasional very large gradients are applied in full."),
    ("missing_zero_grad", "Gradients are not cleared between updates and add up."),
    ("saturating_activations", "Sigmoid or tanh units are at their flat ends, where no gradient passes."),
    ("dead_units", "Units output zero for every input and get no gradient any more."),
    ("too_deep_without_normalization", "A deep stack without normalization lets signals vanish or explode."),
    ("frozen_parameters", "Parameters that should learn are set not to."),
    ("parameters_not_in_optimizer", "Trainable parameters were never handed to the optimizer."),
    ("detached_graph", "The loss is cut off from parameters, so that no gradient reaches them."),
    ("too_few_updates", "Training ended, or was planned to end, before the model could learn."),
    ("too_little_data_for_capacity", "The model can memorise the training data instead of generalising from it."),
    ("too_little_regularization", "Nothing keeps the model from fitting noise in the training data."),
    ("too_much_regularization", "Dropout, weight decay or penalties are so strong that the model cannot fit."),
    ("wrong_mode", "The model trains in eval mode, or is evaluated in train mode."),
    ("batch_size_too_large", "The batch does not fit into memory, or leaves too few updates an epoch."),
    ("retained_graph", "Tensors are kept together with their history, so that memory grows with every step."),
    ("host_memory_leak", "The process holds on to more and more memory."),
    ("slow_input_pipeline", "Loading and preparing data takes longer than the step itself."),
    ("hardware_fault", "The accelerator, memory or disk gave wrong results or failed."),
    ("network_or_collective_failure", "The connection between ranks failed or timed out."),
    ("disk_full", "There is no space left where the run writes."),
    ("shape_mismatch", "Shapes of tensors do not fit together."),
    ("dtype_mismatch", "Types of tensors do not fit together."),
    ("device_mismatch", "Tensors are on different devices."),
    ("serialization_failure", "Something cannot be pickled, saved or loaded, or was saved by another program."),
    ("missing_file_or_column", "A file, column or key that the program asks for does not exist."),
    ("user_code_error", "The training program itself raised for a reason of its own."),
    ("interrupted", "A person, a signal or the scheduler ended the run."),
)

FINDINGS: dict[str, FindingCode] = {code: FindingCode(code, meaning, severity) for code, severity, meaning in _FINDINGS}
"""Every finding by its code, in the order of the taxonomy."""

CAUSES: dict[str, CauseCode] = {code: CauseCode(code, meaning) for code, meaning in _CAUSES}
"""Every cause by its code."""

NON_FINITE_CODES = frozenset({"loss.non_finite", "gradient.non_finite", "weights.non_finite", "metric.non_finite"})
"""Findings of a value that is not finite."""


def check_finding_code(code: str) -> str:
    """Make sure that a code is one of the taxonomy.

    Args:
        code: Such as ``"loss.divergence"``.

    Returns:
        The code.

    Raises:
        ConfigurationError: There is no such finding. The message names the nearest ones.
    """
    if code in FINDINGS:
        return code
    near = get_close_matches(str(code), FINDINGS, n=3, cutoff=0.5)
    remedy = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Allowed: {', '.join(FINDINGS)}."
    raise ConfigurationError(f"{code!r} is not the code of a finding. {remedy}")
