"""``loss.divergence``: the loss keeps rising, or stays far above where it started or its best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History, Series
from failguard.core.observation import Observation
from failguard.core.statistics import median, train_loss_per_epoch
from failguard.detectors.base import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LossDivergence"]

CHUNK = 8  # steps whose median is one level
WINDOW = 32  # steps that must agree before divergence is confirmed
RISE_STEPS = 512  # a slower rise is a drift, as of a value loss in reinforcement learning


@dataclass(frozen=True, slots=True)
class _Scale:
    """What "far above" means in this run.

    Attributes:
        start: The level to be above: the first losses, or the trivial predictor's loss if that is higher.
        best: The lowest level so far.
        unit: ``max(|start|, start - best)``, above 0.
        factor: How many units above the start is divergence; ``None`` where nothing can be said.
        blow_up: How many units above it is a blow-up even if only for three steps.
    """

    start: float
    best: float
    unit: float
    factor: float | None
    blow_up: float


@dataclass(frozen=True, slots=True)
class LossDivergence:
    """The training loss has risen far above its start and does not come back.

    Levels are medians. ``start`` is the level of the first losses, or the loss of the trivial predictor where that is known
    and higher; ``unit = max(|start|, start - best level)``, so that any scale and sign of losses will do.

    *Suspected* (``warning``): 7 of the last 8 losses are above ``start + factor * unit``; or three losses in a row grew, each
    above ``start + 10 * unit``.

    *Confirmed* (``error``), and then the cause of a stop under the standard policy: 29 of the last 32 losses are above that
    line and the level does not fall by 30 % from the first half of them to the second; or a blow-up: three losses in a row
    more than ``blow_up`` units above the start, from which no run is known to come back to useful weights.

    How much is far depends on what is known, because a rising loss means little by itself in reinforcement learning, in
    adversarial training and for likelihoods (negative losses):

    - ``known_factor`` where the trivial predictor's loss is known (cross-entropy);
    - ``learned_factor`` where the loss had fallen by a fifth before, and rose within 512 steps;
    - ``blind_factor`` in the first 256 steps otherwise, and wherever losses are negative.

    A *collapse* is a ``warning`` too: cross-entropy that had halved is back at the trivial predictor's and stays for 256 steps.

    Where no loss per step is known, the training loss of each epoch is judged alike, with two epochs for 8 steps, three for
    32, and ``epoch_factor`` for the first two factors, since an epoch's mean hardly varies.

    Evidence: ``start_loss``, ``best_loss``, ``recent_loss``, ``growth_ratio`` (recent over start, where both are above 0),
    ``units_above_start``.

    Attributes:
        known_factor, learned_factor, blind_factor, epoch_factor: See above, in units.

    Source: the factors were set on 90 trainings of a small classifier at rates from useful to absurd and on simulated healthy
    curves; the transient that must not trip is the catapult of Lewkowycz et al. (2020), which ends within tens of steps.
    """

    known_factor: float = 3.0
    learned_factor: float = 10.0
    blind_factor: float = 30.0
    epoch_factor: float = 2.0

    code: ClassVar[str] = "loss.divergence"
    events: ClassVar[frozenset[Event]] = frozenset({Event.STEP, Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = ()
    QUIET: ClassVar[Sequence[Example]] = ()

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the recent losses with the first ones."""
        losses = history.steps.get("loss")
        trivial = history.facts.trivial_loss
        if losses is not None:
            return self._check_steps(observation, losses, trivial)
        per_epoch = train_loss_per_epoch(history)
        if observation.event is Event.EPOCH_END and per_epoch is not None:
            return self._check_epochs(observation, per_epoch, trivial)
        return None

    def _check_steps(self, observation: Observation, losses: Series, trivial: float | None) -> Finding | None:
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
        if _longest_run(recent, above=scale.start + scale.blow_up * scale.unit) >= 3:
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
        growing = last[0] < last[1] < last[2] and last[0] > scale.start + 10.0 * scale.unit
        if growing or (len(recent) >= CHUNK and sum(x > line for x in recent[-CHUNK:]) >= CHUNK - 1):
            return _finding(observation, Severity.WARNING, scale, now, "may come back")
        return None

    def _scale(self, losses: Series, start: float, trivial: float | None) -> _Scale | None:
        recent = _levels(losses.recent(RISE_STEPS))
        best = min([start, *recent, *_levels(losses.first(256))])
        unit = max(abs(start), start - best)
        if not unit > 0.0 or not math.isfinite(unit):
            return None
        factor: float | None
        if best < 0.0:
            factor = self.blind_factor
        elif trivial is not None:
            factor = self.known_factor
        elif best < 0.8 * start and min(recent, default=math.inf) <= start + unit:
            factor = self.learned_factor
        else:
            factor = self.blind_factor if len(losses) <= 256 else None
        return _Scale(start, best, unit, factor, 1e3 if trivial is not None and best >= 0.0 else 1e4)

    def _collapse(
        self, observation: Observation, losses: Series, start: float, now: float, trivial: float | None
    ) -> Finding | None:
        if trivial is None or now < 0.9 * trivial or len(losses) < 512:
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
        return _finding(observation, Severity.WARNING, scale, now, "is back at a trivial predictor's after it had halved")

    def _check_epochs(self, observation: Observation, series: Series, trivial: float | None) -> Finding | None:
        values = [x for x in series.values.tolist() if math.isfinite(x)]
        if len(values) < 3:
            return None
        start, best = _start(values[:1], trivial), min(values)
        unit = max(abs(start), start - best)
        if not unit > 0.0 or not math.isfinite(unit):
            return None
        informed = best >= 0.0 and (trivial is not None or best < 0.8 * start)
        factor = self.epoch_factor if informed else self.blind_factor
        scale = _Scale(start, best, unit, factor, math.inf)
        line = start + factor * unit
        if min(values[-2:]) <= line:
            return None
        confirmed = values[-3] > line and values[-1] - start >= 0.7 * (values[-3] - start)
        now = median(values[-3:]) if confirmed else values[-1]
        if confirmed:
            return _finding(observation, Severity.ERROR, scale, now, "stayed there for 3 epochs")
        return _finding(observation, Severity.WARNING, scale, now, "may come back")


def _start(early: list[float], trivial: float | None) -> float:
    """Level at the start. The lower one of the first loss and the median of three: a blow-up can begin at once."""
    start = min(early[0], median(early))
    return start if trivial is None else max(start, trivial)


def _levels(values: Floats) -> list[float]:
    """Medians of eight losses each, oldest first."""
    import numpy as np

    values = values[np.isfinite(values)]
    whole = values[values.size % CHUNK :].reshape(-1, CHUNK)
    levels: list[float] = np.median(whole, axis=1).tolist()
    return levels


def _longest_run(values: list[float], *, above: float) -> int:
    longest = run = 0
    for x in values:
        run = run + 1 if x > above else 0
        longest = max(longest, run)
    return longest


def _finding(observation: Observation, severity: Severity, scale: _Scale, now: float, what: str) -> Finding:
    evidence = {
        "start_loss": scale.start,
        "best_loss": scale.best,
        "recent_loss": now,
        "units_above_start": (now - scale.start) / scale.unit,
    }
    if scale.start > 0.0 and now > 0.0:
        evidence["growth_ratio"] = min(now / scale.start, 1e300)
    verb = "rose" if severity is Severity.ERROR else "has risen"
    message = f"The training loss {verb} from {scale.start:.4g} at the start (best {scale.best:.4g}) to {now:.4g} and {what}."
    return Finding(
        LossDivergence.code, severity, observation.step, observation.epoch, message, Where(tensor="loss"), evidence
    )
