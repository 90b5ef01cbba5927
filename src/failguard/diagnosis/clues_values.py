"""What speaks for and against a cause when values went bad or the loss grew.

Each clue is a function of one case. Weights are natural log-odds, set by judgement: about 1 for a hint, 2 for a good
reason, 5 for near proof.
"""

from __future__ import annotations

import math

from failguard.core.codes import NON_FINITE_CODES
from failguard.core.finding import row_words
from failguard.diagnosis.case import JUMP, WARM, Case, Clue
from failguard.diagnosis.exceptions import classify
from failguard.diagnosis.wording import count, number, times

__all__ = [
    "blown_up_by_weights",
    "loss_is_summed",
    "recurrent_without_clipping",
    "bad_input",
    "constant_from_the_start",
    "batch_types",
    "bad_input_against",
    "clipping_in_place",
    "explodes_at_usual_rate",
    "first_loss_far_off",
    "gradient_burst",
    "half_precision",
    "hardware_reports_errors",
    "inputs_were_fine",
    "isolated_failure",
    "labels_out_of_range",
    "loss_rose",
    "lost_classes",
    "loss_was_calm",
    "moderate_rate",
    "operation_overflowed",
    "rate_at_fault",
    "single_class",
    "rate_words",
    "training_was_fine",
]

# Symptoms that make a loss calm themselves: it says nothing of what came before.
STILL = ("activation.dead", "activation.saturated", "gradient.vanishing", "metric.degenerate_predictions")
SURE_EXPLOSION = 1e4  # times the level, within a few steps
LARGE_NORM = 100.0  # of gradients in the first steps, unclipped
LARGE_INPUT = 30.0  # magnitude, as of data.scale
ENORMOUS = 10.0  # times a constant prediction's loss; usual initial weights give about once
FIRST_STEPS = 16  # batches that are each looked at
SURE = 5.0  # weight of a clue that is near proof
SHORT = 4  # steps from a jump to the end
BURST = 10.0  # a gradient norm that many times its level


def bad_input(case: Case) -> Clue | None:
    """The data of the failing batch, or others that were looked at, are not finite or absurd."""
    where = case.where
    if where.tensor in ("input", "target") and case.root_code in NON_FINITE_CODES:
        batch = "" if where.batch is None else f" of batch {where.batch}"
        rows = f" ({row_words(where.rows)})" if where.rows else ""
        return Clue(6.0, f"the {where.tensor}{batch} holds a value that is not finite{rows}")
    for code, weight in (("data.non_finite", 5.0), ("data.outliers", 3.0)):
        finding = next((f for f in case.findings if f.code == code), None)
        if finding is not None:
            return Clue(weight, _lower(finding.message))
    return None


def bad_input_against(case: Case) -> Clue | None:
    """For causes that bad data would make unlikely."""
    clue = bad_input(case)
    return None if clue is None else Clue(-4.0 if clue.weight >= SURE else -1.0, clue.text)


def constant_from_the_start(case: Case) -> Clue | None:
    """Inputs that hold one value: in the first batches all may be so, later a single batch is."""
    finding = next((f for f in case.findings if f.code == "data.constant_feature"), None)
    if finding is None:
        return None
    return Clue(3.0 if finding.step < FIRST_STEPS else -3.0, finding.message.rstrip(". ")[:300])


def inputs_were_fine(case: Case) -> Clue | None:
    """Looking again at the batch found its data finite."""
    if case.located and "data.non_finite" not in case.codes:
        return Clue(-5.0, f"the data of the batch are finite; the first bad value is the {case.where}")
    if case.made_by_loss:
        return Clue(-2.5, "the data of the batch are finite; the first bad value is the loss")
    return None


