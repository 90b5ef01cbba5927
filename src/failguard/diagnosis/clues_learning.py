"""What speaks for and against a cause when a model does not learn, or learns only its training data.

Each clue is a function of one case. Weights are natural log-odds, set by judgement: about 1 for a hint, 2 for a good
reason, 5 for near proof.
"""

from __future__ import annotations

import math
from itertools import pairwise

from failguard.core.finding import Severity
from failguard.core.label_counts import prior_error
from failguard.core.statistics import losses_of_new_samples, median, train_loss_per_epoch
from failguard.diagnosis.case import Case, Clue
from failguard.diagnosis.clues_values import rate_words
from failguard.diagnosis.config_lint import MOST_DECAY, MOST_DROPOUT, clipping_limit
from failguard.diagnosis.wording import count, number, times

__all__ = [
    "clipped_away",
    "constant_prediction",
    "explained_otherwise",
    "falls_without_bound",
    "enough_updates",
    "few_updates",
    "gradients_flow",
    "gradients_zero",
    "low_rate",
    "no_gradients",
    "no_regularization",
    "nothing_trainable",
    "parameters_for_data",
    "rate_is_usual",
    "rate_was_gone",
    "regularized",
    "something_trainable",
    "strong_regularization",
    "swings",
    "validation_creeps",
    "validation_far_off",
    "validation_learned",
    "validation_never_learned",
    "validation_turned",
    "weights_stand_still",
]

ENOUGH_UPDATES = 200  # below this a model may simply not have had the time
TRIVIAL_BAND = 0.05  # a loss within 5 % of a constant prediction's has learned nothing to speak of
MANY_PARAMETERS = 10.0  # per training sample: enough to memorise (Zhang et al. 2017 need 2 per sample)
FEW_PARAMETERS = 1.0
FEW_TRAINABLE = 0.01  # share of the parameters
ZERO_GRADIENT = 1e-12
STRONG_PENALTY = {"L1": 0.01, "L2": MOST_DECAY}  # factor; recipes have 1e-5 to 1e-3
SHRUNK = 0.3  # of the first norm of the weights; training seldom shrinks them
LEARNED_SHARE = 0.85  # of a constant prediction's loss, on samples that were not seen before: there is signal
FAR_OFF = 3.0  # times a constant prediction's loss; memorised noise gets there with time, not in the first epoch
CLIPPED_AWAY = 1e-3  # of the gradient norm


def constant_prediction(case: Case) -> Clue | None:
    """The training loss is where a constant prediction is."""
    level, trivial = case.loss_level, case.facts.trivial_loss
    if case.root_code == "metric.overfitting":
        return None  # the training loss fell; it is the validation that tells
    if level is None or not trivial or trivial <= 0:
        return None
    if abs(level - trivial) <= TRIVIAL_BAND * trivial:
        return Clue(0.5, f"the training loss stays at {number(level)} (a constant prediction gives {number(trivial)})")
    if level > trivial:
        return Clue(-2.5, f"the loss is {number(level)}, worse than the {number(trivial)} of a constant prediction")
    val = case.history.improvement.best_value
    if val is not None and "loss" in case.history.monitor and val > level + TRIVIAL_BAND * trivial:
        return Clue(
            1.5,
            f"the training loss fell to {number(level)}, but nothing was gained in validation (best {number(val)}; a "
            f"constant prediction gives {number(trivial)})",
        )
    return Clue(-1.5, f"the loss of {number(level)} is below the {number(trivial)} of a constant prediction")


def gradients_flow(case: Case) -> Clue | None:
    """Gradients reach the weights, so that the model could learn."""
    level = case.gradient_level
    if level is None:
        return None
    if level > ZERO_GRADIENT:
        return Clue(0.4, f"gradients reach the weights (median norm {number(level)})")
    return Clue(-3.0, f"no gradient reaches the weights (median norm {number(level)})")


def validation_creeps(case: Case) -> Clue | None:
    """Validation gets better at every epoch, by next to nothing: the model learns, but far too slowly.

    A larger fall counts only below a constant prediction's loss: until there it may be the initial weights' error that
    is shed, as on shuffled labels too. So may a fall that training outruns: that is learning by heart.
    """
    val, trivial = _validation_losses(case), case.facts.validation_trivial_loss or case.facts.trivial_loss
    if len(val) < 4 or any(b >= a for a, b in pairwise(val)):
        return None
    if val[0] - val[-1] > 0.01 * abs(val[0]) and not (trivial and val[-1] < 0.99 * trivial):
        return None
    series = case.history.epochs.get("train_loss")
    train = [] if series is None else [v for v in series.values.tolist() if math.isfinite(v)]
    if train and train[0] - train[-1] > 2.0 * (val[0] - val[-1]):
        return None
    return Clue(
        2.0, f"{case.history.monitor[:80]} falls at every epoch, from {number(val[0])} to {number(val[-1])} only"
    )


