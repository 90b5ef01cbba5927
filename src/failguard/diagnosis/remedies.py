"""One concrete thing to do about each cause, in view of what is in place already."""

from __future__ import annotations

import math
import re

from failguard.diagnosis.case import Case
from failguard.diagnosis.clues_learning import clipped_away, falls_without_bound
from failguard.diagnosis.config_lint import MOST_DECAY, MOST_DROPOUT, clipping_limit
from failguard.diagnosis.rates import lower_rate, raised_rate
from failguard.diagnosis.wording import count, number
from failguard.resources.machine import usable_cpus

__all__ = [
    "larger_batch",
    "clear_later",
    "add_activations",
    "seed_apart",
    "restore_inputs",
    "split_apart",
    "shuffle",
    "set_mode",
    "scale_targets",
    "revive_units",
    "other_activation",
    "normalize",
    "initialize",
    "fit_output",
    "fit_loss",
    "clear_gradients",
    "balance",
    "check_hardware",
    "check_labels",
    "check_pairs",
    "clip_gradients",
    "close_connection",
    "connect_loss",
    "detach_history",
    "feed_faster",
    "find_file",
    "fix_code",
    "free_disk",
    "guard_operation",
    "hand_over",
    "less_memory",
    "lower_learning_rate",
    "match_devices",
    "match_dtypes",
    "match_shapes",
    "raise_learning_rate",
    "regularize",
    "relax_regularization",
    "repair_batch",
    "resume",
    "save_plainly",
    "scale_inputs",
    "shrink_model",
    "smaller_batch",
    "train_longer",
    "unfreeze",
    "wider_floats",
]

WORKING_DROPOUT = 0.3  # rates of 0.2 to 0.5 are usual
# torch names both shapes when a linear layer does not fit: (batch x given and wanted x out).
_MATMUL = re.compile(r"\((\d+)x(\d+) and (\d+)x(\d+)\)")
_SPEAKS_OF_NAN = re.compile(r"\b(?:nan|inf|infinity)\b", re.IGNORECASE)
_QUOTED = re.compile(r"['\"]([^'\"]{1,200})['\"]")


def lower_learning_rate(case: Case) -> str:
    """For a rate that is too high."""
    if case.facts.output.loss_is_summed and not case.rate_is_high:
        return "Average the loss over the batch instead of adding it up, or divide the learning rate by the batch size."
    rate, lower = case.facts.optimizer.learning_rate, lower_rate(case.facts.optimizer)
    if rate is None or lower is None:
        return "Lower the learning rate to a tenth."
    schedule = case.facts.optimizer.schedule
    peak = f", the highest that {schedule[:60]} reaches included" if schedule else ""
    updates = next((f.evidence for f in case.findings if f.code == "update.too_large"), {})
    ratio, healthy = updates.get("update_ratio"), updates.get("healthy_ratio")
    why = (
        f": the update-to-weight ratio was {number(ratio)}, healthy is {number(healthy)}"
        if ratio is not None and healthy is not None
        else ""
    )
    return f"Lower the learning rate from {number(rate)} to {number(lower)}{peak}{why}."


def raise_learning_rate(case: Case) -> str:
    """For updates that are too small."""
    if clipped_away(case) is not None:
        limit, level = clipping_limit(case.facts) or 0.0, case.gradient_level or 0.5
        return f"Raise the clipping limit from {number(limit)} to {2.0 * level:.1g}, or clip no more."
    if case.rate_gone is not None:
        return (
            f"Let the schedule last for all {case.rate_gone[2]} epochs: if it counts epochs, step it once per epoch, "
            "not after every batch."
        )
    rate, raised = case.facts.optimizer.learning_rate, raised_rate(case.facts.optimizer)
    if rate is None or raised is None:
        return "Raise the learning rate tenfold."
    return f"Raise the learning rate from {number(rate)} to {number(raised)}."


def repair_batch(case: Case) -> str:
    """For a batch with bad values."""
    batch, facts = case.where.batch, case.facts
    if case.root_code == "metric.non_finite":
        return "Look for rows with NaN or Inf in the validation data (numpy.isfinite) and drop or repair them."
    if batch is None:
        return "Look for rows with NaN or Inf in the training data (numpy.isfinite) and drop or repair them."
    place = f"batch {batch}"
    if facts.steps_per_epoch and batch >= facts.steps_per_epoch:
        place += f" (batch {batch % facts.steps_per_epoch} of epoch {batch // facts.steps_per_epoch})"
    what = case.where.tensor if case.where.tensor in ("input", "target") else "data"
    return f"Look at the {what} of {place}: drop or repair rows with NaN, Inf or absurd values before training."


