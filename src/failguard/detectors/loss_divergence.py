"""``loss.divergence``: the loss keeps rising, or stays far above where it started or its best."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History, Series
from failguard.core.observation import Observation
from failguard.core.statistics import bounded, median, train_loss_per_epoch
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, line, noisy, swing
from failguard.detectors.loss_unbounded import falls_without_bound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LossDivergence"]

CHUNK = 8  # steps whose median is one level
WINDOW = 32  # steps that must agree before divergence is confirmed
RISE_STEPS = 512  # a slower rise is a drift, as of a value loss in reinforcement learning
RISE_EPOCHS = 16  # the same where only epochs are known
PATIENT_EPOCHS = 10  # that must agree where nothing but an accuracy says that the loss should fall


@dataclass(frozen=True, slots=True)
class _Scale:
    """What "far above" means in this run.

    Attributes:
        start: The level to be above: the first losses, or the trivial predictor's loss if that is higher.
        best: The lowest level so far.
        unit: ``max(|start|, start - best)``, above 0.
        factor: How many units above the start is divergence; ``None`` where nothing can be said.
        blow_up: How many units above the start are a blow-up even if only for three steps.
    """

    start: float
    best: float
    unit: float
    factor: float | None
    blow_up: float


def _skewed() -> list[float]:
    """Three losses that grow, each far above the start, again and again, as chance gives them where tails are long."""
    return [x for i in range(40) for x in (0.02, 0.3, 0.05, 1.6 + i % 3, 3.9, 7.0 + i % 5, 0.01, 0.1, 0.4, 0.02)]


@dataclass(frozen=True, slots=True)
class LossDivergence:
    """The training loss has risen far above its start and does not come back.

    Levels are medians. ``start`` is the level of the first losses, or the loss of the trivial predictor where that is
    known and higher; ``unit = max(|start|, start - best level)``, so that any scale and sign of losses will do.

    *Suspected* (``warning``): 15 of the last 16 losses are above ``start + factor * unit``; or three losses in a row
    grew, each above ``start + 100 * unit`` and the last two above all others of the last 512 steps.

    *Confirmed* (``error``), and then the cause of a stop under the standard policy: 29 of the last 32 losses are above
    that line and the level does not fall by 30 % from the first half of them to the second; or a blow-up: three losses
    in a row more than 10,000 units above the start (1,000 where the trivial predictor's loss is known), after which
    none of the trainings below came to anything; or one of them and then a loss or gradient that is not finite.

    How much is far depends on what is known, because a rising loss means little by itself in reinforcement learning, in
    adversarial training and for likelihoods (negative losses):

    - ``known_factor`` where the trivial predictor's loss is known (cross-entropy);
    - ``learned_factor`` where the loss had halved before and rose within 512 steps;
    - ``blind_factor`` in the first 256 steps otherwise, and wherever losses are negative.

    A loss that falls below zero *without bound* is a ``warning``: in training and validation, by more from each epoch
    to the next, to 100 times its first value. It has the wrong sign, or a likelihood whose variance goes to zero.

    A *collapse* is a ``warning`` too: cross-entropy that had halved is back at the trivial predictor's and stays for
    256 steps.

    Where no loss per step is known, the training loss of each epoch is judged alike, with two epochs for 8 steps and
    three for 32. The factor is ``epoch_factor`` where the trivial predictor's loss is known, or the loss had fallen by
    a fifth and the validation loss has risen by as many of its own units, since an epoch's mean hardly varies; four
    times as much without validation, where the loss had halved within 16 epochs; ``blind_factor`` where validation
    rose but nothing had been learned, or the loss is negative; 1,000 otherwise.

    Evidence: ``start_loss``, ``best_loss``, ``recent_loss``, ``growth_ratio`` (recent over start, where both are above
    0), ``units_above_start``.

    Attributes:
        known_factor, learned_factor, blind_factor, epoch_factor: See above, in units.

    Source: the factors were set on 84 trainings of a small classifier at rates from high to absurd and fitted by
    ``python -m benchmarks.detection.curves`` on synthetic curves of many kinds; the transient that must not trip is the
    catapult of Lewkowycz et al. (2020), which ends within tens
    of steps.
    """

    known_factor: float = 3.0
    learned_factor: float = 10.0
    blind_factor: float = 30.0
    epoch_factor: float = 2.0

    code: ClassVar[str] = "loss.divergence"
    events: ClassVar[frozenset[Event]] = frozenset({Event.STEP, Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "rate far too high, cross-entropy",
            steps={"loss": [2.3, 360.0, 5e5, 28.0, *noisy([45.0] * 60, 0.3)]},
            facts=Facts(trivial_loss=2.303),
        ),
        Example(
            "a blow-up that ends in NaN",
            steps={"loss": [2.3, 850.0, 7e8, 2e6, 2e8, 2e23, math.nan]},
            facts=Facts(trivial_loss=2.303),
        ),
        Example("one absurd batch, and then no number", steps={"loss": [*noisy([0.5] * 140, 0.1), 6e11, math.inf]}),
        Example("linear regression, rate above 2 / curvature", steps={"loss": [1.7**i for i in range(60)]}),
        Example(
            "after some learning",
            steps={"loss": noisy(decay(300, 1.0, 0.1), 0.2) + noisy([0.1 * 1.2**i for i in range(80)], 0.2)},
        ),
        Example(
            "a level that stays",
            steps={"loss": noisy(decay(200, 1.0, 0.1), 0.2) + noisy([30.0] * 64, 0.3)},
        ),
        Example("a likelihood", steps={"loss": decay(200, -10.0, -100.0) + [4.0**i for i in range(40)]}),
        Example("tiny losses", steps={"loss": [1e-9 * 1.7**i for i in range(60)]}),
        Example(
            "back at chance",
            steps={"loss": noisy(decay(400, 2.3, 0.2), 0.1) + noisy([2.31] * 400, 0.02)},
            epochs={"val_loss": [1.0, 0.5, 2.3, 2.3]},
            facts=Facts(trivial_loss=2.303),
        ),
        Example("a log with one value an epoch", epochs={"train_loss": [0.9, 0.5, 0.3, 0.8, 2.5, 9.0, 40.0]}),
        Example(
            "a loss with the wrong sign",
            steps={"loss": [-(1.05**i) for i in range(200)]},
            epochs={"val_loss": [-(1.05 ** (20 * i)) for i in range(10)]},
        ),
        Example(
            "a classifier that never came down, by a log without validation",
            epochs={"loss": noisy([10.0, 60.0, *[150.0] * 30], 0.4), "epoch_accuracy": noisy([0.36] * 32, 0.05)},
        ),
        Example("a log that grows at once", epochs={"loss": [2.3, 50.0, 1e4, 1e6, 1e7, 1e7]}),
        Example(
            "a log in which validation rises too",
            epochs={"train_loss": [2.3, 1.5, 0.9, 6.0, 9.0, 12.0], "val_loss": [2.0, 1.6, 1.2, 8.0, 11.0, 14.0]},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("learning", steps={"loss": noisy(decay(300, 2.3, 0.1), 0.3)}, facts=Facts(trivial_loss=2.303)),
        Example(
            "catapult: up for ten steps, then learning",
            steps={"loss": [2.3, 32.0, 52.0, 40.0, 30.0, 23.0, 15.0, 8.0, 4.6, *noisy(decay(200, 2.5, 0.2), 0.2)]},
            facts=Facts(trivial_loss=2.303),
        ),
        Example(
            "warm restarts",
            steps={"loss": noisy([0.1 + 0.9 * 0.5 ** ((i % 100) / 10) for i in range(400)], 0.2)},
        ),
        Example("single spikes", steps={"loss": [80.0 if i % 37 == 36 else 0.5 for i in range(300)]}),
        Example("a level between start and best", steps={"loss": decay(200, 2.3, 0.1) + noisy([1.0] * 100, 0.1)}),
        Example("adversarial: swings and drifts", steps={"loss": noisy(swing(400, 2.0, 1.5, 60), 0.3)}),
        Example(
            "reinforcement learning: grows with the returns",
            steps={"loss": noisy([0.05 * 50 ** (i / 600) for i in range(600)], 0.5)},
        ),
        Example("around zero", steps={"loss": noisy([0.01 if i % 2 else -0.01 for i in range(300)], 0.8)}),
        Example("a likelihood that falls", steps={"loss": line(300, 100.0, -2000.0)}),
        Example("unscaled inputs: high, then down", steps={"loss": [8.0, 90.0, 60.0, *decay(200, 40.0, 1.0)]}),
        Example("one loss", steps={"loss": [1e9]}),
        Example("zero", steps={"loss": [0.0] * 100}),
        Example("a log that ends higher than its best", epochs={"train_loss": [1.0, 0.4, 0.2, 0.3, 0.5, 0.4, 0.6]}),
        Example(
            "errors of values that grow, a log of epochs",
            epochs={"loss": noisy([0.01 + 0.3 * (1 - 0.9**i) for i in range(80)], 0.3)},
        ),
        Example("batches of one: losses over five orders of magnitude", steps={"loss": [0.01, 0.02, 1e-3, *_skewed()]}),
        Example(
            "a likelihood that falls fast and then slowly",
            epochs={"train_loss": decay(60, 5.0, -1500.0), "val_loss": decay(60, 5.0, -1400.0)},
        ),
        Example(
            "an actor's loss falls as its rewards grow", epochs={"train_loss": [-0.01 * 1.5**i for i in range(30)]}
        ),
        Example("a log with one bad epoch", epochs={"train_loss": [1.0, 0.4, 30.0, 0.3, 0.2]}),
        Example(
            "a policy's loss grows with its returns",
            epochs={"loss": [0.3 * 1.15**i for i in range(40)], "avg_return": line(40, 4.0, 800.0)},
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the recent losses with the first ones."""
        losses = history.steps.get("loss")
        trivial = history.facts.trivial_loss
        if observation.event is Event.EPOCH_END and (ends := falls_without_bound(history)) is not None:
            return _unbounded(observation, *ends)
        if losses is not None:
            return self._check_steps(observation, losses, history.steps.get("gradient_norm"), trivial)
        per_epoch = train_loss_per_epoch(history)
        if observation.event is Event.EPOCH_END and per_epoch is not None:
            return self._check_epochs(observation, per_epoch, history, trivial)
        return None

    def _check_steps(
        self, observation: Observation, losses: Series, norms: Series | None, trivial: float | None
    ) -> Finding | None:
        recent = [x for x in losses.recent(WINDOW).tolist() if math.isfinite(x)]
        early = [x for x in losses.first(3).tolist() if math.isfinite(x)]
        if len(recent) < 4 or not early:
            return None
        start = _start(early, trivial)
        # Nearly every check of a healthy run ends here.
        now = median(recent[-CHUNK:])
        least = min(self.known_factor, self.learned_factor, self.blind_factor, 10.0)
        if now <= start + least * abs(start) and max(recent) <= start + 1000.0 * abs(start):
            return self._collapse(observation, losses, start, now, trivial)
        scale = self._scale(losses, start, trivial)
        if scale is None:
            return None
        blown_up = scale.start + scale.blow_up * scale.unit
        if _longest_run(recent, above=blown_up) >= 3 or (recent[-1] > blown_up and _ends_badly(losses, norms)):
            return _finding(observation, Severity.ERROR, scale, max(recent), "blew up")
        if scale.factor is None:
            return None
        line = scale.start + scale.factor * scale.unit
        if sum(x > line for x in recent) >= WINDOW - 3:
            half = len(recent) // 2
            before, after = median(recent[:half]) - scale.start, median(recent[half:]) - scale.start
            if after >= 0.7 * before:
                return _finding(observation, Severity.ERROR, scale, median(recent), f"stayed there for {WINDOW} steps")
        last = recent[-3:]
        growing = last[0] < last[1] < last[2] and last[0] > scale.start + 100.0 * scale.unit
        if (growing and _sets_records(losses.recent(RISE_STEPS))) or sum(x > line for x in recent[-16:]) >= 15:
            return _finding(observation, Severity.WARNING, scale, now, "may come back")
        return None

    def _scale(self, losses: Series, start: float, trivial: float | None) -> _Scale | None:
        recent, early = _levels(losses.recent(RISE_STEPS)), _levels(losses.first(256))
        best = min([start, *recent, *early])
        unit = max(abs(start), start - best)
        if best < 0.0:  # the sign says nothing, so neither does the distance from zero
            swing = [x for x in losses.first(16).tolist() if math.isfinite(x)]
            unit = max(unit, max(swing) - min(swing))
        if not unit > 0.0 or not math.isfinite(unit):
            return None
        factor: float | None
        if best < 0.0:
            factor = self.blind_factor
        elif trivial is not None:
            factor = self.known_factor
        elif _low(early, recent) < 0.5 * start and min(recent, default=math.inf) <= start + unit:
            factor = self.learned_factor
        else:
            factor = self.blind_factor if len(losses) <= 256 else None
        return _Scale(start, best, unit, factor, 1e3 if trivial is not None and best >= 0.0 else 1e4)

    def _collapse(
        self, observation: Observation, losses: Series, start: float, now: float, trivial: float | None
    ) -> Finding | None:
        if observation.event is Event.STEP or trivial is None or now < 0.9 * trivial or len(losses) < 512:
            return None
        recent = losses.recent(256)
        if float((recent < 0.85 * trivial).mean()) > 0.05:
            return None
        best = min(
            (*_levels(losses.values), *(b.mean for b in losses.blocks() if b.count >= CHUNK and b.finite)),
            default=math.inf,
        )
        if not 0.0 <= best < 0.5 * trivial:
            return None
        scale = _Scale(start, best, start - best, None, math.inf)
        return _finding(
            observation, Severity.WARNING, scale, now, "is back at a trivial predictor's after it had halved"
        )

    def _check_epochs(
        self, observation: Observation, series: Series, history: History, trivial: float | None
    ) -> Finding | None:
        values = [x for x in series.values.tolist() if math.isfinite(x)]
        if len(values) < 3:
            return None
        start, best = _start(values[:1], trivial), min(values)
        unit = max(abs(start), start - best)
        if not unit > 0.0 or not math.isfinite(unit):
            return None
        val = history.epochs.get("val_loss")
        factor, span = self._epoch_factor(values, start, trivial, val), 3
        if factor > 4.0 * self.epoch_factor and val is None and best >= 0.0 and _has_accuracy(history):
            factor, span = 4.0 * self.epoch_factor, PATIENT_EPOCHS
        scale = _Scale(start, best, unit, factor, math.inf)
        line = start + factor * unit
        if min(values[-2:]) <= line:
            return None
        recent = values[-span:]
        confirmed = len(recent) == span and min(recent) > line and values[-1] - start >= 0.7 * (recent[0] - start)
        now = median(recent) if confirmed else values[-1]
        if confirmed:
            return _finding(observation, Severity.ERROR, scale, now, f"stayed there for {span} epochs")
        return _finding(observation, Severity.WARNING, scale, now, "may come back")

    def _epoch_factor(self, values: list[float], start: float, trivial: float | None, val: Series | None) -> float:
        """How many units above the start are divergence in a log of epochs: value and adversarial losses rise, too."""
        if min(values) < 0.0:
            return self.blind_factor
        if trivial is not None:
            return self.epoch_factor
        lows = [0.5 * a + 0.5 * b for a, b in pairwise(values)]  # of two epochs each
        if val is None:
            return 4.0 * self.epoch_factor if min(lows[-RISE_EPOCHS:]) < 0.5 * start else 1000.0
        factor = self.epoch_factor if min(lows) < 0.8 * start else self.blind_factor
        first = next((x for x in val.first(8).tolist() if math.isfinite(x)), 0.0)
        risen = [x for x in val.recent(2).tolist() if not x <= first + factor * abs(first)]
        return factor if len(risen) == 2 else 1000.0


def _has_accuracy(history: History) -> bool:
    """Whether an accuracy is logged: then the loss is of a classifier, not a value or adversarial loss."""
    return any(re.search(r"(^|[^a-z])acc(uracy)?($|[^a-z])", name.lower()) for name in history.epochs)


def _start(early: list[float], trivial: float | None) -> float:
    """Level at the start: the median of three. A blow-up can begin at the second step, a first loss can be low by luck.

    Where the trivial loss is a floor, the first loss may be taken at its word.
    """
    level = median(early)
    return level if trivial is None else max(min(early[0], level), trivial)


def _sets_records(values: Floats) -> bool:
    """Whether each of the two newest values is above all before them."""
    import numpy as np

    before = values[:-2][np.isfinite(values[:-2])]
    return before.size == 0 or float(values[-2:].min()) > float(before.max())


def _levels(values: Floats) -> list[float]:
    """Medians of eight losses each, oldest first."""
    import numpy as np

    values = values[np.isfinite(values)]
    whole = values[values.size % CHUNK :].reshape(-1, CHUNK).copy()
    whole.sort(axis=1)  # far cheaper than np.median on so few columns
    levels: list[float] = (0.5 * whole[:, CHUNK // 2 - 1] + 0.5 * whole[:, CHUNK // 2]).tolist()
    return levels


def _low(*parts: list[float]) -> float:
    """The lowest level that held for 32 steps."""
    lows = (max(part[i : i + 4]) for part in parts for i in range(len(part) - 3))
    return min(lows, default=math.inf)


def _ends_badly(losses: Series, norms: Series | None) -> bool:
    """Whether the newest loss, or the gradient of its step, is not finite."""
    loss, norm = losses.last, norms.last if norms is not None else None
    if loss is None or not math.isfinite(loss):
        return True
    if norms is None or norm is None or math.isfinite(norm):
        return False
    return int(norms.steps[-1]) >= int(losses.steps[-1])  # one of long ago was the loss scale's


def _longest_run(values: list[float], *, above: float) -> int:
    longest = run = 0
    for x in values:
        run = run + 1 if x > above else 0
        longest = max(longest, run)
    return longest


def _unbounded(observation: Observation, start: float, now: float) -> Finding:
    message = (
        f"The training loss falls below zero ever faster, from {start:.4g} to {now:.4g}, and so does the validation "
        "loss: it has no lower bound."
    )
    evidence = {"start_loss": start, "recent_loss": now, "falls_without_bound": 1.0}
    where = Where(tensor="loss")
    return Finding(LossDivergence.code, Severity.WARNING, observation.step, observation.epoch, message, where, evidence)


def _finding(observation: Observation, severity: Severity, scale: _Scale, now: float, what: str) -> Finding:
    evidence = {
        "start_loss": scale.start,
        "best_loss": scale.best,
        "recent_loss": now,
        "units_above_start": bounded((now - scale.start) / scale.unit),
    }
    if scale.start > 0.0 and now > 0.0:
        evidence["growth_ratio"] = bounded(now / scale.start)
    verb = "rose" if severity is Severity.ERROR else "has risen"
    message = (
        f"The training loss {verb} from {scale.start:.4g} at the start (best {scale.best:.4g}) to {now:.4g} and {what}."
    )
    return Finding(
        LossDivergence.code, severity, observation.step, observation.epoch, message, Where(tensor="loss"), evidence
    )
