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
from failguard.core.statistics import TRAIN_LOSS_NAMES, noise, train_loss_per_epoch
from failguard.detectors.base import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["MetricOverfitting"]


@dataclass(frozen=True, slots=True)
class MetricOverfitting:
    r"""Validation loss has risen since its best epoch, beyond noise, while the training loss kept falling.

    With ``w`` the epochs since the best one, at least ``min_epochs`` and at most 10, all of these hold:

    - *rise*: the mean of the last ``w`` validation losses is above the best level (the lowest mean of three neighbouring
      epochs, or the lowest value where that is at an end) by more than ``sigmas`` standard errors, ``sigma * sqrt(2 / w)``,
      ``sigma`` being the noise between epochs;
    - *share*: it is above the lowest value by ``min_rise``, and the training loss has fallen by ``min_fall`` since the best
      epoch; or by ``early_rise``, and training fell by ``early_fall``. The second pair sees the fast overfitting of a large
      model on little data within a few epochs.

    Shares are of the best validation loss, or of the progress made until then where losses may be negative.
    ``warning``; ``error`` once the validation loss has doubled, lost a fifth of all progress and stayed there for 10 epochs.

    Evidence: ``best_epoch``, ``best_value``, ``recent_value``, ``rise_percent``, ``rise_sigmas`` (of one epoch's noise),
    ``train_fall_percent``, ``epochs_since_best``.

    Attributes:
        min_epochs: Least epochs since the best one.
        min_rise, min_fall: See *share*, 0 to 1. From the plain rule in the source below (5 %, 2 sigma, "still falling"),
            set anew on 419 simulated curves labelled by their makers.
        early_rise, early_fall: See *share*.
        sigmas: See *rise*.

    Source: Li et al., "Keeping Deep Learning Models in Check: A History-Based Approach to Mitigate Overfitting" (2024),
    whose simulated curves the thresholds were calibrated on; noise: von Neumann (1941), see ``core.statistics.noise``.
    """

    min_epochs: int = 4
    min_rise: float = 0.04
    min_fall: float = 0.1
    early_rise: float = 0.01
    early_fall: float = 0.2
    early_gap: float = 8.0

    code: ClassVar[str] = "metric.overfitting"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = ()
    QUIET: ClassVar[Sequence[Example]] = ()

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
        start, lowest, recent = float(np.median(v[:3])), float(v[best]), float(np.median(v[-w:]))
        progress = start - lowest
        scale = lowest if lowest > 0.0 else progress
        level = float(v[best - 1 : best + 2].mean()) if best > 0 else lowest
        sigma = noise(v[-max(3 * w, 12) :])
        t_recent = float(np.median(t[-w:]))
        # The mean over the first epoch holds the initial descent, so it is no measure of what the best epoch reached.
        t_best = float(np.median(t[max(best - 1, 1) : best + 2]))
        t_fall = (t_best - t_recent) / (abs(t_best) or 1.0)
        if not scale > 0.0 or not recent > level:
            return None
        rise = (recent - lowest) / scale
        luck = math.sqrt(2.0 * math.log(v.size) / 3.0)  # how far below its mean the lowest of n means of 3 lies
        plain = rise > self.min_rise and t_fall > self.min_fall and recent - level > sigma * (luck + 2.5 / math.sqrt(w))
        early = (
            rise > self.early_rise
            and t_fall > self.early_fall
            and lowest > 0.05 * start
            and recent > self.early_gap * t_recent > 0.0
        )
        if not (plain or early):
            return None
        severe = w >= 10 and recent >= 2.0 * lowest and recent - lowest >= 0.2 * progress
        evidence = {
            "best_epoch": float(epochs[best]),
            "best_value": lowest,
            "recent_value": recent,
            "rise_percent": 100.0 * rise,
            "rise_sigmas": (recent - level) / sigma if sigma > 0.0 else 1e9,
            "train_fall_percent": 100.0 * t_fall,
            "epochs_since_best": float(v.size - 1 - best),
        }
        message = (
            f"{name} was best in epoch {epochs[best]} ({lowest:.4g}) and has risen by {100 * rise:.3g} % since "
            f"(mean of the last {w} epochs), while the training loss fell by {100 * t_fall:.3g} %."
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

