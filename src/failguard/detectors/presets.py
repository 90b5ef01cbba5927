"""Which detectors watch a run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Protocol

from failguard.core.improvement import Mode
from failguard.core.log import logger
from failguard.detectors.activation_units import ActivationDead, ActivationSaturated
from failguard.detectors.amp_scale_collapse import AmpScaleCollapse
from failguard.detectors.base import Detector
from failguard.detectors.data_constant_feature import DataConstantFeature
from failguard.detectors.data_drift import DataDrift
from failguard.detectors.data_imbalance import DataImbalance
from failguard.detectors.data_scale import DataScale
from failguard.detectors.data_unshuffled import DataUnshuffled
from failguard.detectors.gradient_accumulating import GradientAccumulating
from failguard.detectors.gradient_exploding import GradientExploding
from failguard.detectors.gradient_missing import GradientMissing
from failguard.detectors.gradient_non_finite import GradientNonFinite
from failguard.detectors.gradient_vanishing import GradientVanishing
from failguard.detectors.loss_divergence import LossDivergence
from failguard.detectors.loss_no_learning import LossNoLearning
from failguard.detectors.loss_non_finite import LossNonFinite
from failguard.detectors.loss_oscillation import LossOscillation
from failguard.detectors.loss_plateau import LossPlateau
from failguard.detectors.loss_spike import LossSpike
from failguard.detectors.metric_degenerate_predictions import MetricDegeneratePredictions
from failguard.detectors.metric_no_improvement import MetricNoImprovement
from failguard.detectors.metric_non_finite import MetricNonFinite
from failguard.detectors.metric_overfitting import MetricOverfitting
from failguard.detectors.model_no_nonlinearity import ModelNoNonlinearity
from failguard.detectors.model_output_mismatch import ModelOutputMismatch
from failguard.detectors.model_wrong_mode import ModelWrongMode
from failguard.detectors.resource_disk_low import ResourceDiskLow
from failguard.detectors.resource_gpu import ResourceGpuError, ResourceGpuThrottled, ResourceLowGpuUtilization
from failguard.detectors.resource_gpu_memory_growth import ResourceGpuMemoryGrowth
from failguard.detectors.resource_input_bound import ResourceInputBound
from failguard.detectors.resource_memory_growth import ResourceMemoryGrowth
from failguard.detectors.resource_oom import ResourceOom
from failguard.detectors.run_exception import RunException
from failguard.detectors.run_hang import RunHang
from failguard.detectors.run_interrupted import RunInterrupted
from failguard.detectors.run_slow_step import RunSlowStep
from failguard.detectors.run_straggler import RunStraggler
from failguard.detectors.update_ratio import UpdateTooLarge, UpdateTooSmall
from failguard.detectors.weights_frozen import WeightsFrozen
from failguard.detectors.weights_non_finite import WeightsNonFinite
from failguard.errors import ConfigurationError

__all__ = ["PRESETS", "DetectorSettings", "detectors_for"]


PRESETS = ("minimal", "standard", "full")
ENTRY_POINT_GROUP = "failguard.detectors"


class DetectorSettings(Protocol):
    """The keywords of FailGuard that choose and set up detectors."""

    @property
    def detectors(self) -> str | Sequence[Detector]:
        """A preset's name, or the detectors themselves."""

    @property
    def monitor(self) -> str:
        """The monitored metric."""

    @property
    def mode(self) -> Mode:
        """Whether lower or higher is better."""

    @property
    def patience(self) -> int | None:
        """Epochs without improvement before early stopping."""


