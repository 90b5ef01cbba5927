"""Fits the settings of the detectors that judge loss curves, on the calibration half."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.detection.curves.curve import Curve
from benchmarks.detection.curves.verdicts import listen, worst

from failguard.core.finding import Severity
from failguard.detectors.base import Detector
from failguard.detectors.loss_divergence import LossDivergence
from failguard.detectors.loss_no_learning import LossNoLearning
from failguard.detectors.loss_oscillation import LossOscillation
from failguard.detectors.loss_plateau import LossPlateau
from failguard.detectors.loss_spike import LossSpike
from failguard.detectors.metric_overfitting import MetricOverfitting

__all__ = ["DETECTORS", "GRID", "Fit", "fit"]

Settings = tuple[float, ...]  # one value for each attribute of the grid, in its order

# Two to four values an attribute, a factor of about 1.5 apart; the search starts in the middle (of two: the second).
GRID: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "loss.spike": {
        "min_sigmas": (5.0, 6.0, 8.0),
        "min_steps": (3, 4, 6),
        "min_share": (0.05, 0.08, 0.12),
        "large_share": (0.35, 0.5, 0.75),
    },
    "loss.divergence": {
        "known_factor": (2.0, 3.0, 4.5),
        "learned_factor": (7.0, 10.0, 15.0),
        "blind_factor": (20.0, 30.0, 45.0),
        "epoch_factor": (1.0, 2.0, 3.0),
    },
    "loss.no_learning": {
        # No more than these: many runs that fail have 200 updates or 3 epochs in all, and have to be judged.
        "min_updates": (100, 150),
        "min_epochs": (2, 3),
        "min_share": (0.3, 0.4, 0.5),
        "confirm_share": (0.6, 0.7, 0.8),
        "open_updates": (350, 500, 750),
        "open_epochs": (3, 5, 8),
        "own_start_updates": (700, 1000, 1500),
    },
    "loss.plateau": {
        "dead_rate": (3e-4, 1e-3, 3e-3),
        "min_fall": (0.03, 0.05, 0.08),
        "min_epochs": (6, 8, 12),
        "small_share": (0.1, 0.15, 0.2),
    },
    "loss.oscillation": {
        "min_epochs": (10, 12, 16),
        "min_swing": (0.1, 0.15, 0.2, 0.25),
        "min_agreement": (0.3, 0.4, 0.5),
        "certainty": (2.4, 3.2, 4.0),
    },
    "metric.overfitting": {
        "min_epochs": (3, 4, 5),
        "min_rise": (0.045, 0.06, 0.08),
        "min_fall": (0.05, 0.1, 0.15),
        "noise_factor": (4.5, 6.0, 8.0),
    },
}
DETECTORS: Mapping[str, Any] = {
    "loss.spike": LossSpike(),
    "loss.divergence": LossDivergence(),
    "loss.no_learning": LossNoLearning(),
    "loss.plateau": LossPlateau(),
    "loss.oscillation": LossOscillation(),
    "metric.overfitting": MetricOverfitting(),
}
# What a share of all runs costs. A share of faulty runs missed costs 1.
ERROR_COST, WARNING_COST, CONFUSION_COST = 20.0, 10.0, 1.0


@dataclass
class Fit:
    """The search for the settings of one detector.

    Attributes:
        code: The detector's.
        curves: The calibration half.
        verdicts: For each setting looked at, the severity for each curve, ``None`` where it was silent.
        chosen: The best of them.
    """

    code: str
    curves: Sequence[Curve]
    verdicts: dict[Settings, list[Severity | None]] = field(default_factory=dict)
    chosen: Settings = ()

    def best(self, without: str | None = None) -> Settings:
        """The setting looked at that costs least, a family left out; among equals the one chosen, else the first."""
        order = [self.chosen] if self.chosen else []
        return min([*order, *self.verdicts], key=lambda s: self.cost(s, without))

    def cost(self, setting: Settings, without: str | None = None) -> float:
        """What the detector's mistakes cost.

        Each family counts as one run; the simulated curves, labelled by others, as much as all families of ours.
        """
        if setting not in self.verdicts:
            self.verdicts[setting] = [_verdict(self.detector(setting), curve) for curve in self.curves]
        by_family: dict[str, list[float]] = defaultdict(list)
        missed: dict[str, list[float]] = defaultdict(list)
        for curve, severity in zip(self.curves, self.verdicts[setting], strict=True):
            if curve.family == without:
                continue
            loud = severity not in (None, Severity.INFO)
            if self.code in curve.expected:
                missed[curve.family].append(0.0 if loud else 1.0)
            elif curve.is_faulty:
                by_family[curve.family].append(CONFUSION_COST * loud)
            else:
                grave = severity is not None and severity.rank >= Severity.ERROR.rank
                by_family[curve.family].append(WARNING_COST * loud + ERROR_COST * grave)
        return _balanced(by_family) + _balanced(missed)

    def detector(self, setting: Settings) -> Detector:
        """The detector with a setting."""
        changed: Detector = replace(DETECTORS[self.code], **dict(zip(GRID[self.code], setting, strict=True)))
        return changed


def fit(code: str, curves: Sequence[Curve]) -> Fit:
    """Search one attribute after the other, once, from the middle of the grid.

    Among values that cost the same, the one nearest to the middle of the grid is taken.
    """
    grid = list(GRID[code].values())
    # The simulated curves are there for overfitting; the others are not expected to say anything of them.
    search = Fit(code, [c for c in curves if c.kind != "simulated" or code == "metric.overfitting"])
    setting = [values[len(values) // 2] for values in grid]
    for i, values in enumerate(grid):
        costs = {value: search.cost((*setting[:i], value, *setting[i + 1 :])) for value in values}
        tied = [k for k, value in enumerate(values) if costs[value] <= min(costs.values()) + 1e-9]
        setting[i] = values[min(tied, key=lambda k: abs(k - len(values) // 2))]
    search.chosen = tuple(setting)
    return search


def _verdict(detector: Detector, curve: Curve) -> Severity | None:
    return worst(listen(curve, [detector], both_ways=False)).get(detector.code)


def _balanced(costs: Mapping[str, Sequence[float]]) -> float:
    """Mean over families of their means, simulated curves and ours with equal weight where there are both."""
    means: dict[bool, list[float]] = defaultdict(list)
    for family, values in costs.items():
        means[family.startswith("simulated/")].append(sum(values) / len(values))
    parts = [sum(part) / len(part) for part in means.values()]
    return sum(parts) / len(parts) if parts else 0.0
