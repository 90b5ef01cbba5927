"""``loss.no_learning``: after enough updates the loss is not better than a trivial predictor's, or than its own start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History, Series
from failguard.core.observation import Observation
from failguard.core.statistics import median, noise, train_loss_per_epoch
from failguard.detectors.base import Example

__all__ = ["LossNoLearning"]

CHUNK = 8
SLOW_STARTS = ("warm", "onecycle", "lambda", "linear", "sequential")  # schedules that may begin near a rate of zero


@dataclass(frozen=True, slots=True)
class LossNoLearning:
    """Nothing has been learned although there were enough updates for it.

    *Compared with the trivial predictor* (``error``), where its loss ``T`` is known, which is the case for cross-entropy (the
    entropy of the class frequencies, or ln of the number of classes). All of these hold:

    - enough was tried: ``min_updates`` and ``min_epochs``, and ``min_share`` of the plan; without a plan ``open_updates``
      and ``open_epochs``. Twice as much under a schedule that may begin with a warm-up;
    - the recent training loss (median of means of 8) is at least ``0.85 T`` while no validation loss was ever below ``0.97 T``;
      without validation at least ``0.97 T``. It may lie a little below ``T`` because a net starts to memorise noise;
    - it is not a penalty that keeps a good loss high: it is at most ``1.15 T``, or not below 95 % of its own start, and no
      validation accuracy is better than the most frequent class's share by a tenth of what is missing to 1;
    - the validation loss (the training loss without validation) does not fall steadily at a pace that brings it below
      ``0.9 T`` by the end of the plan (an open-ended run: in as many epochs again).

    *Compared with its own start* (``warning``), where ``T`` is not known and there is a validation loss. A run that starts from
    good weights looks the same, so this takes much more:

    - *frozen*: the validation loss has been the same to 6 digits for 5 epochs, from the first one on;
    - *worse*: after 10 epochs and ``own_start_updates``, training is above its start beyond noise, and validation is not below;
    - *flat*: after 20 epochs, neither is below its start beyond noise.

    Evidence: ``recent_loss``, ``start_loss``, ``updates``, ``epochs``, and where known ``trivial_loss``, ``best_val_loss``.

    Attributes:
        min_updates, min_epochs, min_share, open_updates, open_epochs, own_start_updates: See above.

    Source: the comparison with a trivial predictor instead of an absolute target follows Karpathy, "A Recipe for Training
    Neural Networks" (2019), and the initial-loss check of TheDeepChecker (Ben Braiek and Khomh, 2023). The bands were set on
    60 trainings on shuffled labels, whose validation loss strays to ``0.98 T`` by chance, and on slow healthy ones.
    """

    min_updates: int = 150
    min_epochs: int = 3
    min_share: float = 0.3
    open_updates: int = 500
    open_epochs: int = 5
    own_start_updates: int = 1000

    code: ClassVar[str] = "loss.no_learning"
    events: ClassVar[frozenset[Event]] = frozenset({Event.STEP, Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = ()
    QUIET: ClassVar[Sequence[Example]] = ()

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the recent loss with the trivial predictor's, or with the start."""
        at_step = observation.event is Event.STEP
        if at_step and (observation.epoch > 0 or len(history.steps.get("loss", ())) < 2000):
            return None  # left to the end of the epoch; only a run of one long epoch is looked at in between
        trivial = history.facts.trivial_loss
        if trivial is not None and trivial > 0.0:
            return self._against_trivial(observation, history, trivial)
        return None if at_step else self._against_start(observation, history)

    def _against_trivial(self, observation: Observation, history: History, trivial: float) -> Finding | None:
        facts = history.facts
        val = _val_losses(history)
        recent = _recent_level(history)
        if recent is None or recent < (0.85 if val else 0.97) * trivial:
            return None
        if val and min(val) < 0.97 * trivial:
            return None
        start = _start_level(history)
        if (recent > 1.15 * trivial and recent < 0.95 * start) or _accuracy_is_good(history):
            return None
        updates, epochs = _updates(observation, history), observation.epoch + 1
        if not self._enough(facts, updates, epochs, one_long_epoch=observation.event is Event.STEP):
            return None
        train = train_loss_per_epoch(history)
        falling = val or ([] if train is None else [x for x in train.values.tolist() if math.isfinite(x)])
        remaining = (facts.max_epochs or 2 * epochs) - epochs
        if _projected(falling, remaining) < 0.9 * trivial:
            return None
        against = f"the {trivial:.4g} of always predicting the class frequencies"
        if facts.trivial_loss_source == "output_width":
            against = f"the {trivial:.4g} of guessing"
        message = f"After {updates} updates the training loss is {recent:.4g}, no better than {against}"
        message += f"; the best validation loss was {min(val):.4g}." if val else "."
        evidence = _evidence(recent, start, updates, epochs, val) | {"trivial_loss": trivial}
        return _finding(observation, Severity.ERROR, message, evidence)

    def _enough(self, facts: Facts, updates: int, epochs: int, *, one_long_epoch: bool) -> bool:
        slow = 2 if any(word in (facts.optimizer.schedule or "").lower() for word in SLOW_STARTS) else 1
        if one_long_epoch:
            planned = (facts.planned_steps or 0) // max(facts.accumulate_batches, 1)
            return updates >= slow * max(4 * self.open_updates, int(self.min_share * planned))
        if facts.max_epochs is not None and facts.max_epochs > 0:
            enough_epochs = max(self.min_epochs, min(slow * self.min_share, 0.75) * facts.max_epochs)
            return epochs >= enough_epochs and updates >= slow * self.min_updates
        return epochs >= slow * self.open_epochs and updates >= slow * self.open_updates

    def _against_start(self, observation: Observation, history: History) -> Finding | None:
        series = train_loss_per_epoch(history)
        val = _val_losses(history)
        if series is None or len(val) < 5 or observation.epoch < 4:
            return None
        train = [x for x in series.values.tolist() if math.isfinite(x)]
        if len(train) < 5:
            return None
        updates, epochs = _updates(observation, history), observation.epoch + 1
        start, recent = _start_level(history), median(train[-5:])
        if max(val) - min(val) <= 1e-6 * abs(val[0]):
            what = "has not moved since the first epoch"
        elif epochs < 10 or updates < self.own_start_updates:
            return None
        else:
            import numpy as np

            t_noise, v_noise = noise(np.asarray(train)), noise(np.asarray(val))
            v_recent = median(val[-5:])
            if recent > max(start, train[0]) + 2.0 * t_noise + 0.01 * abs(start) and min(v_recent, min(val[1:])) >= val[0]:
                what = "is above its start"
            elif (
                epochs >= 20
                and recent >= min(start, train[0]) - t_noise
                and min(train) >= min(start, train[0]) - 3.0 * t_noise
                and v_recent >= val[0] - v_noise
                and min(val) >= val[0] - 3.0 * v_noise
            ):
                what = "is where it started"
            else:
                return None
        message = (
            f"After {epochs} epochs the training loss {what} ({start:.4g}, now {recent:.4g}), and the validation loss did not "
            f"improve either ({val[0]:.4g}, now {val[-1]:.4g})."
        )
        return _finding(observation, Severity.WARNING, message, _evidence(recent, start, updates, epochs, val))