def guard_operation(case: Case) -> str:
    """For an operation that left the range of floats."""
    name = (case.facts.loss_name or "").lower()
    if case.exception is not None and _SPEAKS_OF_NAN.search(case.exception.message):
        return f"Find where the NaN or Inf comes from: look at the data and the model's outputs just before{_at(case)}."
    place = (
        f" in {case.where.module[:120]}" if case.where.module else " in the loss" if case.where.tensor == "loss" else ""
    )
    of_probabilities = name in ("nll_loss", "nllloss", "binary_cross_entropy", "bceloss", "binary_crossentropy")
    if case.where.tensor == "loss" and of_probabilities:
        return "Compute the loss from logits, not from probabilities: the log of a probability of 0 is not finite."
    return f"Keep the operation{place} in range: add a small constant (1e-7) before log, division and square root."


def clip_gradients(case: Case) -> str:
    """For occasional large gradients."""
    level = case.gradient_approach.level if case.gradient_approach else 0.0
    # Twice the usual norm leaves ordinary steps alone and cuts the bursts.
    limit = 1.0 if not math.isfinite(level) or level <= 0.5 else float(f"{2 * level:.1g}")
    ways = {
        "lightning": f"Trainer(gradient_clip_val={limit:g})",
        "keras": f"clipnorm={limit:g} in the optimizer",
        "torch": f"torch.nn.utils.clip_grad_norm_(model.parameters(), {limit:g}) before optimizer.step()",
    }
    way = ways.get(case.facts.framework)
    return f"Clip the gradient norm at {limit:g}{f': {way}' if way else ''}."


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


def shrink_model(case: Case) -> str:
    """For a model that can memorise its data."""
    samples, parameters = case.facts.train_samples, case.facts.model.trainable_parameters
    if samples and parameters and parameters > samples:
        return (
            f"Use a smaller model (half the width: about {count(parameters / 4)} instead of {count(parameters)} "
            f"parameters for {count(samples)} samples), or more or augmented data."
        )
    return "Use a smaller model (half the width), or more or augmented data."


def regularize(case: Case) -> str:
    """For a model that nothing holds back: what it has already is made stronger, what is missing is added."""
    facts, model = case.facts, case.facts.model
    dropout, decay = model.dropout or 0.0, facts.optimizer.weight_decay or 0.0
    stop = [] if facts.patience is not None or _stops_early(case) else ["early stopping (patience=5)"]
    if not model.name and model.parameters is None and not facts.optimizer.name:
        wanted = ["dropout of 0.3", "weight decay of 0.01", "batch normalization", *stop]
        return f"Add what the model has not yet: {', '.join(wanted)}, or more or augmented data."
    missing = []
    if dropout == 0.0:
        missing.append("dropout of 0.3 before the last layers")
    if decay == 0.0 and not model.weight_penalty:
        adaptive = "ada" in facts.optimizer.name.lower()
        missing.append("weight decay of 0.01 (AdamW)" if adaptive else "weight decay of 0.0001")
    if model.normalization is False:
        missing.append("batch normalization")
    missing += stop
    stronger = f"raise dropout from {number(dropout)} to 0.3" if 0.0 < dropout < WORKING_DROPOUT else ""
    if not missing and not stronger and 0.0 < decay < MOST_DECAY:
        stronger = f"raise weight decay from {number(decay)} to {number(min(decay * 10, MOST_DECAY))}"
    steps = [*([f"add {', '.join(missing)}"] if missing else []), *([stronger] if stronger else [])]
    if not steps:
        return "Get more or augmented data, or use a smaller model: regularization is in place already."
    text = "; ".join(steps)
    return f"{text[:1].upper()}{text[1:]}; more or augmented data helps as well."


def _stops_early(case: Case) -> bool:
    return "metric.no_improvement" in case.codes


