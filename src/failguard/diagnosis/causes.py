"""The knowledge base: one row a cause, from symptoms over evidence to a remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from failguard.diagnosis import clues_inside as inside
from failguard.diagnosis import clues_learning as learning
from failguard.diagnosis import clues_memory as memory
from failguard.diagnosis import clues_resources as resources
from failguard.diagnosis import clues_values as values
from failguard.diagnosis import remedies as r
from failguard.diagnosis.case import Case, Clue
from failguard.diagnosis.exceptions import classify

__all__ = ["KNOWLEDGE", "CauseRow"]


@dataclass(frozen=True, slots=True)
class CauseRow:
    """What is known of one cause.

    Attributes:
        code: Code of the cause.
        symptoms: Root findings that it can explain, with the weight that each gives it before any evidence, in natural
            log-odds.
        clues: What to look at for evidence.
        remedy: Writes the one thing to do.
        config: Names of the configuration values involved, see ``failguard.diagnosis.ranking``.
    """

    code: str
    symptoms: Mapping[str, float]
    clues: tuple[Callable[[Case], Clue | None], ...]
    remedy: Callable[[Case], str]
    config: tuple[str, ...] = ()


def _raised(cause: str) -> Callable[[Case], Clue | None]:
    """The evidence of an exception's type and text for a cause."""

    def clue(case: Case) -> Clue | None:
        """The type and text of the exception."""
        if case.exception is None:
            return None
        kind = next((k for k in classify(case.exception) if k.cause == cause), None)
        if kind is None:
            return None
        words = f' says "{kind.phrase[:120]}"' if kind.phrase else " was raised"
        return Clue(kind.weight, f"{case.exception.type_name}{words}")

    return clue


def _found(code: str, weight: float = 1.0) -> Callable[[Case], Clue | None]:
    """A finding speaks for itself."""

    def clue(case: Case) -> Clue | None:
        """The finding itself, with its numbers."""
        finding = next((f for f in case.findings if f.code == code), None)
        return None if finding is None else Clue(weight, finding.message.rstrip(". ")[:300])

    return clue


def _interrupted(case: Case) -> Clue | None:
    """The run was ended from outside."""
    if case.exception is not None and case.exception.interrupt:
        return Clue(5.0, f"{case.exception.type_name} ended the run")
    return Clue(5.0, "the run was ended from outside") if case.root_code == "run.interrupted" else None


def _of_exception(code: str, remedy: Callable[[Case], str], *config: str) -> CauseRow:
    """A cause that only an exception tells of."""
    return CauseRow(code, _EXCEPTION, (_raised(code),), remedy, config)


_EXCEPTION = {"run.exception": 0.0}
_BAD_VALUES = {
    "loss.non_finite": 1.0,
    "gradient.non_finite": 1.0,
    "weights.non_finite": 1.0,
    "metric.non_finite": 0.5,
    "amp.scale_collapse": 0.5,
}

