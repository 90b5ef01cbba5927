"""``loss.no_learning``: after enough updates the loss is not better than a trivial one, or than its own start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, OptimizerFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.outcome import accuracy_is_trivial, predictions_are_constant
from failguard.core.statistics import median, median_of_means, noise, projected, train_loss_per_epoch
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, line, noisy
from failguard.detectors.loss_at_chance import chance_of, frozen_steps, nothing_moves
from failguard.detectors.loss_small_gain import halves_apart, is_held_back, learned_a_little, may_be_all

__all__ = ["LossNoLearning"]

FEW_UPDATES = 10  # in a plan that is over; fewer are a trial of the program


def _ten_classes(max_epochs: int | None, schedule: str | None = None) -> Facts:
    return Facts(
        trivial_loss=2.3026, max_epochs=max_epochs, steps_per_epoch=45, optimizer=OptimizerFacts(schedule=schedule)
    )


@dataclass(frozen=True, slots=True)
class LossNoLearning:
    """Nothing has been learned although there were enough updates for it.

    *Compared with the trivial predictor*, where its loss ``T`` is known, which is the case for cross-entropy (the
    entropy of the class frequencies, or ln of the number of classes). All of these hold:

    - enough was tried: ``min_updates`` and ``min_epochs``, and ``min_share`` of the plan; without a plan
      ``open_updates`` and ``open_epochs``, or ``min_updates`` and ``min_epochs`` by the end of the run. Twice as much
      under a schedule that may begin with a warm-up. Or a plan of ``open_epochs`` and 10 updates is over;
    - the recent training loss (median of means of 8) is at least ``0.85 T`` while no validation loss of the newer half
      of the epochs (with restarts or cycles: of any) was below ``0.97 T``; without validation at least ``0.97 T``. It
      may lie a little below ``T`` because a net starts to memorise noise;
    - it is not a penalty that keeps a good loss high: no validation accuracy is better than the most frequent class's
      share by a fifth of what is missing to 1 (but where the loss is below ``1.02 T`` and the weights are held down by
      decay, that is no excuse); and a loss that came down from above ``1.3 T`` lies within 0.97 to
      ``1.06 T`` and has changed by no more than ``0.02 T`` in the newer half of the epochs (or the validation losses of
      that half lie there, whatever dropout makes of the training loss; or, at the end of the run
      and with ``T`` a spread of targets, validation never came below ``1.1 T``: the rate is too low);
    - the validation loss (the training loss where there is none, or where it came down) does not fall steadily at a
      pace that brings it below ``0.9 T`` by the end of the plan (an open-ended run: in as many epochs again); below
      ``0.97 T`` where validation is below ``0.99 T`` already.

    ``warning`` at first, since a plateau at ``T`` may end in learning after all and until then nothing tells it apart;
    ``error`` from ``confirm_share`` of the plan on, at the end of the run, without a plan, and at once where the loss
    is above ``1.05 T``, or below ``0.97 T`` with validation at ``T``: then noise is being memorised. It stays a
    ``warning`` where the loss came down from above ``1.3 T``, which a penalty in it can do as well, and where ``T`` is
    a spread of targets, while it falls by a percent of ``T`` from epoch to epoch, and after fewer than ``min_updates``.

    It is ``info`` where a gain of a few percent over ``T`` is certain and the loss flat: the median of the newer half
    of the validation losses is below ``T`` by three times their noise and three times what the class shares of so many
    samples stray. Weak signal, as of clicks or markets, looks like this. Not so where dropout of 0.7, decay of 1, a
    penalty, weights shrunk by decay or updates below 3e-5 of the weights explain it. It is ``info`` too where ``T`` is
    a spread of targets, training and validation lie within 10 % of it, the predictions vary, nothing of that kind
    explains it and validation has not lost what training gained: a regression that explains 2 % looks like one that
    explains nothing. Where the spread of the validation targets is known, validation losses are compared with it in
    place of ``T``, and it decides: a gain over it (:func:`failguard.detectors.loss_small_gain.gain_in_validation`) is
    ``info``, no gain is none. While the rate still rises from epoch to epoch nothing is said.

    *By what comes out* (``warning``), where ``T`` is not known: the training accuracy is that of always naming the most
    frequent class, or a regression puts out nearly the same for every sample (:mod:`failguard.core.outcome`).

    *At a chance that is not known* (``warning``), with ``open_epochs`` and ``min_updates`` and from ``confirm_share``
    of the plan on, or at the end of the run: from the first epoch on the loss was at ln k of a usual number of classes,
    or at the entropy of an accuracy that does not move (:func:`failguard.detectors.loss_at_chance.chance_of`). Or,
    without validation, nothing has moved at all for 20 epochs, the loss not by 0.1 %; or all losses of at least 50
    steps are the same to 6 digits.

    *Compared with its own start* (``warning``), where ``T`` is not known and there is a validation loss. A run that
    starts from good weights looks the same, so this takes much more:

    - *frozen*: the validation loss has been the same to 6 digits for 5 epochs, from the first one on, and training is
      not below its start by 3 %;
    - *worse*: after 10 epochs and ``own_start_updates``, training is above its start beyond noise, and validation is
      not below. This is said at the end of the run; or after 20 epochs and ``min_share`` of the plan (100 epochs
      without one), unless a fifth of the rise is undone: good weights that are trained further rise in the warm-up and
      need long to come back;
    - *flat*: after 20 epochs and ``min_share`` of the plan, neither is below its start by more than 2 ``sigma``
      (:func:`failguard.core.statistics.noise`) or 2 %. Without a plan at the end of the run, or after 100 epochs:
      contrastive and speech models stay at the start for long.

    Evidence: ``recent_loss``, ``start_loss``, ``updates``, ``epochs``, and where known ``trivial_loss``,
    ``best_val_loss``.

    Attributes:
        min_updates, min_epochs, min_share, confirm_share, open_updates, open_epochs, own_start_updates: See above.

    Source: the comparison with a trivial predictor instead of an absolute target follows Karpathy, "A Recipe for
    Training Neural Networks" (2019), and the initial-loss check of TheDeepChecker (Ben Braiek and Khomh, 2023). The
    bands were set on 60 trainings on shuffled labels, whose validation loss strays to ``0.98 T`` by chance, and on
    slow healthy ones; the attributes fitted by ``python -m benchmarks.detection.curves``.
    """

    min_updates: int = 150
    min_epochs: int = 3
    min_share: float = 0.5
    confirm_share: float = 0.7
    open_updates: int = 500
    open_epochs: int = 5
    own_start_updates: int = 1000

    code: ClassVar[str] = "loss.no_learning"
    events: ClassVar[frozenset[Event]] = frozenset({Event.STEP, Event.EPOCH_END, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "labels shuffled, a net that starts to memorise",
            steps={"loss": noisy(line(450, 2.33, 2.1), 0.03)},
            epochs={"val_loss": [2.31, 2.29, 2.29, 2.32, 2.31, 2.35, 2.36, 2.4, 2.45, 2.5]},
            facts=_ten_classes(10),
        ),
        Example(
            "rate far too low for the plan",
            steps={"loss": noisy(line(450, 2.32, 2.28), 0.02)},
            epochs={"val_loss": line(10, 2.31, 2.28)},
            facts=_ten_classes(10),
        ),
        Example(
            "rate too high: bounces above chance",
            steps={"loss": noisy([2.3] + [3.0] * 449, 0.2)},
            epochs={"val_loss": noisy([2.8] * 10, 0.05)},
            facts=_ten_classes(10),
        ),
        Example(
            "without validation",
            steps={"loss": noisy([2.303] * 1000, 0.03)},
            epochs={"epoch_s": [1.0] * 10},
            facts=_ten_classes(20),
        ),
        Example("one long epoch", steps={"loss": noisy([2.303] * 2500, 0.03)}, facts=_ten_classes(None)),
        Example(
            "a log with one value an epoch",
            epochs={"train_loss": [2.31, 2.3, 2.3, 2.31, 2.3, 2.3], "val_loss": [2.31, 2.3, 2.31, 2.3, 2.3, 2.31]},
            facts=_ten_classes(6),
        ),
        Example(
            "nothing moves, chance not known", epochs={"train_loss": noisy([4.0] * 6, 0.001), "val_loss": [4.1] * 6}
        ),
        Example(
            "ten updates were all",
            steps={"loss": line(10, 2.36, 2.29)},
            epochs={"val_loss": line(10, 2.35, 2.28)},
            facts=Facts(trivial_loss=2.3026, max_epochs=10, steps_per_epoch=1),
        ),
        Example(
            "a penalty falls, the accuracy stays",
            steps={"loss": decay(900, 20.0, 2.4)},
            epochs={"accuracy": noisy([0.11] * 20, 0.02), "val_loss": decay(20, 19.0, 2.4)},
            facts=Facts(target_kind="classes", class_counts=dict.fromkeys(range(10), 150), max_epochs=20),
        ),
        Example(
            "worse than its own start",
            steps={"loss": noisy([1.0] * 16 + [1.3] * 1184, 0.1)},
            epochs={"val_loss": noisy([1.0] + [1.3] * 11, 0.01)},
        ),
        Example(
            "a log of two classes that says nothing of classes",
            epochs={"train_loss": noisy([0.71, *[0.6932] * 9], 5e-4), "val_loss": [0.694, 0.8, 3.1, 1.2, 2.5] * 2},
        ),
        Example(
            "the more frequent class, by a log",
            epochs={"loss": noisy([0.6757] * 8, 1e-4), "accuracy": noisy([0.5935] * 8, 2e-4)},
        ),
        Example("every step has the same loss", steps={"loss": [16.7403] * 74}),
        Example("a log without validation in which nothing moves", epochs={"loss": noisy([1.0831] * 30, 2e-5)}),
        Example(
            "flat for very long",
            steps={"loss": noisy([1.0] * 1200, 0.1)},
            epochs={"val_loss": noisy([1.0] * 24, 0.01)},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "learning slowly but steadily",
            steps={"loss": noisy(line(450, 2.31, 2.0), 0.03)},
            epochs={"val_loss": line(10, 2.3, 2.0)},
            facts=_ten_classes(10),
        ),
        Example(
            "a language of high entropy: steady, and little to learn",
            steps={"loss": noisy(line(380, 3.0, 2.75), 0.01)},
            epochs={"val_loss": [2.985 - 0.01 * i for i in range(20)]},
            facts=Facts(trivial_loss=2.985, max_epochs=20, steps_per_epoch=19),
        ),
        Example(
            "very slow, but the plan is long",
            steps={"loss": noisy(line(2250, 2.32, 2.1), 0.01)},
            epochs={"val_loss": line(50, 2.31, 2.1)},
            facts=_ten_classes(150),
        ),
        Example(
            "a plateau before learning starts",
            steps={"loss": noisy([2.303] * 200 + decay(700, 2.3, 0.2), 0.03)},
            epochs={"val_loss": [2.3] * 4 + decay(16, 2.2, 0.2)},
            facts=_ten_classes(20),
        ),
        Example(
            "a warm-up of ten epochs",
            steps={"loss": noisy([2.303] * 450 + decay(450, 2.3, 0.2), 0.03)},
            epochs={"val_loss": [2.3] * 10 + decay(10, 2.1, 0.2)},
            facts=_ten_classes(20, schedule="LinearWarmup"),
        ),
        Example(
            "memorises shuffled labels: overfitting, not this",
            steps={"loss": noisy(line(1350, 2.0, 0.1), 0.1)},
            epochs={"val_loss": line(30, 2.4, 9.0)},
            facts=_ten_classes(30),
        ),
        Example(
            "fine-tuning from good weights",
            steps={"loss": noisy([0.05] * 900, 0.3)},
            epochs={"val_loss": noisy([0.06] * 20, 0.02)},
            facts=_ten_classes(20),
        ),
        Example(
            "fine-tuning, chance not known",
            steps={"loss": noisy([0.05] * 900, 0.3)},
            epochs={"val_loss": noisy([0.06] * 15, 0.02)},
        ),
        Example(
            "a penalty keeps a good loss high",
            steps={"loss": noisy(decay(900, 7.0, 2.9), 0.02)},
            epochs={"val_loss": decay(20, 6.0, 2.9), "val_accuracy": line(20, 0.3, 0.95)},
            facts=_ten_classes(20),
        ),
        Example(
            "contrastive: at the logarithm of the batch size for sixty epochs, then learning; chance not known",
            epochs={
                "train_loss": noisy([6.24] * 60 + decay(60, 6.2, 3.0), 0.004),
                "val_loss": noisy([6.3] * 60 + decay(60, 6.3, 3.2), 0.006, 1),
            },
        ),
        Example(
            "the rate still rises",
            steps={"loss": noisy(line(450, 2.32, 2.25), 0.02)},
            epochs={"val_loss": line(10, 2.32, 2.27), "learning_rate": line(10, 1e-5, 1e-3)},
            facts=_ten_classes(None),
        ),
        Example(
            "a trial of the program",
            steps={"loss": [2.3] * 3},
            epochs={"val_loss": [2.3]},
            facts=Facts(trivial_loss=2.3026, max_epochs=1, steps_per_epoch=3),
        ),
        Example(
            "good weights trained further: a warm-up throws them back",
            epochs={
                "train_loss": [*line(6, 0.048, 0.067), *decay(24, 0.067, 0.03, 12)],
                "val_loss": [*line(6, 0.042, 0.064), *decay(24, 0.064, 0.03, 12)],
            },
        ),
        Example("solved: every step has a loss of zero", steps={"loss": [0.0] * 80}),
        Example(
            "settled at ln 2, from far above",
            epochs={"train_loss": decay(20, 2.0, 0.6931, 30), "val_loss": decay(20, 1.9, 0.72, 30)},
        ),
        Example(
            "three hundredths below chance, and falling",
            epochs={"train_loss": line(10, 0.694, 0.67), "val_loss": line(10, 0.693, 0.672)},
        ),
        Example("the first hundred steps", steps={"loss": noisy([2.303] * 100, 0.03)}, facts=_ten_classes(10)),
        Example("reinforcement learning: flat, no validation", epochs={"loss": noisy([0.5] * 60, 0.3)}),
        Example("nothing measured", facts=_ten_classes(10)),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the recent loss with the trivial predictor's, or with the start."""
        at_step = observation.event is Event.STEP
        if at_step and (observation.epoch > 0 or len(history.steps.get("loss", ())) < 2000):
            return None  # left to the end of the epoch; only a run of one long epoch is looked at in between
        trivial = history.facts.trivial_loss
        if trivial is not None and trivial > 0.0:
            return self._against_trivial(observation, history, trivial)
        if at_step:
            return None
        return (
            self._at_chance(observation, history)
            or self._against_start(observation, history)
            or self._against_outputs(observation, history)
        )

    def _against_trivial(self, observation: Observation, history: History, trivial: float) -> Finding | None:
        facts = history.facts
        val = _val_losses(history)
        recent = _recent_level(history)
        if recent is None or recent < (0.85 if val else 0.97) * trivial:
            return None
        is_spread = facts.trivial_loss_source == "target_spread"
        val_trivial = (facts.validation_trivial_loss if is_spread else None) or trivial
        # What was learned and lost again a while ago excuses nothing, unless the schedule swings by design.
        if val and min(val[0 if facts.optimizer.swings else len(val) // 2 :]) < 0.97 * val_trivial:
            return None
        start = _start_level(history)
        fell = start > 1.3 * trivial and recent < 0.95 * start  # part of the loss was shed, so it may be all penalty
        # A penalty keeps a good loss high, above T; what holds the weights down keeps it at T.
        if _accuracy_is_good(history) and not (recent <= 1.02 * trivial and is_held_back(history)):
            return None
        series = train_loss_per_epoch(history)
        train = [] if series is None else [x for x in series.values.tolist() if math.isfinite(x)]
        stays = 0.97 * trivial <= recent <= 1.06 * trivial and halves_apart(train[len(train) // 2 :]) <= 0.02 * trivial
        too_slow = observation.event is Event.RUN_END and is_spread and bool(val) and min(val) > 1.1 * val_trivial
        newer = val[len(val) // 2 :]
        stays = stays or (len(newer) >= 3 and 0.97 * val_trivial <= min(newer) and max(newer) <= 1.06 * val_trivial)
        if fell and not stays and not too_slow:
            return None
        updates, epochs = _updates(observation, history), observation.epoch + 1
        if observation.event is Event.RUN_END and facts.planned_steps is None:
            if updates < self.min_updates or epochs < self.min_epochs:
                return None
        elif not (
            self._enough(facts, updates, epochs, one_long_epoch=observation.event is Event.STEP)
            or self._is_over(observation, facts, updates, epochs)
        ):
            return None
        remaining = (facts.max_epochs or 2 * epochs) - epochs
        goal = (0.97 if val and min(val) < 0.99 * val_trivial else 0.9) * val_trivial  # below T and falling is learning
        if _rate_rises(history):
            return None  # still warming up, whatever the schedule is called
        if not too_slow and (
            projected(val or train, remaining) < goal or (fell and projected(train, remaining) < 0.9 * trivial)
        ):
            return None
        guess = {
            "output_width": "guessing",
            "target_spread": "always predicting the same",
        }.get(facts.trivial_loss_source or "", "always predicting the class frequencies")
        message = f"After {updates} updates the training loss is {recent:.4g}"
        message += f" and the best validation loss was {min(val):.4g}" if val else ""
        if val and is_spread and facts.validation_trivial_loss:
            message += f" ({facts.validation_trivial_loss:.4g} for the mean of its targets)"
        best = min([recent / trivial, *(x / val_trivial for x in val)])
        compared = "hardly better than" if best < 1.0 else "no better than" if best < 1.05 else "worse than"
        message += f", {compared} the {trivial:.4g} of {guess}."
        evidence = _evidence(recent, start, updates, epochs, val) | {"trivial_loss": trivial}
        # A spread of targets is no floor as firm as an entropy: little can be learned of noisy targets, and it moves
        # with every outlier.
        newest = (val or train)[-2:]
        is_falling = len(newest) > 1 and newest[0] - newest[1] > 0.01 * trivial
        # Without validation a gain of a percent may be learned or memorised.
        unsure = fell or is_spread or is_falling or updates < self.min_updates
        unsure = unsure or (not val and recent < 0.99 * trivial)
        if not is_spread and updates >= self.min_updates and learned_a_little(history, trivial, val, train):
            message += " It is more than chance, and may be all that there is to learn."
            return _finding(observation, Severity.INFO, message, evidence)
        if is_spread and updates >= self.min_updates and may_be_all(history, trivial, recent, val):
            message += " The predictions vary and nothing holds the model back: that may be all that there is to learn."
            return _finding(observation, Severity.INFO, message, evidence)
        if 0.97 * trivial <= recent <= 1.05 * trivial and observation.event is not Event.RUN_END:
            unsure = unsure or not self._is_late(facts, updates, epochs)
        return _finding(observation, Severity.WARNING if unsure else Severity.ERROR, message, evidence)

    def _enough(self, facts: Facts, updates: int, epochs: int, *, one_long_epoch: bool) -> bool:
        slow = 2 if facts.optimizer.may_start_slowly else 1
        if one_long_epoch:
            planned = (facts.planned_steps or 0) // max(facts.accumulate_batches, 1)
            return updates >= slow * max(4 * self.open_updates, int(self.min_share * planned))
        if facts.max_epochs is not None and facts.max_epochs > 0:
            enough_epochs = max(self.min_epochs, min(slow * self.min_share, 0.75) * facts.max_epochs)
            return epochs >= enough_epochs and updates >= slow * self.min_updates
        return epochs >= slow * self.open_epochs and updates >= slow * self.open_updates

    def _is_late(self, facts: Facts, updates: int, epochs: int) -> bool:
        """Whether too little of the plan is left for a plateau to end in learning; true without a plan."""
        if facts.max_epochs is not None and facts.max_epochs > 1:
            return epochs >= self.confirm_share * facts.max_epochs
        planned = facts.planned_steps
        return planned is None or updates * max(facts.accumulate_batches, 1) >= self.confirm_share * planned

    def _is_time(self, observation: Observation, facts: Facts, epochs: int) -> bool:
        """Whether a run that is where it started has been going on for long enough to say so."""
        if epochs < 20:
            return False
        if facts.max_epochs is not None and facts.max_epochs > 0:
            return epochs >= self.min_share * facts.max_epochs
        return epochs >= 100 or observation.event is Event.RUN_END

    def _at_chance(self, observation: Observation, history: History) -> Finding | None:
        """Where chance is not known: a loss that stays at what guessing costs."""
        series = train_loss_per_epoch(history)
        updates, epochs = _updates(observation, history), observation.epoch + 1
        planned = history.facts.max_epochs
        if observation.event is Event.RUN_END and (level := frozen_steps(history)) is not None:
            steps = len(history.steps["loss"])
            message = (
                f"All {steps} training losses are {level:.6g}: the model does not change, or the loss is not its own."
            )
            return _finding(observation, Severity.WARNING, message, _evidence(level, level, steps, epochs, []))
        is_late = planned is not None and epochs >= max(self.confirm_share * planned, self.open_epochs)
        if series is None or updates < self.min_updates or not (is_late or observation.event is Event.RUN_END):
            return None
        train, val = [x for x in series.values.tolist() if math.isfinite(x)], _val_losses(history)
        if len(train) < self.open_epochs:
            return None
        recent = median(train[-self.open_epochs :])
        evidence = _evidence(recent, train[0], updates, epochs, val)
        if (found := chance_of(history, train, val)) is not None:
            loss, what = found
            evidence["trivial_loss"] = loss
            message = f"After {epochs} epochs the training loss is {recent:.4g}; {what} has a loss of {loss:.4g}."
        elif nothing_moves(history, train):
            message = (
                f"After {epochs} epochs the training loss is {recent:.6g}, within 0.1 % of its start ({train[0]:.6g})."
            )
        else:
            return None
        return _finding(observation, Severity.WARNING, message, evidence)

    def _against_outputs(self, observation: Observation, history: History) -> Finding | None:
        """Where the loss has no baseline: by accuracy, or by the spread of predictions."""
        updates, epochs = _updates(observation, history), observation.epoch + 1
        if not self._enough(history.facts, updates, epochs, one_long_epoch=False):
            return None
        if accuracy_is_trivial(history):
            what = "the training accuracy is no better than that of always naming the most frequent class"
        elif predictions_are_constant(history):
            what = "the model puts out nearly the same for every sample"
        else:
            return None
        recent = _recent_level(history) or 0.0
        evidence = _evidence(recent, _start_level(history), updates, epochs, _val_losses(history))
        return _finding(observation, Severity.WARNING, f"After {updates} updates {what}.", evidence)

    def _is_over(self, observation: Observation, facts: Facts, updates: int, epochs: int) -> bool:
        """Whether a plan of several epochs is fulfilled, however few updates that were."""
        if observation.event is not Event.RUN_END or facts.planned_steps is None:
            return False
        planned = facts.planned_steps // max(facts.accumulate_batches, 1)
        return epochs >= self.open_epochs and updates >= max(planned, FEW_UPDATES)

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
        stands_still = val[0] != 0.0 and max(val) - min(val) <= 1e-6 * abs(val[0])
        if stands_still and recent >= start - 0.03 * abs(start):
            what = "has not moved since the first epoch"
        elif epochs < 10 or updates < self.own_start_updates:
            return None
        else:
            import numpy as np

            t_noise, v_noise = noise(np.asarray(train)), noise(np.asarray(val))
            v_recent = median(val[-5:])
            if (
                recent > max(start, train[0]) + 2.0 * t_noise + 0.01 * abs(start)
                and min(v_recent, min(val[1:])) >= val[0]
                and (
                    observation.event is Event.RUN_END
                    or (self._is_time(observation, history.facts, epochs) and not _comes_back(train, train[0]))
                )
            ):
                what = "is above its start"
            elif (
                self._is_time(observation, history.facts, epochs)
                and _stayed(train, min(start, train[0]), recent, t_noise)
                and _stayed(val, val[0], v_recent, v_noise)
            ):
                what = "is where it started"
            else:
                return None
        message = (
            f"After {epochs} epochs the training loss {what} ({start:.4g}, now {recent:.4g}), and the validation loss "
            f"did not improve either ({val[0]:.4g}, now {val[-1]:.4g})."
        )
        return _finding(observation, Severity.WARNING, message, _evidence(recent, start, updates, epochs, val))


def _rate_rises(history: History) -> bool:
    rates = history.learning_rates
    newest = [] if rates is None else rates.recent(2).tolist()
    return len(newest) > 1 and newest[1] > 1.001 * newest[0]


def _comes_back(train: list[float], start: float) -> bool:
    """Whether a fifth of a rise is undone, as good weights do after the warm-up of a further training."""
    peak = max(median(train[i : i + 3]) for i in range(len(train) - 2))
    return peak - median(train[-5:]) > 0.2 * (peak - start)


def _stayed(values: list[float], start: float, recent: float, sigma: float) -> bool:
    """Whether a series is, and was at all times, no lower than its start, beyond noise."""
    return recent >= start - 2.0 * min(sigma, 0.01 * abs(start)) and min(values) >= start - 4.0 * min(
        sigma, 0.03 * abs(start)
    )


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
    if losses is None or not len(losses):
        series = train_loss_per_epoch(history)
        values = [] if series is None else [x for x in series.recent(2).tolist() if math.isfinite(x)]
        return values[-1] if values else None
    return median_of_means(losses.recent(min(max(2 * (history.facts.steps_per_epoch or 128), 32), 256)))


def _start_level(history: History) -> float:
    losses = history.steps.get("loss")
    if losses is not None and len(losses):
        early = losses.first(16)
        level = median_of_means(early) or 0.0
        # A blow-up may begin at the second step; the first loss is from before it.
        return min(level, float(early[0])) if math.isfinite(early[0]) else level
    series = train_loss_per_epoch(history)
    values = [] if series is None else series.first(16).tolist()
    return next((x for x in values if math.isfinite(x)), 0.0)


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
            if best > majority + 0.2 * (1.0 - majority):
                return True
    return False


def _evidence(recent: float, start: float, updates: int, epochs: int, val: list[float]) -> dict[str, float]:
    evidence = {"recent_loss": recent, "start_loss": start, "updates": float(updates), "epochs": float(epochs)}
    if val:
        evidence["best_val_loss"] = min(val)
    return evidence


def _finding(observation: Observation, severity: Severity, message: str, evidence: dict[str, float]) -> Finding:
    return Finding(
        LossNoLearning.code, severity, observation.step, observation.epoch, message, Where(tensor="loss"), evidence
    )