def isolated_failure(case: Case) -> Clue | None:
    """One batch stands out against normal ones before it."""
    approach = case.loss_approach
    if approach is not None and approach.sudden and approach.onset is not None:
        return Clue(
            2.5,
            f"a single {'batch' if approach.per == 'step' else 'epoch'} ({approach.onset_at}) took the loss from "
            f"{number(approach.level)} to {number(approach.onset)}, after {count(approach.count - approach.risen)} "
            "calm ones",
        )
    clue = loss_was_calm(case)
    if clue is not None and clue.weight > 0:
        # Bad data are commoner than an operation that fails once in many batches.
        return None if case.located or case.made_by_loss else Clue(clue.weight + 0.3, clue.text)
    return clue


def loss_rose(case: Case) -> Clue | None:
    """Whether the loss rose over several steps before the failure."""
    approach = case.loss_approach
    if approach is None or case.root_code == "loss.no_learning":
        return None
    if case.grew:
        ratio = approach.ratio
        size = f"{number(approach.peak)}, {times(ratio)} that" if ratio else number(approach.peak)
        # A rise after a long calm may have come from one batch; a rise from the start has no other explanation.
        if approach.sudden and approach.risen <= SHORT and case.root_code == "loss.divergence":
            return None
        weight = 1.0 if approach.sudden else 2.0 + 0.5 * min(math.log10(max(ratio or 10.0, 1.0)), 3.0)
        span = f"over the last {count(approach.risen)} {approach.per}s" if approach.risen > 1 else "at once"
        return Clue(weight, f"the loss grew from {number(approach.level)} to {size}, {span}")
    if approach.calm and case.root_code not in STILL:
        return Clue(
            -2.0, f"the loss was calm until then (last {number(approach.peak)}, level {number(approach.level)})"
        )
    return None


def loss_was_calm(case: Case) -> Clue | None:
    """The loss gave no warning: an argument against everything that builds up."""
    approach = case.loss_approach
    if approach is None or case.root_code in ("run.exception", "metric.non_finite"):
        return None  # an exception has many reasons; a bad validation says nothing of the training batches
    if case.grew:
        return Clue(-2.0, f"the loss had risen to {number(approach.peak)} before")
    if approach.calm:
        return Clue(
            0.8, f"the {count(approach.count)} {approach.per}s before were fine (loss about {number(approach.level)})"
        )
    return None


def rate_at_fault(case: Case) -> Clue | None:
    """How the learning rate compares with the optimizer's usual ones."""
    rate, band = case.rate, case.band
    if rate is None or band is None:
        return None
    words = rate_words(case)
    if rate > band.high:
        excess = math.log10(rate / band.high)
        # Every tenfold above what works makes it likelier; from a thousandfold on it is certain enough.
        return Clue(1.5 + 1.5 * min(excess, 3.0), f"{words} is {times(rate / band.high)} the highest usual one")
    if rate < band.low:
        return Clue(-3.0, f"{words} is below the usual ones")
    if rate <= band.usual:
        return Clue(-0.7, f"{words} is usual")
    return Clue(0.3, f"{words} is in the upper part of the usual range")


def moderate_rate(case: Case) -> Clue | None:
    """For causes that compete with a high learning rate."""
    if case.rate_is_high:
        return Clue(-1.5, f"{rate_words(case)} is high enough to explain it")
    return None


def operation_overflowed(case: Case) -> Clue | None:
    """A module made a bad value from good ones."""
    if case.where.tensor in ("input", "target"):
        return Clue(-5.0, f"the value was bad already in the {case.where.tensor}")
    if case.located and not case.grew:  # what has grown without bound overflows somewhere
        return Clue(1.5, f"the first bad value is the {case.where}, from finite data")
    if case.made_by_loss and not case.grew:
        return Clue(1.5, f"the first bad value is the {case.where}, from finite data")
    return None