def detectors_for(settings: DetectorSettings) -> list[Detector]:
    """The detectors of a run.

    - ``"minimal"``: values that are not finite, exceptions and interrupts.
    - ``"standard"``: also how model, loss, optimizer and data fit together, what goes on inside the model, spikes,
      divergence, no learning, plateaus, oscillation and overfitting; and what the run takes of the machine.
    - ``"full"``: as ``"standard"`` in this release; it is where detectors that cost more will go.
    - A list: exactly these.

    To each of them ``metric.no_improvement`` is added where ``patience`` is set. The presets ``"standard"`` and
    ``"full"`` also take the detectors that other packages offer through the entry point group
    ``failguard.detectors`` (a class or function that makes a detector without arguments).

    Raises:
        ConfigurationError: The preset does not exist, or something in the list is no detector.
    """
    chosen = settings.detectors
    found: list[Detector]
    if isinstance(chosen, str):
        if chosen not in PRESETS:
            allowed = ", ".join(map(repr, PRESETS))
            raise ConfigurationError(
                f"detectors={chosen!r} does not exist. Allowed: {allowed}, or a list of detectors."
            )
        found = [LossNonFinite(), GradientNonFinite(), WeightsNonFinite(), MetricNonFinite()]
        if chosen != "minimal":
            found += _setup() + _inside()
            found += [LossSpike(), LossDivergence(), LossNoLearning(), LossPlateau()]
            found += [LossOscillation(), MetricOverfitting(), DataDrift(), DataImbalance()]
            found += _resources()
        found += [RunException(), RunInterrupted()]
        if chosen != "minimal":
            found += _third_party()
    else:
        found = [_checked(detector) for detector in _listed(chosen)]
    if settings.patience is not None and all(d.code != MetricNoImprovement.code for d in found):
        found.append(MetricNoImprovement(patience=settings.patience))
    return found


def _setup() -> list[Detector]:
    """How the run is put together."""
    return [
        ModelOutputMismatch(),
        ModelWrongMode(),
        ModelNoNonlinearity(),
        DataConstantFeature(),
        GradientMissing(),
        GradientAccumulating(),
        WeightsFrozen(),
        DataUnshuffled(),
        DataScale(),
    ]


def _inside() -> list[Detector]:
    """What goes on inside the model."""
    return [
        UpdateTooLarge(),
        GradientExploding(),
        ActivationSaturated(),
        ActivationDead(),
        GradientVanishing(),
        UpdateTooSmall(),
        MetricDegeneratePredictions(),
        AmpScaleCollapse(),
    ]


def _resources() -> list[Detector]:
    """What the run takes of the machine, and whether it goes on."""
    return [
        ResourceMemoryGrowth(),
        ResourceGpuMemoryGrowth(),
        ResourceInputBound(),
        ResourceLowGpuUtilization(),
        ResourceGpuThrottled(),
        ResourceGpuError(),
        ResourceDiskLow(),
        ResourceOom(),
        RunSlowStep(),
        RunStraggler(),
        RunHang(),
    ]


def _listed(chosen: object) -> Sequence[object]:
    if isinstance(chosen, Sequence):
        return chosen
    raise ConfigurationError(
        f"detectors must be one of {', '.join(map(repr, PRESETS))} or a list of detectors, not {type(chosen).__name__}."
    )


def _checked(detector: object) -> Detector:
    if isinstance(detector, type):
        raise ConfigurationError(f"detectors: {detector.__name__} is a class. Pass an instance: {detector.__name__}().")
    if not isinstance(getattr(detector, "code", None), str) or not callable(getattr(detector, "check", None)):
        raise ConfigurationError(
            f"detectors: {detector!r} is no detector. It needs a `code` and a method `check(observation, history)`; "
            "see failguard.detectors.base.Detector."
        )
    return detector  # type: ignore[return-value]


def _third_party() -> list[Detector]:
    """Detectors of other packages. One that cannot be loaded is a logged warning, never an error."""
    found = []
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            found.append(_checked(entry_point.load()()))
        except Exception as error:  # noqa: BLE001 - whatever a foreign package raises
            logger.warning(
                "failguard: the detector %r of %s cannot be used: %s: %s",
                entry_point.name,
                entry_point.value,
                type(error).__name__,
                error,
            )
    return found
