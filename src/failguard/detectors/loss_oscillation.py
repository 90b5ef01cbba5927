"""``loss.oscillation``: the loss swings between levels instead of settling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, OptimizerFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History, Series
from failguard.core.observation import Observation
from failguard.core.statistics import (
    bounded,
    evenly_spaced,
    median,
    median_of_means,
    noise,
    to_unit,
    train_loss_per_epoch,
)
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, noisy, swing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LossOscillation"]

MIN_TURNS = 0.5  # of the changes go the other way than the one before; two thirds do in noise without memory
FEW_EPOCHS, FEW_TURNS = 16, 0.6  # fewer epochs tell swings from the stages of a curriculum only where they turn often
MIN_RISES = 0.25  # of the changes are upwards; restarts are followed by descents
MOST_EPOCHS = 64  # newest epochs that are looked at


def _alternating(n: int, level: float, height: float, noise_share: float, seed: int = 0) -> list[float]:
    values = decay(n, 2.3, level, 20)
    return noisy(
        [x + (height if i % 2 else -height) * min(i / 4, 1.0) for i, x in enumerate(values)], noise_share, seed
    )


@dataclass(frozen=True, slots=True)
class LossOscillation:
    """Epoch by epoch the training loss swings up and down by a good part of what was learned.

    Looked at are the newer two thirds of the epochs, at least ``min_epochs`` and at most 64. The *swing* of a series is
    its noise from epoch to epoch (:func:`failguard.core.statistics.noise`), in which trends and single outliers cancel
    out. All of these hold:

    - the run had learned, and still has: the level (median) of the training loss, and that of the last four epochs, is
      below its first value, by 10 % and one swing at least;
    - the swing of the training loss is at least ``min_swing`` of its level (for negative losses: of what was learned)
      and half that share of what was learned;
    - it goes up and down: half of the changes or more (three in five with fewer than 16 epochs) go the other way than
      the one before, which the descents after restarts and the stages of a curriculum do not;
    - it does not settle: the swing in the newer half of these epochs is at least half of the one in the older half (a
      third of it with fewer than 20 epochs, where both are rough estimates);
    - validation, which sees the same samples each time, swings as well, by at least half as large a share, and with
      it: their ``m`` changes from one epoch to the next correlate (by ranks) by ``min_agreement`` and by
      ``certainty / sqrt(m)`` or more, the same epoch's or the next one's. Half of ``certainty`` will do where losses
      per step show that the means of epochs swing by four times what the noise of batches explains;
    - it is not the schedule's doing: no schedule with restarts or cycles, no high points at even or doubling distances
      of three epochs or more, no changes that repeat themselves after ``p`` epochs, for any ``p`` (correlation above
      0.75), and rises that are many: fewer than a quarter of the changes upwards is how restarts look.

    That is a ``warning``. Up and down in turn for 16 epochs or more, every time by nearly as much, needs no
    validation; it is ``info``, since a rate that rises and falls every other epoch looks the same, and a ``warning``
    where the learning rate is logged per epoch and never rose. Else nothing is said without validation: adversarial
    training, reinforcement learning and heavy tails swing too.

    The mean over an epoch hides the noise of its batches, so what is left are moves of the weights.

    Evidence: ``swing_percent`` (of the level), ``level``, ``share_of_progress``, and with validation
    ``validation_swing_percent`` and ``agreement``.

    Attributes:
        min_epochs, min_swing, min_agreement, certainty: See above.

    Source: the rule is ours; that losses swing without settling where the rate exceeds what the curvature allows is
    textbook (Goodfellow, Bengio, Courville, "Deep Learning", 2016, section 8.3.1: "violent oscillations").
    ``certainty`` is in standard errors of a rank correlation. Settings fitted by
    ``python -m benchmarks.detection.curves``.
    """

    min_epochs: int = 10
    min_swing: float = 0.2
    min_agreement: float = 0.4
    certainty: float = 2.4

    code: ClassVar[str] = "loss.oscillation"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "up and down in turn",
            epochs={"train_loss": _alternating(40, 0.8, 0.3, 0.02), "val_loss": _alternating(40, 0.9, 0.3, 0.05, 1)},
        ),
        Example(
            "without validation, the rate known",
            epochs={"train_loss": _alternating(48, 0.8, 0.3, 0.02), "lr": [0.1] * 48},
        ),
        Example(
            "irregular",
            epochs={
                "train_loss": decay(10, 2.3, 0.9) + noisy([0.8] * 40, 0.4),
                "val_loss": decay(10, 2.3, 0.9) + noisy([0.9] * 40, 0.4),
            },
        ),
        Example(
            "a likelihood",
            epochs={
                "train_loss": decay(10, 50.0, -300.0) + [x - 300.0 for x in noisy([100.0] * 30, 1.0)],
                "val_loss": decay(10, 50.0, -300.0) + [x - 290.0 for x in noisy([100.0] * 30, 1.0)],
            },
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("settles", epochs={"train_loss": decay(60, 2.3, 0.2), "val_loss": noisy(decay(60, 2.3, 0.4), 0.05)}),
        Example(
            "few validation samples",
            epochs={"train_loss": noisy(decay(60, 2.3, 0.2), 0.02), "val_loss": noisy(decay(60, 2.3, 0.5), 0.3)},
        ),
        Example(
            "the schedule restarts every eight epochs",
            epochs={
                "train_loss": [0.3 + 0.9 * 0.5 ** (i % 8) for i in range(64)],
                "val_loss": [0.4 + 0.9 * 0.5 ** (i % 8) for i in range(64)],
            },
        ),
        Example(
            "few samples: both swing, each for itself",
            epochs={
                "train_loss": noisy(decay(60, 1.5, 0.5, 15), 0.3),
                "val_loss": noisy(decay(60, 1.5, 0.6, 15), 0.3, 7),
            },
        ),
        Example(
            "restarts after 2, 4, 8, ... epochs",
            epochs={
                "train_loss": [0.3 + 0.8 * (1 - i / n) for n in (2, 4, 8, 16, 32) for i in range(n)],
                "val_loss": [0.4 + 0.8 * (1 - i / n) for n in (2, 4, 8, 16, 32) for i in range(n)],
            },
        ),
        Example(
            "a rate that cycles within three epochs",
            epochs={
                "train_loss": noisy([2.0] + [0.4 + (0.3, 0.1, 0.0)[i % 3] for i in range(41)], 0.02),
                "val_loss": noisy([2.0] + [0.5 + (0.3, 0.1, 0.0)[i % 3] for i in range(41)], 0.03, 1),
            },
        ),
        Example(
            "a cyclic rate, by name",
            epochs={"train_loss": _alternating(40, 0.8, 0.3, 0.02), "val_loss": _alternating(40, 0.9, 0.3, 0.05)},
            facts=Facts(optimizer=OptimizerFacts(schedule="CyclicLR")),
        ),
        Example(
            "heavy tails: some epochs' means are far off, validation is smooth",
            epochs={
                "train_loss": [5.0 if i % 7 in (2, 5) else x for i, x in enumerate(noisy([1.0] * 60, 0.3))],
                "val_loss": noisy(decay(60, 2.3, 0.9), 0.01),
            },
        ),
        Example("adversarial: swings and never learned", epochs={"train_loss": noisy(swing(80, 1.0, 0.4, 9), 0.2)}),
        Example(
            "noise around good weights",
            epochs={"train_loss": noisy([0.05] * 40, 0.3), "val_loss": noisy([0.06] * 40, 0.3, 1)},
        ),
        Example("around zero", epochs={"train_loss": swing(60, 0.0, 0.01, 2.3), "val_loss": [0.0] * 60}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the swings of the newer epochs with what was learned."""
        series = train_loss_per_epoch(history)
        if series is None or len(series) < self.min_epochs + 2 or history.facts.optimizer.swings:
            return None
        val = history.epochs.get("val_loss")
        if val is not None and not observation.validated:
            return None
        import numpy as np

        start = _start(series, history)
        count = min(max(self.min_epochs, 2 * len(series) // 3), MOST_EPOCHS)
        train, held_out = series.recent(count), None
        if val is not None:
            train, held_out = _common(series.steps, series.values, val.steps, val.values, count)
        good = np.isfinite(train) if held_out is None else np.isfinite(train) & np.isfinite(held_out)
        train = train[good]
        if start is None or train.size < self.min_epochs:
            return None
        scaled, exponent = to_unit(np.concatenate([[start], train]))
        start, x = float(scaled[0]), scaled[1:]
        level, amount = median(x.tolist()), noise(x)
        learned = start - level
        unit = level if level > 0.0 and float(x.min()) >= 0.0 else learned
        if min(learned, start - median(x[-4:].tolist())) <= 0.1 * abs(start) or learned < amount:
            return None
        if amount < self.min_swing * unit or amount < 0.5 * self.min_swing * learned:
            return None
        half = x.size // 2
        if noise(x[half:]) < (0.5 if half >= 10 else 0.3) * noise(x[:half]) or _rhythm(x.tolist(), level, amount):
            return None
        turns = _in_turn(x.tolist())
        if turns < (FEW_TURNS if x.size < FEW_EPOCHS else MIN_TURNS) or float((np.diff(x) > 0.0).mean()) < MIN_RISES:
            return None
        evidence = {
            "level": math.ldexp(level, exponent),
            "swing_percent": bounded(100.0 * amount / unit),
            "share_of_progress": bounded(amount / learned),
        }
        severity, period = Severity.WARNING, _period(np.diff(x))
        if period == 2 and x.size >= 16 and turns >= 0.9:
            severity = Severity.WARNING if _rate_never_rose(history) else Severity.INFO
        elif period is not None or held_out is None:
            return None
        else:
            proven = math.ldexp(amount, exponent) >= 4.0 * _sampling_noise(history)
            seen = self._seen_in_validation(x, to_unit(held_out[good])[0], 0.5 if proven else 1.0)
            if seen is None:
                return None
            evidence |= seen
        message = (
            f"The training loss swings by {100.0 * amount / unit:.3g} % from epoch to epoch around "
            f"{math.ldexp(level, exponent):.4g} and did not settle in {x.size} epochs."
        )
        where = Where(tensor="loss")
        return Finding(self.code, severity, observation.step, observation.epoch, message, where, evidence)

    def _seen_in_validation(self, x: Floats, z: Floats, share: float) -> dict[str, float] | None:
        """The evidence that validation swings with training; ``None`` where it does not, or by chance only."""
        import numpy as np

        middle, swing_of_z = median(z.tolist()), noise(z)
        unit = middle if middle > 0.0 and float(z.min()) >= 0.0 else float(z.max() - z.min())
        agreement = max(_correlation(np.diff(x), np.diff(z)), _correlation(np.diff(x)[1:], np.diff(z)[:-1]))
        needed = max(self.min_agreement, share * self.certainty / math.sqrt(x.size - 1))
        if not unit > 0.0 or swing_of_z < 0.5 * self.min_swing * unit or agreement < needed:
            return None
        return {"validation_swing_percent": bounded(100.0 * swing_of_z / unit), "agreement": agreement}


def _start(series: Series, history: History) -> float | None:
    """The level of the first losses; the first epoch's, which holds the initial descent, where no others are known."""
    losses = history.steps.get("loss")
    level = None if losses is None else median_of_means(losses.first(16))
    return next((x for x in series.first(4).tolist() if math.isfinite(x)), None) if level is None else level


def _common(
    train_epochs: NDArray[np.int64], train: Floats, val_epochs: NDArray[np.int64], val: Floats, count: int
) -> tuple[Floats, Floats]:
    """The newest values of epochs that have both. Shapes (<= count,)."""
    import numpy as np

    if np.array_equal(train_epochs, val_epochs):
        return train[-count:], val[-count:]
    _, i, j = np.intersect1d(train_epochs, val_epochs, return_indices=True)
    return train[i][-count:], val[j][-count:]


def _rhythm(values: list[float], level: float, amount: float) -> bool:
    """Whether high points come at even or doubling distances of three epochs or more."""
    peaks = [
        i
        for i in range(1, len(values) - 1)
        if values[i] >= values[i - 1] and values[i] > values[i + 1] and values[i] > level + 0.5 * amount
    ]
    if len(peaks) < 3 or min(b - a for a, b in pairwise(peaks)) < 3:
        return False
    first = peaks[0]  # where the period began is not known
    gaps = [float(p - first) for p in peaks[1:]]
    return evenly_spaced(gaps, tolerance=0.2)


def _period(changes: Floats) -> int | None:
    """After how many epochs the changes repeat themselves; ``None`` where they do not."""
    import numpy as np

    for lag in range(2, changes.size - 5):
        a, b = changes[lag:], changes[:-lag]
        if np.ptp(a) > 0.0 and np.ptp(b) > 0.0 and float(np.corrcoef(a, b)[0, 1]) > 0.75:
            return lag
    return None


def _rate_never_rose(history: History) -> bool:
    """Whether the learning rate is logged per epoch and only ever fell or stayed."""
    rates = history.learning_rates
    return rates is not None and len(rates) > 1 and all(b <= a for a, b in pairwise(rates.values.tolist()))


def _sampling_noise(history: History) -> float:
    """Standard deviation of an epoch's mean from the noise of its batches; infinite where no step's loss is known."""
    import numpy as np

    losses, per_epoch = history.steps.get("loss"), history.facts.steps_per_epoch
    if losses is None or not per_epoch or len(losses) < 2 * per_epoch:
        return math.inf
    values = losses.values
    changes = np.diff(values[np.isfinite(values)] * 0.25)  # so that values near the float limit do not overflow
    if changes.size == 0:
        return math.inf
    exact, exponent = to_unit(changes)
    return math.ldexp(4.0 * float(np.sqrt(np.mean(exact**2) / (2.0 * per_epoch))), exponent)


def _in_turn(values: list[float]) -> float:
    """The share of changes that go the other way than the one before."""
    changes = [b - a for a, b in pairwise(values)]
    turns = [(a > 0.0) != (b > 0.0) for a, b in pairwise(changes)]
    return sum(turns) / len(turns)


def _correlation(a: Floats, b: Floats) -> float:
    """Pearson's, of ranks, so that outliers weigh no more than others; 0 where one does not vary."""
    import numpy as np

    if a.size < 4 or not np.ptp(a) > 0.0 or not np.ptp(b) > 0.0:
        return 0.0
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])
