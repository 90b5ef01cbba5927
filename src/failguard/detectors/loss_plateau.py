"""``loss.plateau``: learning happened, then stopped well before convergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History, Series
from failguard.core.observation import Observation
from failguard.core.statistics import bounded, median, noise, to_unit, train_loss_per_epoch
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, line, noisy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LossPlateau"]

POOR_SHARE = 0.3  # of the trivial predictor's loss: so much left is not the end of learning
AT_ONCE_EPOCHS = 5  # that a loss has been flat after a rate that was gone from the first epochs on


@dataclass(frozen=True, slots=True)
class LossPlateau:
    """The training loss had fallen and then stayed flat for most of the run, at a level that may not be the best.

    Nearly every healthy run ends flat, and a curve alone does not say whether more was there to learn. So there are two
    findings only:

    - ``warning``: the rate is to blame. The learning rate, logged per epoch, fell below ``dead_rate`` of its highest
      value within the first half of the planned epochs; until then the loss was falling, by more than 3 ``sigma`` and
      ``min_fall`` of what had been learned over the last five epochs before; and it has been flat since, for
      ``min_epochs`` at least. Where the rate fell within the first five epochs, ``POOR_SHARE`` (0.3) of the trivial
      predictor's loss has to be left instead of the fall.
    - ``info``: the loss has been flat for at least 70 % of 20 or more epochs with less than ``small_share`` of the
      trivial predictor's loss gained (where that is known, and the loss is below it by more than 3 %). This may be all
      that the data holds, as for click-through rates.

    *Flat* is a difference between the older and newer half, by their medians, of less than the greater of one ``sigma``
    (:func:`failguard.core.statistics.noise`) and 1 % of what was learned. A plateau at the trivial predictor's loss is
    ``loss.no_learning``.

    Evidence: ``level``, ``start_loss``, ``flat_epochs``, and where known ``trivial_loss``, ``rate_share``,
    ``stopped_at_epoch``.

    Attributes:
        dead_rate, min_fall, min_epochs, small_share: See above.

    Source: the rule is ours; its restraint follows from the false alarms of others on converged runs. Settings
    fitted by ``python -m benchmarks.detection.curves``.
    """

    dead_rate: float = 1e-3
    min_fall: float = 0.05
    min_epochs: int = 8
    small_share: float = 0.15

    code: ClassVar[str] = "loss.plateau"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "the rate was gone after ten of sixty epochs",
            epochs={
                "train_loss": noisy(line(10, 2.3, 1.5) + [1.49] * 50, 0.005),
                "learning_rate": [0.1 * 0.65**i for i in range(60)],
            },
            facts=Facts(max_epochs=60),
        ),
        Example(
            "the rate was gone after two of ten epochs",
            epochs={
                "train_loss": noisy([2.1, 2.05] + [2.04] * 8, 0.002),
                "learning_rate": [0.1 * 0.01**i for i in range(10)],
            },
            facts=Facts(trivial_loss=2.303, max_epochs=10),
        ),
        Example(
            "a few percent better than trivial, for very long",
            epochs={"train_loss": noisy(decay(60, 2.4, 2.1, 30), 0.004)},
            facts=Facts(trivial_loss=2.303, max_epochs=60),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "converged: flat near zero",
            epochs={"train_loss": noisy(decay(100, 2.3, 0.05, 40), 0.01)},
            facts=Facts(trivial_loss=2.303, max_epochs=100),
        ),
        Example("converged somewhere", epochs={"train_loss": noisy(decay(100, 2.3, 1.2, 40), 0.01)}),
        Example(
            "cosine to zero at the end of the plan",
            epochs={
                "train_loss": noisy(decay(60, 2.3, 0.3, 8), 0.01),
                "lr": [0.05 * (1.0 + math.cos(math.pi * i / 60)) for i in range(60)],
            },
            facts=Facts(max_epochs=60),
        ),
        Example(
            "the rate goes down because the loss is flat",
            epochs={
                "train_loss": noisy(decay(60, 2.3, 0.3, 60), 0.01),
                "lr": [0.1 * 0.1 ** (i // 6) for i in range(60)],
            },
            facts=Facts(max_epochs=60),
        ),
        Example(
            "still falling", epochs={"train_loss": line(40, 2.3, 2.1)}, facts=Facts(trivial_loss=2.303, max_epochs=40)
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look for a loss that has been flat since the rate was gone, or since early on."""
        series = train_loss_per_epoch(history)
        if series is None or len(series) < AT_ONCE_EPOCHS + 2:
            return None
        trivial = history.facts.trivial_loss
        rates = history.learning_rates
        if rates is not None and len(rates) == len(series):
            planned = history.facts.max_epochs or len(series)
            found = self._without_rate(observation, series, rates, planned, trivial)
            if found is not None:
                return found
        if trivial is not None and trivial > 0.0 and len(series) >= 20:
            return self._near_trivial(observation, series, trivial)
        return None

    def _without_rate(
        self, observation: Observation, series: Series, rates: Series, planned: int, trivial: float | None
    ) -> Finding | None:
        values = rates.values.tolist()
        top = max((r for r in values if math.isfinite(r)), default=0.0)
        if not top > 0.0 or not 0.0 <= values[-1] < self.dead_rate * top:
            return None
        alive = [i for i, r in enumerate(values) if not r < self.dead_rate * top]
        stop = alive[-1] + 1
        # A loss sags at once as the rate goes: it counts as falling if it did so while a tenth was left.
        last_full = max(i for i, r in enumerate(values) if not r < 0.1 * top) + 1
        is_soon = last_full < 5  # too soon to have been seen falling
        if stop > 0.5 * planned or len(values) - stop < (AT_ONCE_EPOCHS if is_soon else self.min_epochs):
            return None
        import numpy as np

        x = series.values
        if not np.isfinite(x).all():
            return None
        if is_soon:
            return self._at_once(observation, series, values[-1] / top, stop, trivial)
        x, exponent = to_unit(x)
        before, sigma = x[:last_full], noise(x[stop:])
        learned = float(x[0]) - median(x[stop:].tolist())
        fall = median(before[-6:-3].tolist()) - median(before[-3:].tolist())
        if (
            not learned > 0.0
            or fall < max(3.0 * noise(before), self.min_fall * learned)
            or not _flat(x[stop:], sigma, learned)
        ):
            return None
        level = math.ldexp(median(x[stop:].tolist()), exponent)
        message = (
            f"The training loss was falling until the learning rate had shrunk to {values[-1] / top:.2g} of its "
            f"highest value; since epoch {int(series.steps[stop])} it stays at {level:.4g}."
        )
        evidence = {
            "level": level,
            "start_loss": float(series.values[0]),
            "flat_epochs": float(len(values) - stop),
            "rate_share": values[-1] / top,
            "stopped_at_epoch": float(series.steps[stop]),
        }
        return _finding(observation, Severity.WARNING, message, evidence)

    def _at_once(
        self, observation: Observation, series: Series, share: float, stop: int, trivial: float | None
    ) -> Finding | None:
        """The rate was gone within the first epochs, and much of a trivial predictor's loss is left."""
        flat = series.values[stop:]
        level = median(flat.tolist())
        if trivial is None or level < POOR_SHARE * trivial or not _flat(flat, noise(flat), trivial):
            return None
        message = (
            f"The learning rate had shrunk to {share:.2g} of its highest value by epoch {int(series.steps[stop])}; "
            f"since then the training loss stays at {level:.4g} (a trivial predictor's is {trivial:.4g})."
        )
        evidence = {
            "level": level,
            "start_loss": float(series.values[0]),
            "flat_epochs": float(flat.size),
            "rate_share": share,
            "stopped_at_epoch": float(series.steps[stop]),
            "trivial_loss": trivial,
        }
        return _finding(observation, Severity.WARNING, message, evidence)

    def _near_trivial(self, observation: Observation, series: Series, trivial: float) -> Finding | None:
        last = series.last
        if last is None or not (1.0 - self.small_share) * trivial <= last <= 0.97 * trivial:
            return None
        import numpy as np

        values = series.values
        if not np.isfinite(values).all():
            return None
        x, exponent = to_unit(values)
        flat = x[int(0.3 * x.size) :]
        level, start = median(flat.tolist()), float(x[0])
        if not start > level or not _flat(flat, noise(flat), start - level):
            return None
        level = math.ldexp(level, exponent)
        message = (
            f"The training loss has been flat at {level:.4g} for {flat.size} epochs, only "
            f"{100.0 * (1.0 - level / trivial):.2g} % below the {trivial:.4g} of a trivial predictor. That may be all "
            "there is to learn."
        )
        evidence = {
            "level": level,
            "start_loss": math.ldexp(start, exponent),
            "flat_epochs": float(flat.size),
            "trivial_loss": trivial,
        }
        return _finding(observation, Severity.INFO, message, evidence)


def _flat(values: Floats, sigma: float, learned: float) -> bool:
    half = values.size // 2
    change = median(values[:half].tolist()) - median(values[half:].tolist())
    return abs(change) <= max(sigma, 0.01 * learned)


def _finding(observation: Observation, severity: Severity, message: str, evidence: dict[str, float]) -> Finding:
    return Finding(
        LossPlateau.code,
        severity,
        observation.step,
        observation.epoch,
        message,
        Where(tensor="loss"),
        {name: bounded(value) for name, value in evidence.items()},
    )
