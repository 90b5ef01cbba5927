"""What to do about data: values, labels, scale, order and split."""

from __future__ import annotations

from failguard.diagnosis.case import Case
from failguard.diagnosis.wording import number

__all__ = [
    "balance",
    "check_labels",
    "check_pairs",
    "repair_batch",
    "scale_inputs",
    "scale_targets",
    "shuffle",
    "split_apart",
    "treat_alike",
    "restore_inputs",
    "seed_apart",
]


SPLIT_AT_RANDOM = (
    "Find out where the rows went, or split at random with all classes in both parts, as train_test_split with "
    "stratify does."
)


def repair_batch(case: Case) -> str:
    """For a batch with bad values."""
    batch, facts = case.where.batch, case.facts
    if case.root_code == "metric.non_finite":
        return "Look for rows with NaN or Inf in the validation data (numpy.isfinite) and drop or repair them."
    approach = case.loss_approach
    if batch is None and approach is not None and approach.sudden and approach.per == "step":
        batch = approach.onset_at
    if batch is None:
        return "Look for rows with NaN or Inf in the training data (numpy.isfinite) and drop or repair them."
    place = f"batch {batch}"
    if facts.steps_per_epoch and batch >= facts.steps_per_epoch:
        place += f" (batch {batch % facts.steps_per_epoch} of epoch {batch // facts.steps_per_epoch})"
    what = case.where.tensor if case.where.tensor in ("input", "target") else "data"
    return f"Look at the {what} of {place}: drop or repair rows with NaN, Inf or absurd values before training."


def check_labels(case: Case) -> str:
    """For labels that do not fit."""
    if case.exception is not None and "device-side assert" in case.exception.message.lower():
        return (
            "Check that all labels are from 0 to the number of classes - 1, and indices of embeddings below their "
            "size. The line that is named is a later one: run once with CUDA_LAUNCH_BLOCKING=1 or on the CPU."
        )
    width, counts = case.facts.model.output_width, case.facts.class_counts
    if width and counts and max(counts) >= width:
        return f"Number the classes from 0 to {width - 1}, or give the last layer {max(counts) + 1} units."
    units = f" from 0 to {width - 1}" if width and width > 1 else ""
    return f"Check the labels: whole numbers{units}, as the loss expects them, none missing."


def check_pairs(case: Case) -> str:
    """For targets that do not depend on the inputs."""
    level, trivial = case.loss_level, case.facts.trivial_loss
    stuck = level is not None and trivial and abs(level - trivial) <= 0.02 * trivial
    model = (
        " If they do, check that the output depends on the input: dead units, zero weights, a detach." if stuck else ""
    )
    return (
        "Check that inputs and labels still belong together: look at ten pairs by hand, and at every shuffle, sort or "
        f"join that touches only one of the two.{model}"
    )


def scale_inputs(case: Case) -> str:
    """For inputs of unworkable magnitude."""
    targets = "" if case.facts.target_kind == "classes" else ", and the targets in the same way"
    return f"Scale the inputs{targets}: subtract the mean and divide by the standard deviation of the training data."


def scale_targets(case: Case) -> str:
    """For targets far from a workable scale."""
    target = case.facts.target
    if target.mean is not None and target.standard_deviation:
        return (
            f"Train on (target - {number(target.mean)}) / {number(target.standard_deviation)}, the mean and standard "
            "deviation of the training targets, and undo it for predictions."
        )
    return "Subtract the mean of the training targets and divide by their standard deviation; undo it for predictions."


def split_apart(case: Case) -> str:
    """For validation rows that are training rows."""
    return (
        "Remove the shared rows from the training data and split by what repeats (user, patient, day), before "
        "any scaling or augmentation."
    )


def treat_alike(case: Case) -> str:
    """For validation data that are unlike the training data."""
    if _lacks_classes(case):
        return SPLIT_AT_RANDOM
    return (
        "Prepare training and validation data in the same way: the same scaling, with the statistics of the training "
        "data, the same order of features and numbering of classes."
    )


def restore_inputs(case: Case) -> str:
    """For inputs that hold nothing."""
    return (
        "Look at a batch just before the model: a cast to integers, a division by the wrong number, normalization over "
        "the wrong axis, a failed decode or a vocabulary that knows none of the words leaves the same value everywhere."
    )


def seed_apart(case: Case) -> str:
    """For batches that repeat each other."""
    if case.facts.framework == "keras":
        return "Give each worker of the data pipeline a seed of its own, and shuffle anew in each epoch."
    return "Seed NumPy and random in a worker_init_fn from torch.initial_seed(), so that workers differ."


def shuffle(case: Case) -> str:
    """For data that come sorted."""
    if case.facts.framework == "keras":
        return "Shuffle the training data: fit(shuffle=True), or dataset.shuffle(n) with n as large as the data."
    return "Shuffle the training data: DataLoader(..., shuffle=True)."


def balance(case: Case) -> str:
    """For one class that outweighs the others."""
    if _lacks_classes(case):
        return SPLIT_AT_RANDOM
    return "Weigh the classes in the loss by their inverse frequency, or sample them evenly."


def _lacks_classes(case: Case) -> bool:
    return any("validation_share" in f.evidence for f in case.findings)
