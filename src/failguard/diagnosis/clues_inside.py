"""What speaks for and against a cause in how a run is put together, and in what went on inside the model.

Each clue is a function of one case. Weights are natural log-odds, set by judgement: about 1 for a hint, 2 for a good
reason, 5 for near proof.
"""

from __future__ import annotations

from failguard.core.finding import Finding
from failguard.diagnosis.case import Case, Clue
from failguard.diagnosis.wording import number

__all__ = [
    "statistics_of_one",
    "nothing_to_update_with",
    "loss_is_cut_off",
    "inputs_in_scale",
    "cleared_before_update",
    "broadcast",
    "dead_from_the_start",
    "dead_layer",
    "died_later",
    "forgotten_by_optimizer",
    "frozen_in_optimizer",
    "gradients_carried_over",
    "large_inputs",
    "large_targets",
    "large_updates",
    "loss_does_not_fit",
    "no_normalization",
    "one_sided_targets",
    "saturated_layer",
    "scale_collapsed",
    "small_updates",
    "sorted_batches",
    "targets_do_not_fit",
    "unreachable_targets",
    "vanishing",
    "without_gradient",
    "weights_are_zero",
    "wrong_mode",
]

LARGE_INPUT = 30.0  # magnitude, as of data.scale
EARLY_STEPS = 64  # a layer that is dead by then was so from the start, or after a first few updates
DEEP = 5  # layers
ONE_SIDED = 0.9  # share of the most frequent class
ONE_CLASS = 0.98  # share of predictions that are one class


def _found(case: Case, code: str) -> Finding | None:
    return next((f for f in case.findings if f.code == code), None)


def _told(finding: Finding | None, weight: float) -> Clue | None:
    """What a finding says, as evidence."""
    return None if finding is None else Clue(weight, finding.message.rstrip("."))


def _mismatch(case: Case, *words: str) -> Finding | None:
    """The finding of a mismatch, if its sentence is about one of these."""
    finding = _found(case, "model.output_mismatch")
    return finding if finding is not None and any(w in finding.message for w in words) else None


def unreachable_targets(case: Case) -> Clue | None:
    """The last activation cannot put out what is needed."""
    finding = _mismatch(case, "cannot put out", "single unit", "over the samples", "ReLU cuts off", "gone through")
    return _told(finding, 4.0)


def loss_does_not_fit(case: Case) -> Clue | None:
    """The loss takes something else than what it is given."""
    clear = _mismatch(
        case,
        "takes probabilities",
        "takes a distribution",
        "takes log-prob",
        "categorical cross-ent",
        "wrong sign",
        "numbers of classes",
        "percentage error",
    )
    if clear is not None:
        return _told(clear, 4.0)
    return _told(_mismatch(case, "gone through"), 3.2)


def targets_do_not_fit(case: Case) -> Clue | None:
    """The targets are none for this loss."""
    finding = _mismatch(case, "Class numbers", "binary cross-entropy takes targets", "hold several")
    return _told(finding, 4.0)


def broadcast(case: Case) -> Clue | None:
    """Output and targets are broadcast against each other."""
    return _told(_mismatch(case, "broadcast"), 4.0)


def gradients_carried_over(case: Case) -> Clue | None:
    """Gradients were not cleared."""
    return _told(_found(case, "gradient.accumulating"), 5.0)


def without_gradient(case: Case) -> Clue | None:
    """Parameters in the optimizer never got a gradient."""
    setup = case.facts.setup
    finding = _found(case, "gradient.missing")
    return _told(finding, 4.0) if finding is not None and setup.without_gradient else None


def forgotten_by_optimizer(case: Case) -> Clue | None:
    """Trainable parameters are in no optimizer."""
    setup = case.facts.setup
    if not setup.left_out:
        return None
    return Clue(4.0, f"{setup.left_out_share:.0%} of the trainable parameters are in no optimizer")