def relax_regularization(case: Case) -> str:
    """For dropout or weight decay that lets nothing be learned."""
    dropout, decay = case.facts.model.dropout or 0.0, case.facts.optimizer.weight_decay or 0.0
    if dropout >= MOST_DROPOUT:
        return f"Lower dropout from {number(dropout)} to 0.3."
    if case.facts.model.weight_penalty:
        name, _, factor = case.facts.model.weight_penalty.partition(" ")
        return f"Lower the {name} penalty from {factor} to {min(1e-4, float(factor) / 100):.2g}."
    return f"Lower weight decay from {number(decay)} to 0.01."


def wider_floats(case: Case) -> str:
    """For values beyond 65,504."""
    ways = {
        "lightning": 'precision="bf16-mixed"',
        "keras": 'keras.config.set_dtype_policy("mixed_bfloat16")',
        "torch": "torch.autocast(..., dtype=torch.bfloat16)",
    }
    way = ways.get(case.facts.framework)
    return f"Use bfloat16 instead of float16, which has the range of float32{f': {way}' if way else ''}."


def connect_loss(case: Case) -> str:
    """For a loss that no gradient comes from."""
    return (
        "Compute the loss from the model's output without leaving the graph: no .detach(), .item(), .numpy(), argmax "
        "or no_grad between them."
    )


def unfreeze(case: Case) -> str:
    """For parameters that must learn but may not."""
    if case.facts.framework == "keras":
        return "Set trainable=True on the layers that should learn, then compile again."
    return "Set requires_grad_(True) on the parameters that should learn, and hand them to the optimizer."


def hand_over(case: Case) -> str:
    """For weights that nothing updates."""
    if case.facts.setup.hidden:
        return (
            "Keep layers in torch.nn.ModuleList or ModuleDict and single tensors in torch.nn.Parameter, so that "
            "model.parameters() has them."
        )
    return (
        "Check that the optimizer was given this model's parameters, that its step is made, and that no schedule keeps "
        "the learning rate at 0."
    )


def train_longer(case: Case) -> str:
    """For a run that was too short."""
    epochs, batch = case.facts.max_epochs, case.facts.batch_size
    if epochs and epochs > 0:
        return f"Train longer: raise the number of epochs from {count(epochs)} to {count(epochs * 10)}."
    if batch and batch > 1:
        return f"Make more updates: lower the batch size from {count(batch)} to {count(max(batch // 4, 1))}."
    return "Train for more steps."


def smaller_batch(case: Case) -> str:
    """For a batch that does not fit."""
    batch = case.facts.batch_size
    if batch == 1:
        return "The batch size is 1 already: use 16-bit floats, gradient checkpointing or a smaller model."
    if batch:
        return (
            f"Lower the batch size from {count(batch)} to {count(max(batch // 2, 1))} and accumulate "
            f"{count(case.facts.accumulate_batches * 2)} batches per update, which keeps the training as it is."
        )
    return "Halve the batch size and accumulate two batches per update, which keeps the training as it is."


def less_memory(case: Case) -> str:
    """For host memory that ran out."""
    text = case.exception.message.lower() if case.exception else ""
    if "shared memory" in text or "bus error" in text:
        return (
            "Give the container more shared memory (docker run --shm-size=8g), or use num_workers=0 or "
            'torch.multiprocessing.set_sharing_strategy("file_system").'
        )
    return (
        "Keep less in memory: read the data in parts, use fewer loader workers, and store numbers (loss.item()) "
        "instead of tensors between steps."
    )


def split_apart(case: Case) -> str:
    """For validation rows that are training rows."""
    return (
        "Remove the shared rows from the training data and split by what repeats (user, patient, day), before "
        "any scaling or augmentation."
    )


def feed_faster(case: Case) -> str:
    """For a step that waits for its data."""
    finding = next((f for f in case.findings if f.code == "resource.input_bound"), None)
    workers = None if finding is None else finding.evidence.get("num_workers")
    if case.facts.framework == "keras":
        return (
            "Prepare batches in the background: workers and use_multiprocessing of keras.utils.PyDataset, or "
            "dataset.map(..., num_parallel_calls=AUTOTUNE).prefetch(AUTOTUNE); cache what is decoded again each epoch."
        )
    if workers is None:
        return "Load in the background: DataLoader(num_workers=4, pin_memory=True, persistent_workers=True)."
    cpus = usable_cpus()
    more = min(max(4, 2 * int(workers)), max(int(cpus or 4) - 1, 1))
    pinned = finding is not None and finding.evidence.get("pin_memory") == 1.0
    pin = "" if pinned or not (case.facts.device or "").startswith("cuda") else ", pin_memory=True"
    if more <= workers:
        return (
            f"num_workers={int(workers)} already uses the CPUs of this machine ({cpus or 0:g}): make each sample "
            "cheaper (decode once and cache, smaller images, faster formats), or use a machine with more CPUs."
        )
    return f"Load in the background: num_workers {int(workers)} -> {more}{pin}, persistent_workers=True."


