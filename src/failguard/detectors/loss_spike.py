"""``loss.spike``: the loss jumped far above its recent robust range, then came back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History, Series
from failguard.core.observation import Observation
from failguard.core.statistics import bounded, evenly_spaced, median, noise, to_unit, train_loss_per_epoch
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, line, noisy, swing, with_bumps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LossSpike"]

CHUNK = 32  # steps whose median and spread are one level and one scale
BEFORE = 5  # chunks before a step that make its robust range; two of them may hold another spike
GLANCE = 96  # steps that the cheap first test looks at
CHANCE = 1e-5  # how many runs of high losses as long as a spike's may be expected from heavy tails
SETTLE = 40  # steps after a spike in which the loss has to be back
MOST = 8  # humps near the height of a spike within the steps looked at; with more of them the loss swings anyway
LASTING = 8  # steps: a shorter one is a bad batch or two, from which the run recovers at once
LONGEST = 256  # steps; what stays up longer is a new level


@dataclass(frozen=True, slots=True)
class _Spike:
    """A jump that came back. ``at`` and ``width`` in steps (or epochs), the others in the unit of the loss."""

    at: int
    width: int
    base: float
    height: float


@dataclass(frozen=True, slots=True)
class LossSpike:
    """The training loss jumped far above its recent robust range and came back.

    *Per step.* The range before a step is made of the five blocks of 32 steps before it: the median of their medians,
    and ``sigma``, 1.4826 x the median of their median absolute deviations, or x that of their medians where it is more
    (slow swings). A spike is a run of losses, gaps of one
    allowed, above ``median + min_sigmas * sigma``, that

    - is no heavy tail: it has ``min_steps`` losses or more, and so many of them in a row are not to be expected from
      how often single losses exceed that line elsewhere (``n * p ** length < 1e-5``), nor do humps a quarter as high
      fill a twentieth of the steps;
    - came back: the median of the 40 losses after it lies within a fifth of its height above that range's median, and
      it lasted no longer than 256 steps and 15 % of the steps before it;
    - matters: its height is at least ``min_share`` of what the run had learned by then (first losses minus median)
      and, where losses are positive, 30 % of the median; and the run had learned, by 10 % at least.

    *Per epoch*, where no loss per step is known: one or two epochs above the median of the five before by 8 ``sigma``
    (:func:`failguard.core.statistics.noise` of the whole run or of the 25 epochs around, whichever is more; 20 without
    validation), a quarter of what was learned and half of the level. A harder task or a layer set free takes longer.

    Runs of losses that start evenly spaced, counted from the start of the run (or at distances that double), or all at
    the borders of epochs, are the schedule's or the data's doing and no spikes. So are all under a schedule with
    restarts or cycles.

    ``info`` for a single one. ``warning`` where there are two or more within the 4,096 steps looked at, or where one
    is higher than ``large_share`` of what was learned and lasts for 8 steps at least; per epoch only where the
    validation loss jumped as well, or, without validation, losses are positive, since a few samples with absurd targets
    raise the mean of an epoch, too, and bad episodes a negative return.
    One that does not come back is ``loss.divergence``.

    Evidence: ``spikes``, ``highest_loss``, ``level_before``, ``height_in_sigmas``, ``share_of_progress``,
    ``width_steps`` or ``width_epochs`` and ``first_seen_step`` of the highest one.

    Attributes:
        min_sigmas, min_steps, min_share, large_share: See above.

    Source: robust range instead of the running mean of other rules (MosaicML Composer: twice the mean of a window); the
    run of losses is ours. Settings fitted by ``python -m benchmarks.detection.curves``.
    """

    min_sigmas: float = 8.0
    min_steps: int = 4
    min_share: float = 0.08
    large_share: float = 0.5

    code: ClassVar[str] = "loss.spike"
    events: ClassVar[frozenset[Event]] = frozenset({Event.STEP, Event.EPOCH_END, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "a language model: from 2.1 to 3.5 for twenty steps, once",
            steps={"loss": noisy(with_bumps(decay(2000, 9.0, 2.1, 12), [1400], 1.4, 20), 0.02)},
        ),
        Example(
            "the same three times",
            steps={"loss": noisy(with_bumps(decay(2000, 9.0, 2.1, 12), [900, 1250, 1800], 1.4, 20), 0.02)},
        ),
        Example(
            "one that threw the run back to its start",
            steps={"loss": noisy(with_bumps(decay(800, 2.3, 0.3), [500], 3.0, 30), 0.1)},
        ),
        Example(
            "a likelihood",
            steps={"loss": with_bumps(noisy(decay(800, 100.0, -900.0), 0.01), [400, 650], 700.0, 16)},
        ),
        Example(
            "an epoch's mean, three times",
            epochs={
                "train_loss": noisy(with_bumps(decay(60, 2.3, 0.3), [20, 33, 51], 1.2, 1), 0.01),
                "val_loss": noisy(with_bumps(decay(60, 2.3, 0.4), [20, 33, 51], 1.0, 1), 0.02),
            },
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("noise", steps={"loss": noisy(decay(800, 2.3, 0.3), 0.3)}),
        Example(
            "heavy tails",
            steps={"loss": [80.0 if i % 37 in (5, 29) else x for i, x in enumerate(noisy([0.5] * 800, 0.3))]},
        ),
        Example("the first steps", steps={"loss": with_bumps(noisy(decay(600, 2.3, 0.3), 0.1), [10], 30.0, 12)}),
        Example(
            "warm restarts",
            steps={"loss": noisy([0.1 + 0.9 * 0.5 ** ((i % 200) / 10) for i in range(1000)], 0.1)},
        ),
        Example(
            "restarts at doubling distances",
            steps={
                "loss": noisy(
                    [0.1 + 0.5 ** (8 * (i - s) / (s + 100)) for s in (0, 100, 300, 700) for i in range(s, 2 * s + 100)],
                    0.05,
                )
            },
        ),
        Example("a harder part of the data", steps={"loss": noisy(decay(500, 2.3, 0.3) + decay(500, 1.5, 0.6), 0.1)}),
        Example("adversarial: swings", steps={"loss": noisy(swing(800, 2.0, 1.5, 60), 0.3)}),
        Example("a random walk of any sign", steps={"loss": swing(800, 0.0, 1.0, 300)}),
        Example(
            "rises and stays: not a spike", steps={"loss": noisy(decay(400, 2.3, 0.3) + line(400, 0.3, 40.0), 0.1)}
        ),
        Example(
            "a log of tasks, each learned within some epochs",
            epochs={
                "train_loss": noisy([0.2 + 0.9 * 0.75**i for n in (23, 17, 31) for i in range(n)], 0.01),
                "val_loss": noisy([0.3 + 0.9 * 0.75**i for n in (23, 17, 31) for i in range(n)], 0.03),
            },
        ),
        Example("zero", steps={"loss": [0.0] * 300}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look for jumps that are over."""
        if history.facts.optimizer.swings:
            return None
        losses = history.steps.get("loss")
        if losses is None or not len(losses):
            return self._check_epochs(observation, history) if observation.event is Event.EPOCH_END else None
        n = len(losses)
        if n < (BEFORE - 1) * CHUNK:
            return None
        per_epoch = n // (observation.epoch + 1)
        glances = observation.event is Event.STEP or (observation.event is Event.EPOCH_END and per_epoch < 4 * GLANCE)
        if glances and not self._worth_a_look(losses.recent(GLANCE).tolist()):
            return None
        found = self._spikes(losses, history.facts.steps_per_epoch)
        return self._judged(observation, found, "steps")

    def _worth_a_look(self, recent: list[float]) -> bool:
        """Whether enough of the newest losses are far above the others, and the very newest are not.

        Nearly every call of a healthy run ends here.
        """
        ordered = sorted(recent)
        middle = ordered[len(ordered) // 2]
        sigma = (middle - ordered[len(ordered) // 4]) / 0.6745
        return ordered[-self.min_steps] - middle > 0.5 * self.min_sigmas * sigma + 0.2 * abs(middle)

    def _spikes(self, losses: Series, steps_per_epoch: int | None) -> list[tuple[_Spike, float, float]]:
        """The spikes among the newest values, each with its sigma and what had been learned before it."""
        import numpy as np

        values, steps = losses.values, losses.steps
        good = np.isfinite(values)
        first = losses.first(16)
        first = first[np.isfinite(first)]
        if int(good.sum()) < (BEFORE - 1) * CHUNK or first.size == 0:
            return []
        values, steps = values[good], steps[good]
        scaled, exponent = to_unit(np.concatenate([first, values]))
        start, x = median(scaled[: first.size].tolist()), scaled[first.size :]
        base, sigma = _ranges(x)
        over = np.flatnonzero(x > base + self.min_sigmas * sigma)
        if over.size < self.min_steps:
            return []
        found, onsets = [], []
        for run in np.split(over, np.flatnonzero(np.diff(over) > 2) + 1):
            # A few in a row by chance, as heavy tails give them?
            share = (over.size - run.size + 1) / x.size
            if run.size < self.min_steps or x.size * share**run.size > CHANCE:
                continue
            at = int(steps[run[0]])
            onsets.append(at)
            spike = self._spike(x, run, float(base[run[0]]), start, at)
            if spike is not None and _stands_out(x - base, run, spike.height, self.min_steps):
                found.append((spike, float(sigma[run[0]]), start - spike.base))
        if not found or _by_design(onsets, steps_per_epoch):
            return []
        return [
            (
                _Spike(s.at, s.width, math.ldexp(s.base, exponent), math.ldexp(s.height, exponent)),
                math.ldexp(noise_level, exponent),
                math.ldexp(progress, exponent),
            )
            for s, noise_level, progress in found
        ]

    def _spike(self, x: Floats, run: NDArray[np.int64], base: float, start: float, step: int) -> _Spike | None:
        """A run of high losses as a spike, if it is over and matters."""
        begin, end = int(run[0]), int(run[-1])
        if end + SETTLE >= x.size:
            return None
        width = end - begin + 1
        if width > min(LONGEST, 0.15 * step):
            return None
        height = sorted(x[run].tolist())[-max(run.size // 3, 1)] - base
        progress = start - base
        floor = 0.3 * abs(base) if base > 0.0 else 0.0
        if progress <= 0.1 * abs(start) or height < max(self.min_share * progress, floor):
            return None
        if median(x[end + 1 : end + SETTLE + 1].tolist()) > base + 0.2 * height:
            return None
        return _Spike(step, width, base, height)

    def _check_epochs(self, observation: Observation, history: History) -> Finding | None:
        import numpy as np

        series = train_loss_per_epoch(history)
        if series is None or len(series) < 12:
            return None
        values = series.values
        good = np.isfinite(values)
        if int(good.sum()) < 12:
            return None
        epochs, (x, exponent) = series.steps[good], to_unit(values[good])
        overall, start = noise(x), float(x[0])
        found: list[tuple[_Spike, float, float]] = []
        sigmas = 8.0 if "val_loss" in history.epochs else 20.0
        for i in (i for i in range(5, x.size - 1) if x[i] - min(x[i - 1], x[i - 2]) > 8.0 * overall):
            sigma = max(overall, noise(x[max(i - 12, 0) : i + 13]))  # the noise may grow with what is learned
            base = median(x[i - 5 : i].tolist())
            height, progress = float(x[i]) - base, start - base
            if found and int(epochs[i]) - found[-1][0].at <= 3:
                continue
            if progress <= 0.1 * abs(start) or height < max(sigmas * sigma, 0.25 * progress, 0.5 * base):
                continue
            after = [k for k in range(i + 1, min(i + 3, x.size)) if x[k] < base + 0.4 * height]
            if after:
                found.append((_Spike(int(epochs[i]), after[0] - i, base, height), sigma, progress))
        if not found or _by_design([s.at for s, _, _ in found], None):
            return None
        in_unit = [
            (
                _Spike(s.at, s.width, math.ldexp(s.base, exponent), math.ldexp(s.height, exponent)),
                math.ldexp(a, exponent),
                math.ldexp(b, exponent),
            )
            for s, a, b in found
        ]
        seen_elsewhere = _jumps(history, [s.at for s, _, _ in found], otherwise=float(x.min()) >= 0.0)
        return self._judged(observation, in_unit, "epochs", seen_elsewhere)

    def _judged(
        self, observation: Observation, found: list[tuple[_Spike, float, float]], unit: str, seen_elsewhere: bool = True
    ) -> Finding | None:
        if not found:
            return None
        spike, sigma, progress = max(found, key=lambda f: f[0].height)
        share = spike.height / progress
        threw_back = share >= self.large_share and (unit == "epochs" or spike.width >= LASTING)
        serious = seen_elsewhere and (len(found) > 1 or threw_back)
        evidence = {
            "spikes": float(len(found)),
            "highest_loss": bounded(spike.base + spike.height),
            "level_before": spike.base,
            "height_in_sigmas": bounded(spike.height / sigma) if sigma > 0.0 else 0.0,
            "share_of_progress": bounded(share),
            f"width_{unit}": float(spike.width),
        }
        if unit == "steps":
            evidence["first_seen_step"] = float(min(s.at for s, _, _ in found))
        times = "once" if len(found) == 1 else f"{len(found)} times"
        message = (
            f"The training loss jumped {times} far above its range and came back, at its highest from {spike.base:.4g} "
            f"to {spike.base + spike.height:.4g} for {spike.width} {unit} ({unit[:-1]} {spike.at})."
        )
        severity = Severity.WARNING if serious else Severity.INFO
        return Finding(
            self.code, severity, observation.step, observation.epoch, message, Where(tensor="loss"), evidence
        )


def _ranges(x: Floats) -> tuple[Floats, Floats]:
    """Median and sigma of the range before each value, from whole blocks of 32. NaN-free; infinite where unknown.

    Returns:
        Two arrays of shape (n,).
    """
    import numpy as np

    whole = x.size // CHUNK
    blocks = np.sort(x[: whole * CHUNK].reshape(whole, CHUNK), axis=1)
    level = 0.5 * (blocks[:, CHUNK // 2 - 1] + blocks[:, CHUNK // 2])
    deviation = np.sort(np.abs(blocks - level[:, None]), axis=1)
    spread = 1.4826 * 0.5 * (deviation[:, CHUNK // 2 - 1] + deviation[:, CHUNK // 2])
    base, sigma = np.full(x.size, np.inf), np.zeros(x.size)
    levels, spreads = level.tolist(), spread.tolist()
    for j in range(BEFORE - 2, -(-x.size // CHUNK)):  # three blocks will do at the start
        before = levels[max(j - BEFORE, 0) : j]
        middle = median(before)
        drift = 1.4826 * median([abs(b - middle) for b in before])  # slow swings are part of the range
        base[j * CHUNK : (j + 1) * CHUNK] = middle
        sigma[j * CHUNK : (j + 1) * CHUNK] = max(median(spreads[max(j - BEFORE, 0) : j]), drift)
    return base, sigma


def _stands_out(excess: Floats, run: NDArray[np.int64], height: float, length: int) -> bool:
    """Whether no other run of ``length`` losses comes near, spikes as high apart: else the loss swings anyway."""
    import numpy as np

    lasting = excess.copy()
    lasting[np.isinf(lasting)] = -np.inf
    for shift in range(1, length):
        lasting[:-shift] = np.minimum(lasting[:-shift], excess[shift:])
    lasting[1 - length :] = -np.inf
    lasting[max(int(run[0]) - length, 0) : int(run[-1]) + SETTLE] = -np.inf
    near = np.flatnonzero(lasting > 0.25 * height)
    return near.size == 0 or bool((np.diff(near) > SETTLE).sum() + 1 <= MOST and near.size <= 0.05 * excess.size)


def _by_design(at: list[int], steps_per_epoch: int | None) -> bool:
    """Whether jumps come in the rhythm of a schedule or of epochs. A single one has no rhythm but an epoch's."""
    if evenly_spaced(at):
        return True
    return steps_per_epoch is not None and steps_per_epoch >= 16 and all(i % steps_per_epoch < 3 for i in at)


def _jumps(history: History, epochs: list[int], *, otherwise: bool) -> bool:
    """Whether the validation loss jumped in most of these epochs, or the ones after, too; without it, ``otherwise``."""
    series = history.epochs.get("val_loss")
    if series is None:
        return otherwise
    values = dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))
    jumped = 0
    for epoch in epochs:
        before = [values[e] for e in range(epoch - 5, epoch) if math.isfinite(values.get(e, math.nan))]
        now = [values[e] for e in (epoch, epoch + 1) if math.isfinite(values.get(e, math.nan))]
        jumped += (
            bool(before and now) and max(now) > max(before) and max(now) > median(before) + 0.2 * abs(median(before))
        )
    return 2 * jumped >= len(epochs)