def _has_no_gradient_at_all(case: Case) -> bool:
    setup = case.facts.setup
    return setup.gradient_checks == 0 and setup.updates_without_gradient > 0


def cleared_before_update(case: Case) -> Clue | None:
    """The loss leads to parameters, and yet no update finds a gradient."""
    setup = case.facts.setup
    if not _has_no_gradient_at_all(case) or setup.loss_reaches_parameters is not True:
        return None
    updates = number(float(setup.updates_without_gradient))
    return Clue(5.0, f"the loss leads back to parameters, but at none of {updates} updates had any of them a gradient")


def loss_is_cut_off(case: Case) -> Clue | None:
    """No update finds a gradient, and the loss leads to no parameter."""
    setup = case.facts.setup
    if not _has_no_gradient_at_all(case):
        return None
    updates = number(float(setup.updates_without_gradient))
    if setup.loss_reaches_parameters is True:
        return Clue(-4.0, "the loss leads back to parameters")
    return Clue(5.0, f"no parameter had a gradient at any of {updates} updates: the loss leads back to none")


def nothing_to_update_with(case: Case) -> Clue | None:
    """For parameters that were forgotten: had they been, others would have had gradients."""
    if _has_no_gradient_at_all(case):
        return Clue(-5.0, "no parameter had a gradient at all, whoever may update it")
    return None


def statistics_of_one(case: Case) -> Clue | None:
    """Batch normalization of a single sample puts out its offset, of two little else than signs."""
    size = case.facts.batch_size
    if size is None or size > 2 or not case.facts.model.batch_normalization:
        return None
    what = "puts out its offset whatever goes in" if size == 1 else "hardly keeps more than the sign of a difference"
    return Clue(4.5, f"batch normalization of batches of {size} {what}")


def inputs_in_scale(case: Case) -> Clue | None:
    """The inputs are not large: against their scale as a reason."""
    inputs = case.facts.inputs
    if inputs.standard_deviation is None or inputs.minimum is None or inputs.maximum is None:
        return None
    most = max(abs(inputs.minimum), abs(inputs.maximum))
    if "data.scale" in case.codes or most > LARGE_INPUT:
        return None
    return Clue(-3.0, f"the inputs lie between {number(inputs.minimum)} and {number(inputs.maximum)}")


def frozen_in_optimizer(case: Case) -> Clue | None:
    """Much of what the optimizer holds cannot change, or layers were frozen before anything had trained them."""
    setup = case.facts.setup
    share, untrained = setup.frozen_share, setup.untrained_frozen
    if _found(case, "weights.frozen") is not None and untrained:
        return Clue(3.0, f"frozen layers are as an initializer left them, the first of {len(untrained)} {untrained[0]}")
    return Clue(3.0, f"{share:.0%} of what the optimizer holds requires no gradient") if share >= 0.5 else None


def sorted_batches(case: Case) -> Clue | None:
    """Batches come sorted by label."""
    return _told(_found(case, "data.unshuffled"), 4.0)


def wrong_mode(case: Case) -> Clue | None:
    """Dropout or batch normalization worked in the wrong mode."""
    return _told(_found(case, "model.wrong_mode"), 4.5)


def dead_layer(case: Case) -> Clue | None:
    """Most units of a layer are dead."""
    return _told(_found(case, "activation.dead"), 2.5)


def _since(finding: Finding) -> float:
    return finding.evidence.get("since_step", float(finding.step))


def dead_from_the_start(case: Case) -> Clue | None:
    """A layer was dead or saturated before training could have done it."""
    for code, word in (("activation.dead", "dead"), ("activation.saturated", "saturated")):
        finding = _found(case, code)
        if finding is not None and _since(finding) < EARLY_STEPS and not case.rate_is_high:
            return Clue(2.0, f"the layer was {word} within the first {number(_since(finding) + 1)} steps")
    return None