def gradient_burst(case: Case) -> Clue | None:
    """The gradient norm shot up before the failure."""
    approach = case.gradient_approach
    if approach is None or not approach.level > 0:
        level = case.gradient_level or 0.0
        if case.updates > WARM or level < LARGE_NORM or case.root_code == "gradient.exploding":
            return None
        return Clue(0.8, f"the gradient norm was {number(level)} just before")
    ratio = approach.peak / approach.level
    if ratio >= (BURST if approach.count >= WARM else JUMP):
        return Clue(1.5, f"the gradient norm reached {number(approach.peak)}, {times(ratio)} its level before")
    if approach.count < WARM:
        return None
    return Clue(-1.0, f"the gradient norm stayed near its level of {number(approach.level)}")


def recurrent_without_clipping(case: Case) -> Clue | None:
    """Gradients through time grow with the length of a sequence (Pascanu, Mikolov, Bengio, 2013)."""
    if not case.facts.model.recurrent or case.facts.optimizer.clipping or case.rate_is_high:
        return None
    return Clue(1.5, "the model is recurrent and its gradients are not clipped")


def loss_is_summed(case: Case) -> Clue | None:
    """The loss adds up over samples, so that gradients grow with the batch."""
    batch = case.facts.batch_size
    # Adaptive optimizers divide by the size of gradients.
    if not case.facts.output.loss_is_summed or "sgd" not in case.facts.optimizer.name.lower():
        return None
    if batch is None or case.rate is None or case.band is None:
        return Clue(1.0, "the loss is the sum over the samples of a batch, and so are the gradients")
    text = f"the loss is the sum over the {count(batch)} samples of a batch, and so are the gradients"
    return Clue(2.5 if case.rate * batch > case.band.high else 0.5, text)


def clipping_in_place(case: Case) -> Clue | None:
    """Gradients are clipped already."""
    clipping = case.facts.optimizer.clipping
    return Clue(-4.0, f"gradients are clipped already ({clipping})") if clipping else None


def half_precision(case: Case) -> Clue | None:
    """Sixteen-bit floats are in use."""
    if "amp.scale_collapse" in case.codes:
        return Clue(4.0, "the loss scale collapsed")
    if case.facts.model.dtype == "float16":
        small = ", in which an epsilon of 1e-8 is zero" if "adam" in case.facts.optimizer.name.lower() else ""
        return Clue(3.0, f"the weights themselves are float16{small}")
    precision = next((str(v) for k, v in case.facts.config.items() if "precision" in str(k).lower()), "")
    if case.facts.loss_scaled or ("16" in precision and "bf" not in precision.lower()):
        return Clue(1.5, "16-bit floats are in use, whose largest value is 65,504")
    return Clue(-4.0, "no 16-bit floats are in use")


def first_loss_far_off(case: Case) -> Clue | None:
    """The first loss says that inputs, initial weights or labels are off: |L0 - ln C| >= ln C in TheDeepChecker."""
    first, trivial = case.first_loss, case.facts.trivial_loss
    if first is None or not trivial or trivial <= 0:
        return None
    level = case.loss_approach.level if case.loss_approach is not None else math.inf
    if level < 0.7 * trivial:
        return Clue(
            -1.5, f"the model had learned before (loss {number(level)}, a constant prediction gives {number(trivial)})"
        )
    if first >= 2.0 * trivial:
        return Clue(
            0.8 + min(math.log10(first / trivial), 2.0),
            f"the first loss was {number(first)}, {times(first / trivial)} the {number(trivial)} of a constant "
            "prediction",
        )
    return Clue(-1.5, f"the first loss was {number(first)}, near the {number(trivial)} of a constant prediction")


def explodes_at_usual_rate(case: Case) -> Clue | None:
    """At a rate at which training works elsewhere the loss explodes within the first steps."""
    approach, rate, band = case.loss_approach, case.rate, case.band
    if approach is None or rate is None or band is None or rate > band.usual or not case.grew:
        return None
    if approach.per != "step" or approach.count >= 2 * WARM or (approach.ratio or 0.0) < SURE_EXPLOSION:
        return None
    return Clue(
        2.0,
        f"the loss grew {times(approach.ratio or 0.0)} its level within {count(approach.count)} steps at a usual rate",
    )


