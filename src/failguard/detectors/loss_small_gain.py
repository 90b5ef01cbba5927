"""A part of ``loss.no_learning``: a small gain over chance that is certain, as weak signal gives it."""

from __future__ import annotations

import math

from failguard.core.history import History
from failguard.core.label_counts import prior_error
from failguard.core.statistics import losses_of_new_samples, median, noise

__all__ = ["gain_in_validation", "halves_apart", "is_held_back", "learned_a_little", "may_be_all"]

FEW_SAMPLES = 300  # of validation, where their number is not known
ERRORS = 3.0  # a gain of fewer standard errors may be chance
LEAST_GAIN = 0.003  # of the trivial predictor's loss
# What explains that little was learned:
STRONG_DROPOUT, STRONG_DECAY = 0.7, 1.0
SHRUNK = 0.3  # of the first norm of the weights
NEAR = (0.9, 1.1)  # of the spread of targets, which is taken from a part of them
VARYING = 0.03  # of the targets' spread
LEAST_VALIDATION = 100  # samples
USUAL_SPREAD = 0.3  # of the predictions, times the targets', where it was not measured
GAIN_ERRORS = 2.0  # standard errors
CRAWLING = 3e-5  # median ratio of update to weight
RATE_GONE = 1e-3  # of the highest rate


def halves_apart(values: list[float]) -> float:
    """How far apart the medians of the older and the newer half are; 0 for fewer than 4 values."""
    half = len(values) // 2
    return abs(median(values[:half]) - median(values[half:])) if half >= 2 else 0.0


def learned_a_little(history: History, trivial: float, val: list[float], train: list[float]) -> bool:
    """Whether a gain of a few percent over chance is certain, has come to its end, and nothing holds the model back.

    Compared are the median of the newer half of the validation losses (without validation, of the training losses of
    samples not seen before) and the trivial loss, with three times the greater one of two errors: the noise from epoch
    to epoch, and what the class shares of so many validation samples stray.
    """
    facts = history.facts
    newer = val[-max(len(val) // 2, 2) :] if val else losses_of_new_samples(history)
    if len(newer) < 2 or is_held_back(history):
        return False
    import numpy as np

    samples = facts.validation_samples if val else facts.train_samples
    stray = prior_error(facts.class_counts, samples or FEW_SAMPLES)
    sigma = float(noise(np.asarray(newer))) if len(newer) > 3 else max(newer) - min(newer)
    error = sigma if val else sigma / math.sqrt(len(newer))
    gain = trivial - median(newer)
    is_flat = len(train) < 4 or halves_apart(train[len(train) // 2 :]) <= max(2.0 * sigma, 0.01 * trivial)
    return gain > ERRORS * max(error, stray) and gain > LEAST_GAIN * trivial and is_flat


def may_be_all(history: History, trivial: float, recent: float, val: list[float]) -> bool:
    """Whether a regression at the spread of its targets works, so that the data may hold no more.

    Its predictions vary by more than 3 % of the targets' spread, nothing holds it back, and what training gained was
    not lost again in validation, as where noise is learned by heart. Not where validation is known to gain nothing.
    """
    gains = gain_in_validation(history, val)
    if gains is not None:
        return gains and not is_held_back(history)
    predictions = [reading.predictions for reading in history.internals if reading.predictions is not None]
    spreads = [(p.spread, p.target_spread) for p in predictions if p.spread is not None and p.target_spread][-3:]
    if not spreads or not NEAR[0] * trivial <= recent <= NEAR[1] * trivial or is_held_back(history):
        return False
    if not all(own is not None and of_targets and own >= VARYING * of_targets for own, of_targets in spreads):
        return False
    if len(val) < 2 or max(val[-1], recent) > NEAR[1] * trivial:
        return False
    return val[-1] - min(val) <= max(0.5 * (trivial - recent), 0.01 * trivial)


def gain_in_validation(history: History, val: list[float]) -> bool | None:
    """Whether a regression predicts its validation targets better than their own mean does.

    Over n samples the mean squared error of predictions that have nothing to do with the targets strays around its
    expectation, which is above the targets' variance T, by about ``2 r T / sqrt(n)``, with r the spread of the
    predictions over that of the targets: the standard deviation of ``-2 f y`` for independent f and y.

    Args:
        history: What was measured so far.
        val: Finite validation losses, oldest first.

    Returns:
        ``True`` where the median of the newer half is below T, however little; ``False`` where it is not and no epoch
        was by two such errors; ``None`` where one was, or T is not known of 100 samples or more.
    """
    facts = history.facts
    trivial, samples = facts.validation_trivial_loss, facts.validation_samples or 0
    if trivial is None or trivial <= 0.0 or samples < LEAST_VALIDATION or len(val) < 3:
        return None
    own = [
        p.spread / p.target_spread
        for reading in history.internals
        if (p := reading.predictions) is not None and p.spread is not None and p.target_spread
    ]
    error = 2.0 * min(median(own[-3:]) if own else USUAL_SPREAD, 1.0) / math.sqrt(samples) * trivial
    now = median(val[-max(len(val) // 2, 2) :])
    if now < trivial:
        return True
    return False if min(val) >= trivial - GAIN_ERRORS * error else None


def is_held_back(history: History) -> bool:
    """Whether dropout, decay or a rate near zero explain that little was learned."""
    facts = history.facts
    if (
        (facts.model.dropout or 0.0) >= STRONG_DROPOUT
        or (facts.optimizer.weight_decay or 0.0) >= STRONG_DECAY
        or facts.model.weight_penalty
    ):
        return True
    # Weights shrink by themselves where there is little to learn.
    norms = [
        sum(layer.weight_norm or 0.0 for layer in reading.layers) for reading in history.internals if reading.layers
    ]
    if norms and facts.optimizer.weight_decay and norms[-1] < SHRUNK * norms[0]:
        return True
    newest = history.internals[-1].layers if history.internals else ()
    ratios = sorted(r for layer in newest if (r := layer.update_ratio) is not None)
    if ratios and ratios[len(ratios) // 2] < CRAWLING:
        return True
    series = history.learning_rates
    rates = [] if series is None else [x for x in series.values.tolist() if math.isfinite(x)]
    return len(rates) > 1 and rates[-1] < RATE_GONE * max(rates)
