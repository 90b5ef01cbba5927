"""Whether learning goes badly: what turns a symptom inside the model from evidence into an alarm."""

from __future__ import annotations

import math

from failguard.core.event import Event
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import median_of_means, train_loss_per_epoch

__all__ = ["accuracy_is_trivial", "learning_is_bad", "learning_is_poor", "predictions_are_constant"]

# A run is given this long before its loss is held against it. A warm-up or a plateau at the start is no failure yet.
LEAST_UPDATES = 100
LEAST_SHARE = 0.35  # of the plan
WITHOUT_PLAN_UPDATES = 300
# Shares of the trivial predictor's loss that count as nothing learned. Heavy-tailed targets move their own variance.
TRIVIAL_SHARE = {"class_prior": 0.9, "output_width": 0.9, "target_spread": 0.95}
START_SHARE = 0.97  # of the first losses, where no trivial loss is known
TRAINING_ACCURACIES = (
    "accuracy",
    "acc",
    "sparse_categorical_accuracy",
    "categorical_accuracy",
    "binary_accuracy",
    "train_accuracy",
    "train_acc",
    "train/accuracy",
    "train/acc",
)
LEAST_SAMPLES = 500  # targets of which the class shares are known
MOST_MAJORITY = 0.55  # share of the most frequent class
CONSTANT_SHARE = 0.03  # of the targets' spread
LEAST_PREDICTIONS = 8  # rows of a sample of predictions
LATE_SHARE, POOR_SHARE = 0.6, 0.3  # of the plan, and of the trivial predictor's loss


def learning_is_bad(observation: Observation, history: History) -> bool:
    """Whether after a fair number of updates the training loss is no better than a trivial predictor's, or its start.

    Args:
        observation: The moment.
        history: What was measured so far.

    Returns:
        ``True`` only where there is something to compare with; a run that is too young is not bad. After a training
        loss that is not finite, ``True``. Where no trivial predictor's loss is known, its accuracy and the spread of
        its predictions count.
    """
    facts = history.facts
    losses = history.steps.get("loss")
    if losses is not None and len(losses):
        if losses.last is not None and not math.isfinite(losses.last):
            return True
        updates = observation.optimizer_step or len(losses) // max(facts.accumulate_batches, 1)
        at_end = observation.event is Event.RUN_END and history.facts.planned_steps is None
        if updates < LEAST_UPDATES if at_end else not _had_time(updates, history):
            return False
        now = median_of_means(losses.recent(64))
        start = median_of_means(losses.first(8))
    else:
        series = train_loss_per_epoch(history)
        if series is None or len(series) < 5:
            return False
        now, start = median_of_means(series.recent(3)), median_of_means(series.first(1))
    if now is None or start is None:
        return False
    trivial = facts.trivial_loss
    if trivial is not None and trivial > 0.0:
        return now >= TRIVIAL_SHARE.get(facts.trivial_loss_source or "", 0.9) * trivial
    # A loss of which no baseline is known may fall by what else is in it, such as a penalty on weights.
    if accuracy_is_trivial(history) or predictions_are_constant(history):
        return True
    if start > 0.0:
        return now >= START_SHARE * start
    return now >= start


def learning_is_poor(observation: Observation, history: History, share: float = POOR_SHARE) -> bool:
    """Whether late in a run the training loss is still a good part of a trivial predictor's.

    Many healthy runs end there, so this alone says little. See ``failguard.episodes`` for what is made of it.

    Args:
        observation: The moment.
        history: What was measured so far.
        share: Of the trivial predictor's loss, that counts as a good part.

    Returns:
        ``False`` where no trivial predictor's loss is known, and before ``LATE_SHARE`` of the plan.
    """
    facts, losses = history.facts, history.steps.get("loss")
    if losses is None or not facts.trivial_loss or facts.trivial_loss <= 0.0:
        return False
    planned, seen = facts.planned_steps, len(losses)
    is_late = observation.event is Event.RUN_END if planned is None else seen >= LATE_SHARE * planned
    now = median_of_means(losses.recent(64))
    return is_late and seen >= LEAST_UPDATES and now is not None and now >= share * facts.trivial_loss


def accuracy_is_trivial(history: History) -> bool:
    """Whether the accuracy on training data is no better than always naming the most frequent class.

    Only for classes of similar size: of rare ones a good model may name none. The newest three epochs have to agree
    within three standard errors and two percent.

    Args:
        history: What was measured so far. The accuracy is a metric of that name, as frameworks log it.
    """
    facts = history.facts
    samples = sum(facts.class_counts.values())
    if (
        facts.target_kind != "classes"
        or len(facts.class_counts) < 2
        or facts.target.elements_per_sample not in (None, 1)
    ):
        return False
    majority = max(facts.class_counts.values()) / samples
    series = next((history.epochs[name] for name in TRAINING_ACCURACIES if name in history.epochs), None)
    if series is None or len(series) < 3 or samples < LEAST_SAMPLES or majority > MOST_MAJORITY:
        return False
    error = math.sqrt(majority * (1.0 - majority) / samples)
    return all(0.0 <= value <= majority + 3.0 * error + 0.02 for value in series.recent(3).tolist())


def predictions_are_constant(history: History) -> bool:
    """Whether a regression puts out nearly the same for every sample, while its targets vary.

    With a spread of r times the targets' no model explains more than 2 r of their variance. The newest three samples of
    predictions have to agree.
    """
    predictions = [reading.predictions for reading in history.internals if reading.predictions is not None]
    seen = [p for p in predictions if p.samples >= LEAST_PREDICTIONS][-3:]
    spreads = [(p.spread, p.target_spread) for p in seen]
    return len(seen) == 3 and all(
        own is not None and of_targets is not None and own < CONSTANT_SHARE * of_targets for own, of_targets in spreads
    )


def _had_time(updates: int, history: History) -> bool:
    facts = history.facts
    slow = 2 if facts.optimizer.may_start_slowly else 1
    planned = facts.planned_steps
    if planned is None:
        return updates >= slow * WITHOUT_PLAN_UPDATES
    planned_updates = planned // max(facts.accumulate_batches, 1)
    # A plan too short for that is judged at its end.
    least = min(slow * max(LEAST_UPDATES, int(LEAST_SHARE * planned_updates)), int(0.8 * planned_updates))
    return updates >= max(least, 20)