def blown_up_by_weights(case: Case) -> Clue | None:
    """Inputs of a usual size gave an enormous loss at once, and the rate is none that explains it."""
    first, trivial = case.first_loss, case.facts.trivial_loss
    inputs = case.facts.inputs
    if inputs.standard_deviation is None or inputs.minimum is None or inputs.maximum is None:
        return None
    if "data.scale" in case.codes or max(abs(inputs.minimum), abs(inputs.maximum)) > LARGE_INPUT:
        return None
    if case.facts.target_kind != "classes" or first is None or not trivial or first < ENORMOUS * trivial:
        return None
    return Clue(
        3.0,
        f"the first loss was {number(first)}, {times(first / trivial)} the {number(trivial)} of a constant prediction, "
        f"from inputs of {number(inputs.minimum)} to {number(inputs.maximum)}",
    )


def training_was_fine(case: Case) -> Clue | None:
    """Only the validation has bad values."""
    if case.root_code != "metric.non_finite" or case.loss_level is None or len(case.codes) > 1:
        return None
    return Clue(0.8, f"the training loss is finite (about {number(case.loss_level)}), only the validation is not")


def labels_out_of_range(case: Case) -> Clue | None:
    """Classes were seen that the output has no unit for."""
    finding = next((f for f in case.findings if f.code == "data.labels"), None)
    if finding is not None:
        return Clue(4.0, _lower(finding.message))
    width, counts = case.facts.model.output_width, case.facts.class_counts
    if case.facts.target_kind != "classes" or not counts or not width or width < 2:
        return None
    if max(counts) >= width:
        return Clue(4.0, f"labels go up to {max(counts)}, but the output has {width} units (labels 0 to {width - 1})")
    return Clue(-1.5, f"the labels seen (0 to {max(counts)}) fit the {width} output units")


def single_class(case: Case) -> Clue | None:
    """All labels are the same."""
    finding = next((f for f in case.findings if "only_class" in f.evidence), None)
    return None if finding is None else Clue(4.0, _lower(finding.message))


def lost_classes(case: Case) -> Clue | None:
    """Validation has classes that training lacks."""
    finding = next((f for f in case.findings if "validation_share" in f.evidence), None)
    return None if finding is None else Clue(3.0, _lower(finding.message))


def batch_types(case: Case) -> Clue | None:
    """What the numbers of inputs and targets were, where an operation did not take a type."""
    inputs, targets = case.facts.inputs.dtype, case.facts.target.dtype
    known = [f"{what} are {dtype}" for what, dtype in (("inputs", inputs), ("targets", targets)) if dtype]
    if case.exception is None or not known or all(k.cause != "dtype_mismatch" for k in classify(case.exception)):
        return None
    return Clue(0.3, f"the {' and '.join(known)}")


def hardware_reports_errors(case: Case) -> Clue | None:
    """The accelerator says so itself."""
    if "resource.gpu_error" in case.codes:
        return Clue(5.0, "the accelerator reported errors")
    return None


def _lower(sentence: str) -> str:
    return f"{sentence[0].lower()}{sentence[1:]}".rstrip(".")


def rate_words(case: Case) -> str:
    """The learning rate with what is usual, for a sentence."""
    optimizer, band = case.facts.optimizer, case.band
    rate = optimizer.learning_rate if optimizer.learning_rate is not None else math.nan
    momentum = ""
    if case.rate is not None and case.rate != rate:
        momentum = f" and momentum {number(optimizer.momentum or 0.0)} (together as strong as {number(case.rate)})"
    usual = "" if band is None else f" (usual: {number(band.low)} to {number(band.high)})"
    return f"a learning rate of {number(rate)}{momentum} for {optimizer.name[:60]}{usual}"