def weights_are_zero(case: Case) -> Clue | None:
    """Every layer began with weights of zero. A last layer or an adapter often does, on purpose."""
    readings = case.history.internals
    if not readings or readings[0].step >= EARLY_STEPS:
        return None
    norms = [layer.weight_norm for layer in readings[0].layers]
    if len(norms) < 2 or any(norm != 0.0 for norm in norms):
        return None
    # No gradient comes through a product with zero.
    weight = 5.0 if case.root_code == "gradient.missing" else 2.5
    return Clue(weight, f"the weights of all {len(norms)} layers are zero at the start")


def died_later(case: Case) -> Clue | None:
    """A layer died while training went on: large updates do that."""
    finding = _found(case, "activation.dead")
    if finding is None:
        return None
    if case.rate_is_high:
        return Clue(1.5, "large updates push units to where they are always off")
    return Clue(1.0, f"the layer died by step {number(_since(finding))}") if _since(finding) >= EARLY_STEPS else None


def saturated_layer(case: Case) -> Clue | None:
    """Most units of a layer are pinned; or a deep stack of sigmoids lets no gradient through."""
    finding = _found(case, "activation.saturated")
    if finding is not None:
        return _told(finding, 2.5)
    saturating = [a for a in case.facts.model.activations if a.lower() in ("sigmoid", "tanh", "hard_sigmoid")]
    if _found(case, "gradient.vanishing") is not None and saturating:
        return Clue(2.0, f"its activations are {' and '.join(saturating[:2])}, whose slopes are below 1")
    return None


def vanishing(case: Case) -> Clue | None:
    """Hardly any gradient reaches the first layers."""
    return _told(_found(case, "gradient.vanishing"), 1.5)


def no_normalization(case: Case) -> Clue | None:
    """A deep stack has nothing that keeps signals in range."""
    layers = case.facts.model.layers
    if case.facts.model.normalization or layers is None:
        return Clue(-2.0, "the model has normalization layers") if case.facts.model.normalization else None
    if layers >= DEEP:
        return Clue(1.5, f"it has {layers} layers and no normalization")
    return Clue(-2.0, f"it has {layers} layers only")


def large_updates(case: Case) -> Clue | None:
    """Updates are a large part of the weights."""
    return _told(_found(case, "update.too_large"), 2.0)


def small_updates(case: Case) -> Clue | None:
    """Updates are a tiny part of the weights."""
    return _told(_found(case, "update.too_small"), 2.0)


def large_inputs(case: Case) -> Clue | None:
    """Inputs are far from a workable scale."""
    finding = _found(case, "data.scale")
    return _told(finding, 3.0) if finding is not None and finding.where.tensor == "input" else None


def large_targets(case: Case) -> Clue | None:
    """Targets are far from a workable scale."""
    finding = _found(case, "data.scale")
    return _told(finding, 3.0) if finding is not None and finding.where.tensor == "target" else None


def scale_collapsed(case: Case) -> Clue | None:
    """The loss scale is at its floor."""
    return _told(_found(case, "amp.scale_collapse"), 3.0)


def one_sided_targets(case: Case) -> Clue | None:
    """One class makes up nearly all of the targets, and perhaps of the predictions by now."""
    counts = {c: n for c, n in case.facts.class_counts.items() if n}
    total = sum(counts.values())
    if not total or len(counts) < 2:
        return None
    commonest = max(counts, key=counts.__getitem__)
    share = counts[commonest] / total
    if share < ONE_SIDED:
        return Clue(-2.0, f"the most frequent class makes up {share:.0%} of the targets")
    ratio = number(counts[commonest] / min(counts.values()))
    against = "" if len(counts) == 2 else " against the rarest one"
    text = f"labels come {ratio}:1{against} ({share:.0%} are class {commonest})"
    shown = next((r.predictions for r in reversed(case.history.internals) if r.predictions is not None), None)
    if shown is None or shown.top_share is None or shown.top_share < ONE_CLASS:
        return Clue(3.0, text)
    return Clue(3.5, f"{text}, now one class is predicted ({shown.top_share:.0%} of the last {shown.samples} samples)")
