"""One failing run as the knowledge base sees it: findings, facts, and a few numbers drawn from the curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from failguard.core.codes import NON_FINITE_CODES
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Where
from failguard.core.history import History, Series
from failguard.core.observation import ExceptionFacts
from failguard.diagnosis.rates import RateBand, band_of, effective_rate

__all__ = ["Approach", "Case", "Clue"]

WINDOW = 8  # values that make up "just before the failure"
SMOOTHING = 5  # values whose median is a level
RISEN = 2.0  # times the level that counts as risen; a loss of single batches varies by less than that
BEYOND_NOISE = 10.0  # times the level
RATE_GONE = 1e-3  # of the highest rate: nothing is learned any more
WARM = 8  # values that show what is normal
JUMP = 100.0  # times the level: more than any update from good data does
CONFIRMED_IN = 32  # steps that the detector of divergence looks at
NOISE_SPANS = 6.0  # robust standard deviations above the level that count as risen, for noisy losses


@dataclass(frozen=True, slots=True)
class Clue:
    """Something that speaks for a cause (weight above 0) or against it.

    Attributes:
        weight: Weight of evidence in natural units of log-odds.
        text: A sentence with numbers, without a full stop.
    """

    weight: float
    text: str


@dataclass(frozen=True, slots=True)
class Approach:
    """How a quantity came to the failure.

    Attributes:
        per: ``"step"`` or ``"epoch"``.
        count: Finite values before the failure.
        level: The lowest level before (a running median).
        peak: The highest of the last values before the failure, or since they rose.
        risen: How many of the last values in a row had risen above the level and its noise.
        onset: The first of those.
        onset_at: Its step or epoch.
    """

    per: str
    count: int
    level: float
    peak: float
    risen: int
    onset: float | None = None
    onset_at: int | None = None

    @property
    def ratio(self) -> float | None:
        """``peak / level``, ``None`` where the level is not above zero."""
        return self.peak / self.level if self.level > 0 else None

    @property
    def calm(self) -> bool:
        """Enough values to judge by, and none of the last had risen."""
        return self.count >= WARM and self.risen == 0

    @property
    def sudden(self) -> bool:
        """After a calm stretch a single value stood a hundred times above the level."""
        calm_before = self.count - self.risen
        return self.onset is not None and calm_before >= 2 * WARM and 0 < JUMP * self.level <= self.onset


class Case:
    """What the clues look at.

    Attributes:
        findings, root, history, exception, resources: As given to :func:`failguard.diagnosis.diagnose`.
        facts: What is known of the run.
        codes: Codes of the findings.
    """

    def __init__(
        self,
        findings: Sequence[Finding],
        root: Finding | None,
        history: History,
        exception: ExceptionFacts | None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self.findings = findings
        self.root = root
        self.history = history
        self.exception = exception
        self.resources: Mapping[str, Any] = resources or {}
        self.facts: Facts = history.facts
        self.codes = frozenset(f.code for f in findings)

    @property
    def root_code(self) -> str:
        """Code of the root, ``""`` without one."""
        return self.root.code if self.root else ""

    @property
    def where(self) -> Where:
        """Place of the root."""
        return self.root.where if self.root else Where()

    @cached_property
    def band(self) -> RateBand | None:
        """Usual rates of this optimizer."""
        return band_of(self.facts.optimizer)

    @cached_property
    def rate(self) -> float | None:
        """The rate to compare with the band, momentum taken into account."""
        return effective_rate(self.facts.optimizer)

    @cached_property
    def rate_is_high(self) -> bool:
        """The rate is above the usual ones of the optimizer."""
        return self.rate is not None and self.band is not None and self.rate > self.band.high

    @cached_property
    def rate_is_low(self) -> bool:
        """The rate is below the usual ones of the optimizer."""
        return self.rate is not None and self.band is not None and self.rate < self.band.low

    @cached_property
    def updates(self) -> int:
        """Optimizer updates of which a loss is known."""
        loss = self.history.steps.get("loss")
        return 0 if loss is None else len(loss) // max(self.facts.accumulate_batches, 1)

    @cached_property
    def samples_an_epoch(self) -> int | None:
        """Training samples of an epoch, as far as they can be told."""
        facts = self.facts
        if facts.train_samples is not None:
            return facts.train_samples
        loss, epochs = self.history.steps.get("loss"), self.history.epochs.get("train_loss")
        if loss is None or epochs is None or not len(epochs) or facts.batch_size is None:
            return None
        return len(loss) * facts.batch_size // len(epochs)

    @cached_property
    def loss_approach(self) -> Approach | None:
        """How the training loss came to the failure; per epoch where there are no step losses."""
        return self._approach_of(self.history.steps.get("loss"), "step") or self._approach_of(
            self.history.epochs.get("train_loss") or self.history.epochs.get("loss"), "epoch"
        )

    @cached_property
    def gradient_approach(self) -> Approach | None:
        """How the gradient norm came to the failure."""
        return self._approach_of(self.history.steps.get("gradient_norm"), "step")

    @cached_property
    def gradient_level(self) -> float | None:
        """Median of the newest finite gradient norms."""
        series = self.history.steps.get("gradient_norm")
        norms: list[float] = [] if series is None else [v for v in series.recent(64).tolist() if math.isfinite(v)]
        return median(norms) if norms else None

    @cached_property
    def weights_left(self) -> float | None:
        """Norm of all weights in the newest sample over that in the first one; ``None`` without two of them."""
        norms = [
            math.hypot(*(layer.weight_norm for layer in reading.layers if layer.weight_norm is not None))
            for reading in self.history.internals
            if any(layer.weight_norm is not None for layer in reading.layers)
        ]
        return norms[-1] / norms[0] if len(norms) > 1 and norms[0] > 0.0 and math.isfinite(norms[-1]) else None

    @cached_property
    def rate_gone(self) -> tuple[float, int, int] | None:
        """Where the schedule ended learning in the first half of the epochs: highest rate, epoch, epochs in all."""
        series = self.history.learning_rates
        rates = [] if series is None else series.values.tolist()
        top = max((r for r in rates if math.isfinite(r)), default=0.0)
        start = self.facts.optimizer.learning_rate  # the first epoch may have ended it already
        top = max(top, start if start is not None else 0.0)
        alive = [i for i, r in enumerate(rates) if not r < RATE_GONE * top]
        last = alive[-1] + 1 if alive else 0
        total = max(self.facts.max_epochs or 0, len(rates))
        return (top, last, total) if len(rates) >= 4 and top > 0.0 and last <= total / 2 and last < len(rates) else None

    @cached_property
    def loss_level(self) -> float | None:
        """Median of the newest finite training losses."""
        for series in (self.history.steps.get("loss"), self.history.epochs.get("train_loss")):
            values: list[float] = [] if series is None else [v for v in series.recent(64).tolist() if math.isfinite(v)]
            if values:
                return median(values)
        return None

    @cached_property
    def grew(self) -> bool:
        """The loss rose before it failed, over two values or at once within the first steps: no single batch did it."""
        approach = self.loss_approach
        if approach is None or approach.risen == 0:
            return False
        return approach.risen >= 2 or (approach.count < 2 * WARM and 0 < JUMP * approach.level <= approach.peak)

    @cached_property
    def located(self) -> bool:
        """The failing batch was looked at again: a module made the bad value from finite data."""
        return self.where.module is not None and self.where.tensor in ("output", "gradient")

    @cached_property
    def made_by_loss(self) -> bool:
        """The failing batch was at hand and finite, and so were the model's outputs: the loss made the bad value.

        On a CPU the batch is at hand, if there was one to be kept; Keras names the loss only where it was.
        """
        facts = self.facts
        has_batch = facts.framework == "keras" or (bool(facts.framework) and facts.batch_size is not None)
        looks = has_batch and (facts.device or "").startswith("cpu")
        return looks and self.root_code == "loss.non_finite" and self.where.tensor == "loss" and not self.where.module

    @cached_property
    def first_loss(self) -> float | None:
        """The loss of the first batch, if it is finite."""
        series = self.history.steps.get("loss")
        first: list[float] = [] if series is None else series.first(1).tolist()
        return first[0] if first and math.isfinite(first[0]) else None

    @cached_property
    def parameters_per_sample(self) -> float | None:
        """Trainable parameters over training samples."""
        parameters, samples = self.facts.model.trainable_parameters, self.samples_an_epoch
        if parameters is None:
            parameters = self.facts.model.parameters
        return parameters / samples if parameters is not None and samples else None

    def _approach_of(self, series: Series | None, per: str) -> Approach | None:
        if series is None or len(series) == 0:
            return None
        pairs = list(zip(series.steps.tolist(), series.values.tolist(), strict=True))
        end = len(pairs)
        if self.root is not None and self.root_code in NON_FINITE_CODES:
            limit = self.root.step if per == "step" else self.root.epoch
            # Up to the failure: a value that is not finite, or the step of the finding.
            end = next((i for i, (at, v) in enumerate(pairs) if at >= limit or not math.isfinite(v)), end)
        finite = [(at, v) for at, v in pairs[:end] if math.isfinite(v)]
        values = [v for _, v in finite]
        if len(values) < 2:
            return None
        tail = max(1, min(WINDOW, len(values) // 2))
        level, spread, low_at = _lowest_level(values[:-tail])
        level = min(level, values[0])  # a loss that rises from the start never has a lower running median
        threshold = level + NOISE_SPANS * spread
        if level > 0:
            # A divergence is confirmed already; elsewhere noise may pass twice the level, but hardly ten times.
            noise = 0.0 if self.root_code == "loss.divergence" else threshold
            threshold = min(max(noise, RISEN * level), BEYOND_NOISE * level)
        if self.root_code == "loss.divergence":  # it was confirmed over a window: single dips do not end the rise
            risen = _risen(values[low_at:], threshold, dips=CONFIRMED_IN // 2)
        else:
            risen = _risen(values, threshold)
        risen = _since_jump(values[-risen:], level) if risen and level > 0 else risen
        at, onset = finite[-risen] if risen else (None, None)
        return Approach(per, len(values), level, max(values[-max(tail, risen) :]), risen, onset, at)


def _risen(values: list[float], threshold: float, dips: int = 0) -> int:
    """How many of the newest values lie above a threshold, with at most ``dips`` in a row that do not."""
    risen = below = 0
    for count, value in enumerate(reversed(values), start=1):
        below = 0 if value > threshold else below + 1
        if below > dips:
            break
        if below == 0:
            risen = count
    return risen


def _since_jump(risen: list[float], level: float) -> int:
    """How many values there are since one that is a hundred times all before, where those were no more than noise."""
    highest = level
    for i, value in enumerate(risen):
        if value > JUMP * highest:
            return len(risen) - i
        highest = max(highest, value)
        if highest > BEYOND_NOISE * level:
            break
    return len(risen)


def _lowest_level(values: list[float]) -> tuple[float, float, int]:
    """Lowest running median, robust spread (1.4826 times the median absolute deviation) around it, its index."""
    width = min(SMOOTHING, len(values))
    windows = [values[i : i + width] for i in range(len(values) - width + 1)]
    levels = [median(w) for w in windows]
    best = min(range(len(levels)), key=levels.__getitem__)
    around = values[max(0, best - 16) : best + 16]
    return levels[best], 1.4826 * median(abs(v - levels[best]) for v in around), best