def _tiny_updates(case: Case) -> str | None:
    """Updates were measured, and are far too small, with gradients that are there."""
    found = next((f for f in case.findings if f.code == "update.too_small" and f.severity is not Severity.INFO), None)
    if found is None or "gradient.vanishing" in case.codes or (case.gradient_level or 0.0) <= ZERO_GRADIENT:
        return None
    return f"updates change the weights by {number(found.evidence.get('update_ratio', 0.0))} of their size"


def explained_otherwise(case: Case) -> Clue | None:
    """For causes under which a model that is able to learn does not."""
    clue = (
        validation_creeps(case)
        or weights_stand_still(case)
        or strong_regularization(case)
        or clipped_away(case)
        or (low_rate(case) if case.rate_gone is not None or _tiny_updates(case) is not None else None)
    )
    return None if clue is None or clue.weight <= 0 else Clue(-2.0 * clue.weight, clue.text)


def weights_stand_still(case: Case) -> Clue | None:
    """Validation gives the same number every epoch: the weights do not change at all."""
    val = _validation_losses(case)
    if len(val) < 3 or max(val) - min(val) > 1e-6 * abs(val[0]):
        return None
    return Clue(4.0, f"{case.history.monitor[:80]} is {number(val[0])} at every epoch: the weights do not change")


def _validation_losses(case: Case) -> list[float]:
    name = case.history.monitor
    series = case.history.epochs.get(name)
    return [] if series is None or "loss" not in name else [v for v in series.values.tolist() if math.isfinite(v)]


def no_gradients(case: Case) -> Clue | None:
    """For frozen parameters, of which some may still get a gradient."""
    clue = gradients_zero(case)
    return clue if clue is not None and clue.weight > 0 else None


def gradients_zero(case: Case) -> Clue | None:
    """No gradient reaches the weights."""
    level = case.gradient_level
    if level is None:
        return None
    if level <= ZERO_GRADIENT:
        return Clue(4.0, f"the gradient norm is {number(level)}: nothing reaches the weights")
    if weights_stand_still(case) is not None or case.facts.model.trainable_parameters == 0:
        return None
    if case.facts.setup.without_gradient:  # not all of them
        return None
    return Clue(-4.0, f"gradients reach the weights (median norm {number(level)})")


def rate_is_usual(case: Case) -> Clue | None:
    """The learning rate can be ruled out as the reason that nothing is learned."""
    rate, band = case.rate, case.band
    if rate is None or band is None or case.rate_gone is not None:
        return None
    if rate > band.high:
        return Clue(-2.0, f"{rate_words(case)} is high enough to explain it")
    if rate < band.usual / 30.0:
        return Clue(-2.0, f"{rate_words(case)} is low enough to explain it")
    return Clue(0.7, f"{rate_words(case)} is usual")


def low_rate(case: Case) -> Clue | None:
    """The learning rate is below the optimizer's usual ones, or soon was."""
    if case.rate_gone is not None:
        top, last, total = case.rate_gone
        return Clue(4.0, f"the schedule took the rate from {number(top)} to nothing by epoch {last} of {total}")
    rate, band = case.rate, case.band
    if rate is None or band is None:
        return None
    words = rate_words(case)
    tiny = _tiny_updates(case)
    if tiny is not None and rate >= band.low:
        return Clue(2.5, f"{tiny}, whatever the rate says")
    if rate < band.low:
        return Clue(
            3.0 + min(math.log10(band.low / rate), 3.0),
            f"{words} is {times(band.low / rate)} below the lowest usual one",
        )
    if rate < band.usual / 30.0:
        return Clue(0.7 + 1.5 * math.log10(band.usual / 30.0 / rate), f"{words} is at the lower end of the usual range")
    if validation_creeps(case) is not None:
        return Clue(-1.0, f"{words} is not low")
    return Clue(-2.5, f"{words} is not low")


def rate_was_gone(case: Case) -> Clue | None:
    """For causes under which the weights do not move: the schedule left no rate to move them by."""
    if case.rate_gone is None:
        return None
    top, last, total = case.rate_gone
    return Clue(-4.0, f"the schedule took the rate from {number(top)} to nothing by epoch {last} of {total}")


