"""Whether learning goes badly: what turns a symptom inside the model from evidence into an alarm."""

from __future__ import annotations

import math

from failguard.core.event import Event
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import median_of_means, train_loss_per_epoch

__all__ = ["learning_is_bad"]

# A run is given this long before its loss is held against it. A warm-up or a plateau at the start is no failure yet.
LEAST_UPDATES = 100
LEAST_SHARE = 0.25  # of the plan
WITHOUT_PLAN_UPDATES = 300
SLOW_STARTS = ("warm", "onecycle", "lambda", "linear", "sequential")  # schedules that may begin near a rate of zero
# Shares of the trivial predictor's loss that count as nothing learned. Heavy-tailed targets move their own variance.
TRIVIAL_SHARE = {"class_prior": 0.9, "output_width": 0.9, "target_spread": 0.95}
START_SHARE = 0.97  # of the first losses, where no trivial loss is known


def learning_is_bad(observation: Observation, history: History) -> bool:
    """Whether after a fair number of updates the training loss is no better than a trivial predictor's, or its start.

    Args:
        observation: The moment.
        history: What was measured so far.

    Returns:
        ``True`` only where there is something to compare with; a run that is too young is not bad. After a training
        loss that is not finite, ``True``.
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
    if start > 0.0:
        return now >= START_SHARE * start
    return now >= start


def _had_time(updates: int, history: History) -> bool:
    facts = history.facts
    slow = 2 if any(word in (facts.optimizer.schedule or "").lower() for word in SLOW_STARTS) else 1
    planned = facts.planned_steps
    if planned is None:
        return updates >= slow * WITHOUT_PLAN_UPDATES
    planned_updates = planned // max(facts.accumulate_batches, 1)
    # A plan too short for that is judged at its end.
    least = min(slow * max(LEAST_UPDATES, int(LEAST_SHARE * planned_updates)), int(0.8 * planned_updates))
    return updates >= max(least, 20)