KNOWLEDGE: tuple[CauseRow, ...] = (
    CauseRow(
        "learning_rate_too_high",
        {
            **_BAD_VALUES,
            "loss.divergence": 1.5,
            "loss.no_learning": 0.0,
            "loss.oscillation": 1.5,
            "loss.spike": 0.5,
            "gradient.exploding": 1.0,
            "update.too_large": 1.5,
            "activation.dead": 0.0,
            "activation.saturated": 0.0,
            "gradient.vanishing": 0.0,
            "metric.degenerate_predictions": 0.0,
        },
        (
            values.rate_at_fault,
            values.loss_rose,
            values.loss_is_summed,
            values.bad_input_against,
            inside.large_updates,
            inside.died_later,
            learning.swings,
        ),
        r.lower_learning_rate,
        ("optimizer", "learning_rate", "momentum", "schedule"),
    ),
    CauseRow(
        "corrupted_batch",
        {
            **_BAD_VALUES,
            "data.non_finite": 5.0,
            "data.outliers": 2.0,
            "data.constant_feature": 2.0,
            "loss.divergence": -0.5,
            "loss.spike": 0.5,
            "gradient.exploding": 0.0,
        },
        (
            values.bad_input,
            values.inputs_were_fine,
            values.isolated_failure,
            values.training_was_fine,
            values.moderate_rate,
            _found("data.constant_feature"),
        ),
        r.repair_batch,
        ("batch_size",),
    ),
    CauseRow(
        "numerical_instability",
        {**_BAD_VALUES, **_EXCEPTION},
        (values.operation_overflowed, values.loss_was_calm, values.moderate_rate, _raised("numerical_instability")),
        r.guard_operation,
        ("loss",),
    ),
    CauseRow(
        "missing_gradient_clipping",
        {**_BAD_VALUES, "loss.divergence": 0.0, "gradient.exploding": 1.0, "loss.spike": 0.5},
        (
            values.gradient_burst,
            values.recurrent_without_clipping,
            values.clipping_in_place,
            values.bad_input_against,
            values.moderate_rate,
        ),
        r.clip_gradients,
        ("clipping", "learning_rate"),
    ),
    CauseRow(
        "mixed_precision_overflow",
        _BAD_VALUES,
        (values.half_precision, values.bad_input_against, values.loss_was_calm, inside.scale_collapsed),
        r.wider_floats,
        ("precision",),
    ),
    CauseRow(
        "unscaled_inputs",
        {
            **_BAD_VALUES,
            "loss.divergence": 0.0,
            "loss.no_learning": 0.0,
            "data.scale": 1.5,
            "activation.dead": 0.0,
            "activation.saturated": 0.5,
            "update.too_large": 0.0,
        },
        (
            inside.large_inputs,
            inside.inputs_in_scale,
            values.first_loss_far_off,
            values.explodes_at_usual_rate,
            values.bad_input_against,
        ),
        r.scale_inputs,
        ("normalization",),
    ),
    CauseRow(
        "unscaled_targets",
        {
            **_BAD_VALUES,
            "loss.divergence": 0.5,
            "loss.no_learning": 0.5,
            "data.scale": 1.5,
            "update.too_large": 0.0,
            "gradient.exploding": 0.0,
            "metric.degenerate_predictions": 0.0,
        },
        (inside.large_targets,),
        r.scale_targets,
    ),
    CauseRow(
        "output_activation_mismatch",
        {"model.output_mismatch": 1.0},
        (inside.unreachable_targets,),
        r.fit_output,
        ("output_width", "loss"),
    ),
    CauseRow(
        "loss_function_mismatch",
        {"model.output_mismatch": 1.0, "loss.divergence": 0.0},
        (inside.loss_does_not_fit, learning.falls_without_bound),
        r.fit_loss,
        ("output_width", "loss"),
    ),
    CauseRow("missing_zero_grad", {"gradient.accumulating": 1.0}, (inside.gradients_carried_over,), r.clear_gradients),
    CauseRow("unshuffled_data", {"data.unshuffled": 1.0}, (inside.sorted_batches,), r.shuffle),
    CauseRow("wrong_mode", {"model.wrong_mode": 1.0}, (inside.wrong_mode,), r.set_mode, ("dropout", "normalization")),
    CauseRow(
        "dead_units",
        {
            "activation.dead": 2.0,
            "gradient.vanishing": 0.0,
            "metric.degenerate_predictions": 0.0,
            "loss.no_learning": 0.0,
        },
        (inside.dead_layer, values.moderate_rate),
        r.revive_units,
        ("learning_rate",),
    ),
    CauseRow(
        "bad_initialization",
        {
            **_BAD_VALUES,
            "loss.divergence": 0.0,
            "gradient.exploding": 0.0,
            "activation.dead": 1.0,
            "activation.saturated": 1.0,
            "loss.no_learning": 0.0,
            "gradient.missing": 0.0,
        },
        (inside.dead_from_the_start, inside.weights_are_zero, values.blown_up_by_weights),
        r.initialize,
    ),
    CauseRow(
        "saturating_activations",
        {"activation.saturated": 1.5, "gradient.vanishing": 1.0},
        (inside.saturated_layer,),
        r.other_activation,
    ),
    CauseRow(
        "too_deep_without_normalization",
        {"gradient.vanishing": 1.0, "gradient.exploding": 0.0, "update.too_small": 0.0},
        (inside.vanishing, inside.no_normalization),
        r.normalize,
        ("normalization",),
    ),
    CauseRow(
        "constant_inputs",
        {"data.constant_feature": 2.0, "loss.no_learning": 0.0, "metric.degenerate_predictions": 0.0},
        (values.constant_from_the_start,),
        r.restore_inputs,
        ("batch_size",),
    ),
    CauseRow(
        "shared_random_state",
        {"data.repeated_batch": 2.0, "metric.overfitting": -1.0},
        (_found("data.repeated_batch", 3.0),),
        r.seed_apart,
        ("batch_size",),
    ),
    CauseRow(
        "missing_nonlinearity",
        {"model.no_nonlinearity": 2.0, "loss.no_learning": 0.0, "loss.plateau": 0.0},
        (_found("model.no_nonlinearity", 3.0),),
        r.add_activations,
        ("trainable_parameters",),
    ),
    CauseRow(
        "gradients_cleared_early",
        {"gradient.missing": 1.0, "weights.frozen": 1.0, "loss.no_learning": 0.0},
        (inside.cleared_before_update,),
        r.clear_later,
    ),
    CauseRow(
        "batch_size_too_small",
        {
            "loss.no_learning": 0.5,
            "metric.degenerate_predictions": 0.5,
            "activation.dead": 0.5,
            "gradient.vanishing": 0.5,
            "metric.overfitting": 0.0,
        },
        (inside.statistics_of_one,),
        r.larger_batch,
        ("batch_size", "normalization"),
    ),
    CauseRow(
        "class_imbalance",
        {"data.imbalance": 1.0, "metric.degenerate_predictions": 0.5, "loss.no_learning": 0.0},
        (inside.one_sided_targets,),
        r.balance,
    ),
    CauseRow(
        "bad_labels",
        {
            **_BAD_VALUES,
            **_EXCEPTION,
            "loss.divergence": 0.0,
            "loss.no_learning": 0.0,
            "data.labels": 2.0,
            "data.imbalance": 0.0,
            "model.output_mismatch": 0.0,
        },
        (values.labels_out_of_range, values.single_class, inside.targets_do_not_fit, _raised("bad_labels")),
        r.check_labels,
        ("output_width",),
    ),
    CauseRow(
        "hardware_fault",
        {**_BAD_VALUES, **_EXCEPTION, "resource.gpu_error": 1.0, "resource.gpu_throttled": 1.0},
        (values.hardware_reports_errors, resources.clocks_are_slowed, _raised("hardware_fault")),
        r.check_hardware,
        ("device",),
    ),
    CauseRow(
        "no_signal",
        {"loss.no_learning": 0.7, "metric.overfitting": -1.0, "metric.degenerate_predictions": 0.0},
        (
            learning.constant_prediction,
            learning.gradients_flow,
            learning.rate_is_usual,
            learning.explained_otherwise,
            learning.validation_never_learned,
            learning.enough_updates,
            learning.something_trainable,
        ),
        r.check_pairs,
        ("learning_rate",),
    ),
    CauseRow(
        "learning_rate_too_low",
        {
            "loss.no_learning": 0.5,
            "loss.plateau": 0.5,
            "update.too_small": 1.5,
            "weights.frozen": 0.5,
            "metric.degenerate_predictions": 0.0,
        },
        (
            learning.low_rate,
            learning.clipped_away,
            learning.validation_creeps,
            learning.something_trainable,
            inside.small_updates,
        ),
        r.raise_learning_rate,
        ("optimizer", "learning_rate", "schedule", "clipping"),
    ),
    CauseRow(
        "frozen_parameters",
        {"loss.no_learning": 0.0, "gradient.missing": 1.0, "weights.frozen": 1.0},
        (learning.nothing_trainable, learning.no_gradients, inside.frozen_in_optimizer),
        r.unfreeze,
        ("parameters", "trainable_parameters"),
    ),
    CauseRow(
        "parameters_not_in_optimizer",
        {"loss.no_learning": 0.0, "gradient.missing": 0.5, "weights.frozen": 0.5},
        (
            inside.forgotten_by_optimizer,
            inside.nothing_to_update_with,
            learning.rate_was_gone,
            learning.weights_stand_still,
            learning.gradients_flow,
            learning.something_trainable,
        ),
        r.hand_over,
        ("optimizer", "learning_rate"),
    ),
    CauseRow(
        "detached_graph",
        {"loss.no_learning": 0.0, "gradient.missing": 0.5, **_EXCEPTION},
        (
            inside.without_gradient,
            inside.loss_is_cut_off,
            learning.gradients_zero,
            learning.something_trainable,
            _raised("detached_graph"),
        ),
        r.connect_loss,
    ),
    CauseRow(
        "too_much_regularization",
        {
            "loss.no_learning": 0.5,
            "loss.plateau": 0.5,
            "update.too_large": 0.5,
            "gradient.vanishing": 0.0,
            "metric.degenerate_predictions": 0.0,
        },
        (learning.strong_regularization, learning.something_trainable),
        r.relax_regularization,
        ("dropout", "weight_decay", "weight_penalty"),
    ),
    CauseRow(
        "too_few_updates",
        {"loss.no_learning": 0.0},
        (learning.few_updates, learning.something_trainable),
        r.train_longer,
        ("max_epochs", "batch_size"),
    ),
    CauseRow(
        "too_little_data_for_capacity",
        {"metric.overfitting": 1.5},
        (learning.parameters_for_data, learning.regularized, learning.validation_turned, learning.validation_learned),
        r.shrink_model,
        ("trainable_parameters", "train_samples", "dropout"),
    ),
    CauseRow(
        "too_little_regularization",
        {"metric.overfitting": 1.5},
        (learning.no_regularization, learning.validation_turned, learning.validation_learned),
        r.regularize,
        ("dropout", "weight_decay"),
    ),
    CauseRow("data_leakage", {"data.leakage": 3.0}, (_found("data.leakage"),), r.split_apart),
    CauseRow(
        "train_validation_mismatch",
        {"metric.overfitting": 0.5, "data.drift": 3.0, "data.imbalance": 0.0},
        (learning.validation_far_off, _found("data.drift", 2.0), values.lost_classes),
        r.treat_alike,
    ),
    CauseRow(
        "slow_input_pipeline",
        {"resource.input_bound": 1.0, "resource.low_gpu_utilization": 0.5},
        (resources.waits_for_data, resources.loads_alone, _found("resource.low_gpu_utilization", 0.5)),
        r.feed_faster,
        ("batch_size",),
    ),
    CauseRow("interrupted", {**_EXCEPTION, "run.interrupted": 0.0}, (_interrupted,), r.resume),
    CauseRow(
        "batch_size_too_large",
        {**_EXCEPTION, "resource.oom": 2.0},
        (_raised("batch_size_too_large"), memory.device_memory, memory.host_memory, resources.nothing_leaks),
        r.smaller_batch,
        ("batch_size", "accumulate_batches", "precision"),
    ),
    CauseRow(
        "host_memory_leak",
        {**_EXCEPTION, "resource.memory_growth": 1.0, "resource.gpu_memory_growth": 1.0, "resource.oom": 0.5},
        (
            _raised("host_memory_leak"),
            memory.host_memory,
            memory.shared_memory,
            resources.memory_grows,
            resources.tensors_in_a_list,
            resources.workers_grow,
            resources.history_kept_against,
        ),
        r.less_memory,
    ),
    CauseRow(
        "retained_graph",
        {**_EXCEPTION, "resource.memory_growth": 0.5, "resource.gpu_memory_growth": 1.0, "resource.oom": 0.5},
        (resources.history_kept, _raised("retained_graph")),
        r.detach_history,
    ),
    CauseRow(
        "disk_full", {**_EXCEPTION, "resource.disk_low": 1.0}, (_raised("disk_full"), resources.disk_fills), r.free_disk
    ),
    _of_exception("missing_file_or_column", r.find_file),
    _of_exception("serialization_failure", r.save_plainly),
    CauseRow(
        "shape_mismatch",
        {**_EXCEPTION, "model.output_mismatch": 1.0},
        (inside.broadcast, _raised("shape_mismatch")),
        r.match_shapes,
        ("batch_size", "output_width"),
    ),
    CauseRow(
        "dtype_mismatch", _EXCEPTION, (_raised("dtype_mismatch"), values.batch_types), r.match_dtypes, ("precision",)
    ),
    _of_exception("device_mismatch", r.match_devices, "device"),
    CauseRow(
        "network_or_collective_failure",
        {**_EXCEPTION, "run.hang": 1.0},
        (_raised("network_or_collective_failure"), resources.ranks_wait),
        r.close_connection,
        ("world_size",),
    ),
    _of_exception("user_code_error", r.fix_code),
)
"""Every cause that can be named. Add a row to teach failguard another one."""