def few_updates(case: Case) -> Clue | None:
    """There was hardly time to learn."""
    updates = case.updates
    if updates == 0:
        return None
    if updates < ENOUGH_UPDATES:
        return Clue(1.5 if updates < ENOUGH_UPDATES / 4 else 0.7, f"only {count(updates)} updates were made")
    return Clue(-2.0, f"{count(updates)} updates were made")


def enough_updates(case: Case) -> Clue | None:
    """There was time to learn."""
    updates = case.updates
    if updates == 0:
        return None
    if updates < ENOUGH_UPDATES / 4:
        return Clue(-2.0, f"only {count(updates)} updates were made")
    return Clue(0.5, f"{count(updates)} updates were made") if updates >= ENOUGH_UPDATES else None


def nothing_trainable(case: Case) -> Clue | None:
    """Few or no parameters are trainable."""
    trainable, total = case.facts.model.trainable_parameters, case.facts.model.parameters
    if trainable is None or not total:
        return None
    if trainable == 0:
        return Clue(6.0, f"none of the {count(total)} parameters is trainable")
    if trainable < FEW_TRAINABLE * total:
        return Clue(4.0, f"only {count(trainable)} of {count(total)} parameters are trainable")
    return Clue(-2.0, f"{count(trainable)} of {count(total)} parameters are trainable")


def something_trainable(case: Case) -> Clue | None:
    """For causes that need a model that can learn."""
    trainable, total = case.facts.model.trainable_parameters, case.facts.model.parameters
    if trainable == 0:
        return Clue(-6.0, "no parameter is trainable")
    if trainable is not None and total and trainable < FEW_TRAINABLE * total:
        return Clue(-2.0, f"only {count(trainable)} of {count(total)} parameters are trainable")
    return None


def strong_regularization(case: Case) -> Clue | None:
    """Dropout or weight decay that leaves nothing to learn from."""
    dropout, decay = case.facts.model.dropout, case.facts.optimizer.weight_decay
    if dropout is not None and dropout >= MOST_DROPOUT:
        return Clue(3.5, f"dropout {number(dropout)} leaves little of the signal")
    if decay is not None and decay >= 1.0:
        return Clue(3.5, f"weight decay {number(decay)} pulls the weights to zero")
    shrunk, penalty = case.weights_left, case.facts.model.weight_penalty
    kind, _, factor = (penalty or "").partition(" ")
    if kind and float(factor) >= STRONG_PENALTY[kind]:
        return Clue(3.5, f"the penalty {penalty} pulls the weights to zero")
    if shrunk is not None and shrunk <= SHRUNK and (penalty or decay):
        what = f"the penalty {penalty}" if penalty else f"weight decay {number(decay or 0.0)}"
        return Clue(3.5, f"{what} has pulled the weights to {shrunk:.2g} of their first norm")
    return None


def swings(case: Case) -> Clue | None:
    """Training and validation swing together: the weights jump back and forth."""
    found = next((f for f in case.findings if f.code == "loss.oscillation"), None)
    return None if found is None else Clue(0.7, found.message.rstrip("."))


def falls_without_bound(case: Case) -> Clue | None:
    """The loss has no lower bound."""
    found = next((f for f in case.findings if f.evidence.get("falls_without_bound")), None)
    return None if found is None else Clue(4.0, found.message.rstrip("."))


def clipped_away(case: Case) -> Clue | None:
    """Clipping leaves so little of the gradients that plain gradient descent hardly moves."""
    limit, level = clipping_limit(case.facts), case.gradient_level
    is_norm = (case.facts.optimizer.clipping or "").startswith("norm")
    if limit is None or level is None or not is_norm or not 0.0 < limit < CLIPPED_AWAY * level:
        return None
    if "sgd" not in case.facts.optimizer.name.lower():  # adaptive optimizers scale gradients anyway
        return None
    return Clue(4.0, f"gradients of norm {number(level)} are clipped to {number(limit)}, {times(level / limit)} less")


def validation_turned(case: Case) -> Clue | None:
    """How far validation went from its best while training went on."""
    best = case.history.improvement
    series = case.history.epochs.get(case.history.monitor)
    if best.best_value is None or series is None or series.last is None or not math.isfinite(series.last):
        return None
    train = case.history.epochs.get("train_loss")
    aside = f"; train_loss is {number(train.last)}" if train is not None and train.last is not None else ""
    text = (
        f"{case.history.monitor[:80]} went from {number(best.best_value)} (epoch {best.best_epoch}) to "
        f"{number(series.last)}{aside}"
    )
    return Clue(0.5, text)