def _val_losses(history: History) -> list[float]:
    """The finite validation losses, oldest first."""
    for name in ("val_loss", history.monitor):
        series = history.epochs.get(name)
        if series is not None and name.startswith("val") and "loss" in name:
            return [x for x in series.values.tolist() if math.isfinite(x)]
    return []


def _recent_level(history: History) -> float | None:
    """Median of means of 8 over the last two epochs, at most 256 steps."""
    losses = history.steps.get("loss")
    if losses is None:
        series = train_loss_per_epoch(history)
        values = [] if series is None else [x for x in series.recent(2).tolist() if math.isfinite(x)]
        return values[-1] if values else None
    return _median_of_means(losses, newest=True, n=min(max(2 * (history.facts.steps_per_epoch or 128), 32), 256))


def _start_level(history: History) -> float:
    losses = history.steps.get("loss")
    if losses is not None:
        return _median_of_means(losses, newest=False, n=2 * CHUNK) or 0.0
    series = train_loss_per_epoch(history)
    return float(series.first(1)[0]) if series is not None else 0.0


def _median_of_means(losses: Series, *, newest: bool, n: int) -> float | None:
    import numpy as np

    values = losses.recent(n) if newest else losses.first(n)
    values = values[np.isfinite(values)]
    if values.size < CHUNK:
        return float(values.mean()) if values.size else None
    whole = values[values.size % CHUNK :].reshape(-1, CHUNK)
    return median(whole.mean(axis=1).tolist())


def _updates(observation: Observation, history: History) -> int:
    """Updates so far; where a log has epochs only, what the plan says of them."""
    if observation.optimizer_step > 0:
        return observation.optimizer_step
    losses = history.steps.get("loss")
    steps = len(losses) if losses is not None else (observation.epoch + 1) * (history.facts.steps_per_epoch or 100)
    return steps // max(history.facts.accumulate_batches, 1)


def _accuracy_is_good(history: History) -> bool:
    """Whether a validation accuracy (0 to 1) is clearly better than always naming the most frequent class."""
    counts = history.facts.class_counts
    total = sum(counts.values())
    width = history.facts.model.output_width or 2
    majority = max(counts.values()) / total if total else 1.0 / max(width, 2)
    for name, series in history.epochs.items():
        if name.startswith("val") and "acc" in name.lower():
            best = max((x for x in series.values.tolist() if x <= 1.0), default=0.0)
            if best > majority + 0.1 * (1.0 - majority):
                return True
    return False


def _projected(values: list[float], remaining: int) -> float:
    """Where a series that falls from epoch to epoch ends if it goes on like that; infinity if it does not fall."""
    newest = values[-max(3, len(values) // 2) :]
    if len(newest) < 3 or any(b >= a for a, b in zip(newest, newest[1:], strict=False)):
        return math.inf
    pace = (newest[-1] - newest[0]) / (len(newest) - 1)
    return newest[-1] + pace * max(remaining, 0)


def _evidence(recent: float, start: float, updates: int, epochs: int, val: list[float]) -> dict[str, float]:
    evidence = {"recent_loss": recent, "start_loss": start, "updates": float(updates), "epochs": float(epochs)}
    if val:
        evidence["best_val_loss"] = min(val)
    return evidence


def _finding(observation: Observation, severity: Severity, message: str, evidence: dict[str, float]) -> Finding:
    return Finding(
        LossNoLearning.code, severity, observation.step, observation.epoch, message, Where(tensor="loss"), evidence
    )
