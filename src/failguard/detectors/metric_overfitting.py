"""``metric.overfitting``: validation gets worse while training keeps getting better."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, TargetFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import TRAIN_LOSS_NAMES, bounded, median, noise, to_unit, train_loss_per_epoch
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, line, noisy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["MetricOverfitting"]

# Parts of the names of what is better when higher.
SCORES = ("acc", "f1", "auc", "iou", "dice", "precision", "recall", "rouge", "bleu", "mcc", "kappa")
VALIDATION_SCORE = re.compile(rf"^(val|valid|validation|eval|dev|test)_?.*({'|'.join(SCORES)})")
RECENT_EPOCHS = 5
LEAST_LOST = 0.025  # of the progress; set by judgement
LONG, LONGEST = 20, 60  # epochs since the best from which, and up to which, a longer look is taken as well


def _v(down: int, up: int, start: float, low: float, end: float) -> list[float]:
    """A curve that falls and then rises."""
    return decay(down, start, low) + line(up, low, end)


@dataclass(frozen=True, slots=True)
class MetricOverfitting:
    """Validation loss has risen since its best epoch while the training loss kept falling.

    With ``m`` the newer half of the epochs since the best one, at least ``min_epochs`` and at most 5, the *rise* is the
    median of the last ``m`` validation losses over the best one, as a share of the best one (where losses are negative:
    of the progress made until then, from the higher one of the first training loss and the first three validation
    losses). Where the progress was less than the best loss, much of that cannot be learned:
    the share is then of their geometric mean, or of half the best loss if that is more. The *fall* is the median of the
    last ``m`` training losses below their median around the best epoch, as a share of that. The finding needs a rise
    above ``min_rise`` that has cost more than 2.5 % of the progress, for a task that is solved has a best loss
    near nothing; a fall above ``min_fall``; and a median higher above the mean of the best epoch and its
    neighbours than noise explains: by more than ``sigma * (sqrt(2 ln n / 3) + noise_factor / sqrt(m))``. The first term
    is how far below its mean the lowest of ``n`` means of three lies by chance; the second allows for a test at every
    epoch. ``sigma`` is the noise from epoch to epoch (:func:`failguard.core.statistics.noise`). The fall must be above
    3 ``sigma`` of the training loss, or of its logarithm.

    From 20 epochs after the best one on ``m`` is also tried as the newer half of up to 60 epochs, for curves with much
    noise, against the mean of ``m / 2`` values around the best one, which is then the 3 of the formula. Values that
    stray with a memory would look like a rise then, so ``sigma`` is the standard deviation of the last ``2 m`` around a
    straight line, and both terms grow by ``sqrt((1 + r) / (1 - r))`` (the first by 1.7 at most), with ``r`` the
    correlation of neighbours if above 0: the standard error of a mean of autocorrelated values (Bayley and Hammersley,
    1946).

    ``warning``; ``error`` once the validation loss has doubled, has lost a fifth of all progress, and the best epoch
    is 10 epochs back. Not while a score of validation (accuracy, F1, ...) has had its best value within 5 epochs:
    a net that gets surer of its mistakes may still make fewer of them.

    Where samples or classes have weights in training only, the losses measure two things, and a model that turns to the
    rare class gets worse by the one while it gets better by the other. Then the finding also needs a score, such as an
    accuracy or AUC, that is logged for both, has risen by 0.02 in training since the best epoch, and has not risen in
    validation.

    Judged is the monitored metric where lower is better, else ``val_loss``; and then not while the monitored score has
    improved within 3 epochs.

    Evidence: ``best_epoch``, ``best_value``, ``recent_value``, ``rise_percent``, ``train_fall_percent``, ``gap_ratio``
    (validation over training), ``epochs_since_best``.

    Attributes:
        min_epochs: Least epochs since the best one.
        min_rise, min_fall, noise_factor: See above.

    Source: the rule is ours. Settings fitted by ``python -m benchmarks.detection.curves`` on one half of the 419
    simulated curves of Li et al., "Keeping Deep Learning Models in Check: A History-Based Approach to Mitigate
    Overfitting" (2024), and of synthetic curves of many kinds.
    """

    min_epochs: int = 4
    min_rise: float = 0.06
    min_fall: float = 0.1
    noise_factor: float = 6.0

    code: ClassVar[str] = "metric.overfitting"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("a plain V", epochs={"train_loss": decay(40, 1.0, 0.05), "val_loss": _v(12, 28, 0.9, 0.5, 0.8)}),
        Example(
            "a large model on little data",
            epochs={
                "train_loss": decay(24, 2.2, 0.005, 4),
                "val_loss": [2.1, 1.7, 1.3, 1.0, 0.91, 0.88, 0.86, 0.85, *line(16, 0.86, 1.03)],
            },
        ),
        Example(
            "slow and small, over hundreds of epochs",
            epochs={"train_loss": decay(300, 1.0, 0.2, 2.5), "val_loss": _v(100, 200, 0.7, 0.35, 0.39)},
        ),
        Example(
            "noisy",
            epochs={"train_loss": noisy(decay(60, 1.0, 0.1), 0.05), "val_loss": noisy(_v(15, 45, 0.9, 0.5, 0.9), 0.04)},
        ),
        Example(
            "few validation samples: the noise is a third of the rise",
            epochs={
                "train_loss": noisy(decay(160, 1.3, 0.05), 0.02),
                "val_loss": noisy(_v(40, 120, 1.3, 0.6, 0.9), 0.1, 1),
            },
        ),
        Example(
            "a likelihood", epochs={"train_loss": line(40, 0.0, -900.0), "val_loss": _v(15, 25, 0.0, -300.0, 200.0)}
        ),
        Example(
            "the score that is watched has stopped rising",
            epochs={
                "train_loss": decay(40, 1.0, 0.05),
                "val_loss": _v(12, 28, 0.9, 0.5, 0.8),
                "val_acc": line(12, 0.3, 0.8) + [0.79] * 28,
            },
            monitor="val_acc",
            mode="max",
        ),
        Example(
            "most cannot be learned: up by a fifth of what was",
            epochs={"train_loss": decay(120, 1.08, 0.54, 3), "val_loss": _v(60, 60, 1.08, 0.9, 0.94)},
        ),
        Example(
            "classes weigh differently in training, and the score agrees",
            epochs={
                "train_loss": decay(40, 1.0, 0.05),
                "val_loss": _v(12, 28, 0.9, 0.5, 0.8),
                "accuracy": line(40, 0.6, 0.99),
                "val_accuracy": [*line(12, 0.6, 0.8), *line(28, 0.8, 0.78)],
            },
            facts=Facts(target=TargetFacts(weigh_differently=True)),
        ),
        Example("best in the first epoch", epochs={"train_loss": decay(20, 0.9, 0.01), "val_loss": line(20, 0.5, 1.5)}),
        Example("Keras names", epochs={"loss": decay(40, 1.0, 0.05), "val_loss": _v(12, 28, 0.9, 0.5, 0.8)}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("both fall", epochs={"train_loss": decay(50, 2.3, 0.1), "val_loss": decay(50, 2.3, 0.2)}),
        Example(
            "converged: validation flat within noise",
            epochs={"train_loss": decay(80, 1.0, 0.3, 20), "val_loss": noisy(decay(80, 1.0, 0.35, 20), 0.02)},
        ),
        Example(
            "flat with the noise of few samples, for long",
            epochs={
                "train_loss": noisy(decay(160, 1.3, 0.05), 0.02),
                "val_loss": noisy(decay(160, 1.3, 0.6, 20), 0.2, 1),
            },
        ),
        Example(
            "training falls to nothing, validation stays flat and noisy",
            epochs={"train_loss": decay(60, 2.3, 1e-3, 7), "val_loss": noisy(decay(60, 2.3, 0.4, 5), 0.05)},
        ),
        Example(
            "spikes",
            epochs={
                "train_loss": decay(60, 1.0, 0.2),
                "val_loss": [3.0 if i % 7 == 6 else x for i, x in enumerate(noisy(decay(60, 1.0, 0.3), 0.02))],
            },
        ),
        Example(
            "double descent with a low hill",
            epochs={"train_loss": decay(90, 1.0, 0.3), "val_loss": _v(20, 20, 1.0, 0.5, 0.51) + decay(50, 0.51, 0.3)},
        ),
        Example(
            "both get worse: no overfitting",
            epochs={"train_loss": _v(12, 28, 0.9, 0.5, 0.8), "val_loss": _v(12, 28, 0.9, 0.5, 0.8)},
        ),
        Example(
            "worse for three epochs only",
            epochs={
                "train_loss": decay(12, 1.0, 0.1),
                "val_loss": [0.9, 0.8, 0.7, 0.6, 0.7, 0.7, 0.7, 0.55, 0.5, 0.6, 0.6, 0.6],
            },
        ),
        Example(
            "the score that is watched still rises",
            epochs={
                "train_loss": decay(40, 1.0, 0.05),
                "val_loss": _v(12, 28, 0.9, 0.5, 0.8),
                "val_acc": line(40, 0.3, 0.9),
            },
            monitor="val_acc",
            mode="max",
        ),
        Example(
            "solved: what is left is noise near zero",
            epochs={"train_loss": decay(40, 2.3, 1e-4, 20), "val_loss": noisy(decay(40, 2.3, 0.03, 20), 0.1)},
        ),
        Example(
            "solved: a hundred times its best, which is next to nothing",
            epochs={
                "train_loss": decay(60, 2.3, 1e-5, 5),
                "val_loss": [*decay(20, 2.3, 3e-4, 3), *line(40, 3e-4, 0.05)],
            },
        ),
        Example(
            "up by four percent of what is left, which is little of what was learned",
            epochs={"train_loss": decay(120, 1.0, 0.1, 3), "val_loss": _v(60, 60, 1.0, 0.33, 0.343)},
        ),
        Example(
            "classes weigh differently in training only: the score gets better",
            epochs={
                "train_loss": decay(16, 1.13, 0.57),
                "val_loss": line(16, 0.235, 0.41),
                "auc": line(16, 0.66, 0.81),
                "val_auc": line(16, 0.68, 0.85),
            },
            facts=Facts(target=TargetFacts(weigh_differently=True)),
        ),
        Example(
            "classes weigh differently in training only, and no score is known",
            epochs={"train_loss": decay(16, 1.13, 0.57), "val_loss": line(16, 0.235, 0.41)},
            facts=Facts(target=TargetFacts(weigh_differently=True)),
        ),
        Example("no training loss", epochs={"val_loss": _v(12, 28, 0.9, 0.5, 0.8)}),
        Example("no validation", epochs={"train_loss": decay(40, 1.0, 0.05)}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare validation and training at the end of an epoch."""
        import numpy as np

        name = _validation_name(history)
        if name is None or name not in observation.values:
            return None
        if name == history.monitor and history.improvement.waited_epochs < self.min_epochs:
            return None
        train = train_loss_per_epoch(history)
        if train is None:
            return None
        epochs, t, v = _paired(train.steps, train.values, history.epochs[name].steps, history.epochs[name].values)
        best = int(np.argmin(v)) if v.size else 0
        since = v.size - 1 - best
        if since < self.min_epochs:
            return None
        lowest = float(v[best])
        # Much may be learned before the first validation; the mean over the first epoch is from before it.
        progress = max(median(v[:3].tolist()), float(t[0])) - lowest
        unit = lowest if lowest > 0.0 else progress
        if not unit > 0.0:
            return None
        scale = unit * math.sqrt(min(max(progress / unit, 0.25), 1.0))
        short = min(since, 10)
        windows = [max(self.min_epochs, short // 2)] + ([min(since, LONGEST) // 2] if since >= LONG else [])
        m = next((m for m in windows if self._is_worse(t, v, best, m, scale, progress)), None)
        if m is None:
            return None
        if history.facts.target.weigh_differently and not _a_score_agrees(history, int(epochs[best]), m):
            return None
        recent, t_recent = median(v[-m:].tolist()), median(t[-m:].tolist())
        t_best = _around(t, best)
        rise, t_fall = (recent - lowest) / unit, (t_best - t_recent) / (abs(t_best) or 1.0)
        gain = recent - _level(v, best, m)[0]
        severe = since >= 10 and gain >= unit and gain >= 0.2 * progress
        evidence = {
            "best_epoch": float(epochs[best]),
            "best_value": lowest,
            "recent_value": recent,
            "rise_percent": bounded(100.0 * rise),
            "train_fall_percent": bounded(100.0 * t_fall),
            "epochs_since_best": float(since),
            "gap_ratio": bounded(recent / t_recent) if t_recent > 0.0 else 0.0,
        }
        message = (
            f"{name} was best in epoch {epochs[best]} ({lowest:.4g}) and has risen by {100 * rise:.3g} % since "
            f"(median of the last {m} epochs), while the training loss fell by {100 * t_fall:.3g} %."
        )
        if severe and (score := _improving_score(history)):
            message += f" {score} still improves."
            severe = False
        severity = Severity.ERROR if severe else Severity.WARNING
        where = Where(tensor=name)
        return Finding(self.code, severity, observation.step, observation.epoch, message, where, evidence)

    def _is_worse(self, t: Floats, v: Floats, best: int, m: int, scale: float, progress: float) -> bool:
        """Whether the last ``m`` validation losses are above the best, and training losses below, beyond noise."""
        lowest, recent, t_recent = float(v[best]), median(v[-m:].tolist()), median(t[-m:].tolist())
        t_best = _around(t, best)
        rise, t_fall = (recent - lowest) / scale, (t_best - t_recent) / (abs(t_best) or 1.0)
        if not (rise > self.min_rise and t_fall > self.min_fall and recent - lowest > LEAST_LOST * progress):
            return False
        is_long = m >= LONG // 2
        level, count = _level(v, best, m)
        span = max(3 * min(v.size - 1 - best, 10), 12)
        sigma, memory = _wander(v[-2 * m :]) if is_long else (noise(v[-span:]), 1.0)
        # How far below its mean the lowest of n means of so many values lies.
        luck = math.sqrt(2.0 * math.log(v.size) / count) * min(memory, math.sqrt(3.0))
        if recent - level <= sigma * (luck + memory * self.noise_factor / math.sqrt(m)):
            return False
        return t_best - t_recent > 3.0 * noise(t[-span:]) or _falls_by_factors(t[-span:], t_best, t_recent)


def _level(val: Floats, best: int, m: int) -> tuple[float, int]:
    """Mean of the values around the best one, and how many were meant: three, or half of many."""
    reach = m // 4 if m >= LONG // 2 else 1
    near = val[max(best - reach, 0) : best + reach + 1] if best > 0 else val[:1]
    return float((near / near.size).sum()), 2 * reach + 1


def _around(train: Floats, best: int) -> float:
    """The training loss around the best epoch.

    The mean over the first epoch holds the initial descent, so it is no measure of what the best epoch reached.
    """
    return median(train[max(best - 1, 1) : best + 2].tolist())


def _improving_score(history: History) -> str | None:
    """A validation score, better where higher, whose best value is among its newest five; ``None`` where none is."""
    for name, series in history.epochs.items():
        values = [x for x in series.values.tolist() if math.isfinite(x)]
        if not VALIDATION_SCORE.search(name.lower()) or len(values) <= RECENT_EPOCHS:
            continue
        if max(values[-RECENT_EPOCHS:]) > max(values[:-RECENT_EPOCHS]):
            return name
    return None


def _falls_by_factors(train: Floats, at_best: float, recent: float) -> bool:
    """Whether the training loss fell beyond noise on a scale of logarithms, where an exponential fall has no bend."""
    import numpy as np

    if not (recent > 0.0 and at_best > 0.0 and float(train.min()) > 0.0):
        return False
    return math.log(at_best / recent) > 3.0 * noise(np.log(train))


def _wander(values: Floats) -> tuple[float, float]:
    """Standard deviation around a straight line, and the factor that memory adds to the standard error of a mean."""
    import numpy as np

    x, exponent = to_unit(values)
    at = np.linspace(-1.0, 1.0, x.size)
    rest = x - x.mean() - at * float(at @ x) / float(at @ at)
    power = float(rest @ rest)
    if not power > 0.0:
        return 0.0, 1.0
    memory = min(max(float(rest[1:] @ rest[:-1]) / power, 0.0), 0.95)
    return math.ldexp(math.sqrt(power / x.size), exponent), math.sqrt((1.0 + memory) / (1.0 - memory))


def _validation_name(history: History) -> str | None:
    """The series to judge: the monitored metric if lower is better, else the validation loss."""
    best = history.improvement
    if best.mode == "min" and history.monitor not in TRAIN_LOSS_NAMES and history.monitor in history.epochs:
        return history.monitor
    if "val_loss" not in history.epochs:
        return None
    if best.mode == "max" and history.monitor in history.epochs and best.waited_epochs < 3:
        return None  # the score that the user cares about still improves
    return "val_loss"


def _a_score_agrees(history: History, best_epoch: int, m: int) -> bool:
    """Whether a score between 0 and 1 got better in training since an epoch, and did not in validation."""
    import numpy as np

    for name, train in history.epochs.items():
        val = history.epochs.get(f"val_{name.removeprefix('train_')}")
        is_score = any(word in name.lower() for word in SCORES)
        if val is None or not is_score or "loss" in name or len(val) < m or len(train) < m:
            continue
        rises = []
        for series in (train, val):
            values, at = series.values, int(np.searchsorted(series.steps, best_epoch))
            rises.append(median(values[-m:].tolist()) - median(values[max(at - 1, 0) : at + 2].tolist()))
        if rises[0] > 0.02 and rises[1] <= 0.0:
            return True
    return False


def _paired(
    train_epochs: NDArray[np.int64], train: Floats, val_epochs: NDArray[np.int64], val: Floats
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """The epochs in which both values are finite. Shapes (n,)."""
    import numpy as np

    if train_epochs.size != val_epochs.size or not np.array_equal(train_epochs, val_epochs):
        epochs, i, j = np.intersect1d(train_epochs, val_epochs, return_indices=True)
        train, val = train[i], val[j]
    else:
        epochs = train_epochs
    good = np.isfinite(train) & np.isfinite(val)
    return epochs[good], train[good], val[good]