def validation_never_learned(case: Case) -> Clue | None:
    """Validation never got better than a constant prediction, while training was memorised."""
    best, trivial = case.history.improvement, case.facts.trivial_loss
    if "loss" not in case.history.monitor or best.best_value is None or not trivial or trivial <= 0:
        return None
    if validation_far_off(case) is not None:
        return None
    stray = prior_error(case.facts.class_counts, case.samples_an_epoch) if case.samples_an_epoch else 0.0
    if trivial <= best.best_value < trivial + 3.0 * stray:
        return None  # the class shares of so few samples say little of those in validation
    if best.best_value >= (1.0 - TRIVIAL_BAND) * trivial:
        return Clue(
            # Where nothing is learned this is what was found, and no reason for it.
            4.0 if case.root_code == "metric.overfitting" else 0.3,
            f"{case.history.monitor[:80]} was never better than {number(best.best_value)} (a constant prediction gives "
            f"{number(trivial)})",
        )
    if "metric.overfitting" in case.codes:
        return Clue(
            -4.0,
            f"{case.history.monitor[:80]} reached {number(best.best_value)}, better than the {number(trivial)} of a "
            "constant prediction",
        )
    return None


def validation_far_off(case: Case) -> Clue | None:
    """Validation was far worse than a constant prediction from the first epoch on, while training was learned.

    Or it was never better, while training was, already on samples that it saw for the first time: so there is something
    to be learned, and validation is of another kind.
    """
    best, trivial = case.history.improvement.best_value, case.facts.trivial_loss
    val, level = _validation_losses(case), case.loss_level
    if not val or best is None or not trivial or trivial <= 0 or level is None or level > 0.8 * trivial:
        return None
    new = losses_of_new_samples(case.history)
    if best < FAR_OFF * trivial:
        epochs = train_loss_per_epoch(case.history)
        early = max(median(new), epochs.values[0]) if new and epochs is not None else math.inf
        if early > LEARNED_SHARE * trivial or best < (1.0 - TRIVIAL_BAND) * trivial:
            return None
        return Clue(
            4.5,
            f"training was at {number(early)} before it saw a sample twice, but {case.history.monitor[:80]} was never "
            f"better than {number(best)} (a constant prediction gives {number(trivial)})",
        )
    return Clue(
        4.5,
        f"{case.history.monitor[:80]} was at least {number(best)} at every epoch, {times(best / trivial)} the "
        f"{number(trivial)} of a constant prediction, while training was learned",
    )


def validation_learned(case: Case) -> Clue | None:
    """For causes that need data from which something general can be learned."""
    clue = validation_far_off(case) or validation_never_learned(case)
    return Clue(-4.0, clue.text) if clue is not None and clue.weight > 0 else None


def parameters_for_data(case: Case) -> Clue | None:
    """Whether the model can memorise the data."""
    per_sample = case.parameters_per_sample
    if per_sample is None:
        return None
    model = case.facts.model
    words = (
        f"{count(model.trainable_parameters or model.parameters or 0)} parameters for "
        f"{count(case.samples_an_epoch or 0)} training samples"
    )
    if per_sample >= MANY_PARAMETERS:
        return Clue(
            1.5 + 0.5 * min(math.log10(per_sample / MANY_PARAMETERS), 2.0), f"{words}, {number(per_sample)} each"
        )
    if per_sample >= FEW_PARAMETERS:
        return Clue(0.7, f"{words}, {number(per_sample)} each")
    return Clue(-1.5, f"{words} are not many")


def no_regularization(case: Case) -> Clue | None:
    """Neither dropout nor weight decay holds the model back."""
    dropout, decay = case.facts.model.dropout, case.facts.optimizer.weight_decay
    if not case.facts.optimizer.name and not case.facts.model.name:
        return None  # a finished log: absent means not known here
    if not dropout and not decay:
        return Clue(1.5, "there is no dropout and no weight decay")
    if not dropout or dropout < 0.15:
        have = f"weight decay {number(decay)}" if decay else f"dropout {number(dropout or 0.0)}"
        return Clue(0.5, f"regularization is light ({have})")
    return Clue(-1.0, f"dropout {number(dropout)} is in use already")


def regularized(case: Case) -> Clue | None:
    """Strong regularization did not help, so that it is the data that are few."""
    dropout = case.facts.model.dropout
    if dropout and dropout >= 0.15:
        return Clue(0.7, f"it overfits in spite of dropout {number(dropout)}")
    return None