def save_plainly(case: Case) -> str:
    """For something that cannot be saved or loaded."""
    text = case.exception.message.lower() if case.exception else ""
    if "pickle" in text and ("lambda" in text or "local object" in text):
        return f"Move the function or class to the top level of a module, where it can be pickled{_at(case)}."
    if "state_dict" in text:
        return f"Build the model with the sizes it had when the checkpoint was written, then load{_at(case)}."
    if "weights only load failed" in text:
        return "Load with weights_only=False if you trust the file, or save only state_dict() and plain values."
    if any(word in text for word in ("ran out of input", "pytorchstreamreader", "invalid load key", "signature")):
        return f"The file is damaged or cut short: use an earlier checkpoint{_at(case)}."
    return f"Save state_dict() and plain values instead of whole objects{_at(case)}."


def check_hardware(case: Case) -> str:
    """For an accelerator that fails."""
    return (
        "Run the same job on another device; look at the error counters with `nvidia-smi -q -d ECC` and the kernel log."
    )


def close_connection(case: Case) -> str:
    """For lost ranks and servers."""
    if case.facts.world_size > 1:
        return (
            f"Look at the log of each of the {count(case.facts.world_size)} ranks for the first error: a rank that "
            "died makes the others time out."
        )
    return "Check that the server can be reached from this machine, then start again from the last checkpoint."


def free_disk(case: Case) -> str:
    """For a full disk."""
    return "Free space where checkpoints and logs go, keep fewer checkpoints, or write to another disk."


def find_file(case: Case) -> str:
    """For something that is not there."""
    message = case.exception.message if case.exception else ""
    name = _QUOTED.search(message)
    if case.exception is not None and case.exception.type_name.rsplit(".", 1)[-1] == "KeyError":
        return (
            f"Check that the key or column {name.group(1)!r} exists{_at(case)}."
            if name
            else f"Check the key{_at(case)}."
        )
    return (
        f"Check that {name.group(1)!r} exists, seen from the working folder." if name else f"Check the path{_at(case)}."
    )


def match_shapes(case: Case) -> str:
    """For shapes that do not fit."""
    match = _MATMUL.search(case.exception.message) if case.exception else None
    if match is not None:
        return (
            f"The layer expects {match[3]} features and gets {match[2]}: set its input width to {match[2]}, or reshape "
            f"the input{_at(case)}."
        )
    if case.exception is None:
        return "Give output and targets the same shape: output.squeeze(-1), or targets.unsqueeze(-1)."
    return f"Print the shapes just before the failing line and make them fit{_at(case)}."


def match_dtypes(case: Case) -> str:
    """For types that do not fit."""
    return f"Convert before the failing line{_at(case)}: inputs to float32, class labels to int64."


def match_devices(case: Case) -> str:
    """For tensors on different devices."""
    return f"Move model, inputs and targets to the same device before the failing line{_at(case)}."


def detach_history(case: Case) -> str:
    """For a graph that is used twice, or never let go."""
    if case.root_code.startswith("resource."):
        return (
            "Store numbers instead of tensors between steps: loss.item() or loss.detach(); the same for outputs, "
            "hidden states and metrics."
        )
    return (
        "Detach what is carried from batch to batch (state.detach()), or call backward once on the sum of the losses."
    )


def fix_code(case: Case) -> str:
    """For an error of the program's own."""
    if case.exception is not None and case.exception.frame:
        return f"Start at {case.exception.frame[:200]}."
    return "Start at the last line of the traceback that is in your own code."


def scale_targets(case: Case) -> str:
    """For targets far from a workable scale."""
    target = case.facts.target
    if target.mean is not None and target.standard_deviation:
        return (
            f"Train on (target - {number(target.mean)}) / {number(target.standard_deviation)}, the mean and standard "
            "deviation of the training targets, and undo it for predictions."
        )
    return "Subtract the mean of the training targets and divide by their standard deviation; undo it for predictions."


