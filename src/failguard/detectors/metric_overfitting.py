"""``metric.overfitting``: validation gets worse while training keeps getting better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import TRAIN_LOSS_NAMES, bounded, median, noise, train_loss_per_epoch
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, line, noisy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["MetricOverfitting"]


def _v(down: int, up: int, start: float, low: float, end: float) -> list[float]:
    """A curve that falls and then rises."""
    return decay(down, start, low) + line(up, low, end)


@dataclass(frozen=True, slots=True)
class MetricOverfitting:
    """Validation loss has risen since its best epoch while the training loss kept falling.

    With ``m`` the newer half of the epochs since the best one, at least ``min_epochs`` and at most 5, the *rise* is the
    median of the last ``m`` validation losses over the best one, as a share of the best one (where losses are negative:
    of the progress made until then). The *fall* is the median of the last ``m`` training losses below their median
    around the best epoch, as a share of that. The finding needs a rise above ``min_rise``, a fall above ``min_fall``,
    and a median higher above the mean of the best epoch and its neighbours than noise explains: by more than
    ``sigma * (sqrt(2 ln n / 3) + noise_factor / sqrt(m))``. The first term is how far below its mean the lowest of
    ``n`` means of three lies by chance; the second allows for a test at every epoch. ``sigma`` is the noise from epoch
    to epoch (:func:`failguard.core.statistics.noise`). The fall must be above 3 ``sigma`` of the training loss.

    ``warning``; ``error`` once the validation loss has doubled, has lost a fifth of all progress, and the best epoch
    is 10 epochs back.

    Judged is the monitored metric where lower is better, else ``val_loss``; and then not while the monitored score has
    improved within 3 epochs.

    Evidence: ``best_epoch``, ``best_value``, ``recent_value``, ``rise_percent``, ``train_fall_percent``, ``gap_ratio``
    (validation over training), ``epochs_since_best``.

    Attributes:
        min_epochs: Least epochs since the best one.
        min_rise, min_fall, noise_factor: See above.

    Source: the rule is ours. It was set on the 419 simulated curves of Li et al., "Keeping Deep Learning Models in
    Check: A History-Based Approach to Mitigate Overfitting" (2024), of which ``min_rise`` is the largest that misses
    none; ``noise_factor`` on flat noisy curves.
    """

    min_epochs: int = 4
    min_rise: float = 0.045
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
        w = min(v.size - 1 - best, 10)
        if w < self.min_epochs:
            return None
        m = max(self.min_epochs, w // 2)
        start, lowest, recent = median(v[:3].tolist()), float(v[best]), median(v[-m:].tolist())
        progress = start - lowest
        scale = lowest if lowest > 0.0 else progress
        level = float((v[best - 1 : best + 2] / 3.0).sum()) if best > 0 else lowest
        sigma = noise(v[-max(3 * w, 12) :])
        t_recent = median(t[-m:].tolist())
        # The mean over the first epoch holds the initial descent, so it is no measure of what the best epoch reached.
        t_best = median(t[max(best - 1, 1) : best + 2].tolist())
        t_fall = (t_best - t_recent) / (abs(t_best) or 1.0)
        if not scale > 0.0 or not recent > level:
            return None
        rise = (recent - lowest) / scale
        luck = math.sqrt(2.0 * math.log(v.size) / 3.0)  # how far below its mean the lowest of n means of 3 lies
        chance = sigma * (luck + self.noise_factor / math.sqrt(m))
        if not (rise > self.min_rise and t_fall > self.min_fall and recent - level > chance):
            return None
        if t_best - t_recent <= 3.0 * noise(t[-max(3 * w, 12) :]):
            return None
        severe = w >= 10 and rise >= 1.0 and recent - lowest >= 0.2 * progress
        evidence = {
            "best_epoch": float(epochs[best]),
            "best_value": lowest,
            "recent_value": recent,
            "rise_percent": bounded(100.0 * rise),
            "train_fall_percent": bounded(100.0 * t_fall),
            "epochs_since_best": float(v.size - 1 - best),
            "gap_ratio": bounded(recent / t_recent) if t_recent > 0.0 else 0.0,
        }
        message = (
            f"{name} was best in epoch {epochs[best]} ({lowest:.4g}) and has risen by {100 * rise:.3g} % since "
            f"(median of the last {m} epochs), while the training loss fell by {100 * t_fall:.3g} %."
        )
        severity = Severity.ERROR if severe else Severity.WARNING
        where = Where(tensor=name)
        return Finding(self.code, severity, observation.step, observation.epoch, message, where, evidence)


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