def fit_output(case: Case) -> str:
    """For a last activation that does not fit."""
    output = case.facts.output
    if output.activation_over_samples:
        return f"Normalize over the classes: {output.activation}(dim=-1)."
    if output.activation_units == 1 and output.activation in ("softmax", "log_softmax"):
        return "Use a sigmoid for one unit, or one unit for each class; for a regression no activation at all."
    if output.loss_takes == "logits":
        return f"Remove the {output.activation} at the end: the loss takes logits and applies it by itself."
    if output.activation is not None:
        return f"Remove the {output.activation} at the end, or scale the targets into its range."
    return "Choose a last activation whose range holds the targets."


def fit_loss(case: Case) -> str:
    """For a loss that takes something else."""
    if falls_without_bound(case) is not None:
        return "Check the sign of the loss: what is minimized must have a lower bound. Keep a learned variance above 0."
    output = case.facts.output
    if output.is_negated:
        return "Remove the minus sign in front of the loss."
    if case.facts.setup.maximizes:
        return "Remove maximize=True from the optimizer."
    if case.facts.target.names_classes and output.loss_takes == "values":
        return "Give the model an output for each class and use a cross-entropy."
    if output.loss_takes == "probabilities" and output.activation in (None, "linear"):
        keras = case.facts.framework == "keras"
        return "Set from_logits=True in the loss." if keras else "Use the loss that takes logits."
    if output.is_squashed_twice:
        return f"Remove one of the two activations: the last {output.activation}, or the one before it."
    if output.loss_takes == "log_probabilities":
        return "Use cross_entropy on the logits, or apply log_softmax before nll_loss."
    if output.loss_takes == "logits" and output.activation not in (None, "linear"):
        return f"Use a loss that takes probabilities, or remove the {output.activation} before it."
    return "Use the loss that fits the targets: categorical for one class of many, binary for each of several."


def treat_alike(case: Case) -> str:
    """For validation data that are unlike the training data."""
    return (
        "Prepare training and validation data in the same way: the same scaling, with the statistics of the training "
        "data, the same order of features and numbering of classes."
    )


def clear_gradients(case: Case) -> str:
    """For gradients that carry over."""
    return "Call optimizer.zero_grad() once for every update, before backward()."


def shuffle(case: Case) -> str:
    """For data that come sorted."""
    if case.facts.framework == "keras":
        return "Shuffle the training data: fit(shuffle=True), or dataset.shuffle(n) with n as large as the data."
    return "Shuffle the training data: DataLoader(..., shuffle=True)."


def set_mode(case: Case) -> str:
    """For a model in the wrong mode."""
    if case.facts.setup.trains_in_eval_mode:
        return "Call model.train() at the beginning of every epoch, after validation."
    return "Call model.eval() before validation and model.train() after it."


def revive_units(case: Case) -> str:
    """For units that died."""
    lower = lower_learning_rate(case)[:-1] if case.rate_is_high else "Start again from fresh weights"
    return f"{lower}; use a leaky ReLU or GELU, and initialize biases at 0 or a little above."


def initialize(case: Case) -> str:
    """For initial weights that do not work."""
    return "Use the framework's default initialization (He for ReLU, Glorot for tanh and sigmoid), and biases of 0."


def other_activation(case: Case) -> str:
    """For units at their flat ends."""
    return "Use ReLU or GELU in hidden layers, or normalize before the activation."


def normalize(case: Case) -> str:
    """For a deep stack without normalization."""
    return "Add batch or layer normalization, or residual connections, between the layers."


def balance(case: Case) -> str:
    """For one class that outweighs the others."""
    return "Weigh the classes in the loss by their inverse frequency, or sample them evenly."


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


def add_activations(case: Case) -> str:
    """For layers that are one linear map together."""
    return "Put an activation, such as a ReLU, after every hidden layer."


def clear_later(case: Case) -> str:
    """For gradients that are gone before the update."""
    return "Call optimizer.zero_grad() before loss.backward() or after optimizer.step(), not between the two."


def larger_batch(case: Case) -> str:
    """For statistics of too few samples."""
    return "Use batches of 8 samples or more, or layer or group normalization, which need no other samples."


def resume(case: Case) -> str:
    """For a run that was ended from outside."""
    return "Start again from the last checkpoint if the run should go on."


def _at(case: Case) -> str:
    """The user's own line, for the end of a sentence."""
    frame = case.exception.frame if case.exception else None
    return f" ({frame[:200]})" if frame else ""
