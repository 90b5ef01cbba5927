"""What a GPU's own readings tell: ``resource.low_gpu_utilization``, ``.gpu_throttled``, ``.gpu_error``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.curves import noisy

__all__ = ["ResourceGpuError", "ResourceGpuThrottled", "ResourceLowGpuUtilization"]

EVENTS = frozenset({Event.TICK, Event.EPOCH_END, Event.RUN_END})


@dataclass(frozen=True, slots=True)
class ResourceLowGpuUtilization:
    """The GPUs of the run idled: of ``least_samples`` samples or more, without the first ``warm_up_samples``, 95 % are
    below ``high_percent`` and their mean is below ``low_percent``.

    Utilisation is the share of time in which anything ran on the card: a low one is waste, a high one proves nothing.

    Evidence: ``mean_percent``, ``p95_percent``, ``samples``.

    Attributes:
        high_percent, low_percent, least_samples, warm_up_samples: See above.

    Source: Amazon SageMaker Debugger, rule LowGPUUtilization: the 95th percentile is below 70 %. The mean is ours.
    """

    high_percent: float = 70.0
    low_percent: float = 50.0
    least_samples: int = 120
    warm_up_samples: int = 30

    code: ClassVar[str] = "resource.low_gpu_utilization"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("it idles", steps={"loss": [1.0] * 400}, machine={"gpu_utilization_percent": noisy([22.0] * 400, 0.2)}),
        Example(
            "it idles, with a peak now and then",
            steps={"loss": [1.0] * 400},
            machine={"gpu_utilization_percent": [95.0 if i % 40 == 0 else 30.0 for i in range(400)]},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("busy", steps={"loss": [1.0] * 400}, machine={"gpu_utilization_percent": noisy([93.0] * 400, 0.03)}),
        Example(
            "it compiles first",
            steps={"loss": [1.0] * 400},
            machine={"gpu_utilization_percent": [0.0] * 60 + [95.0] * 340},
        ),
        Example(
            "busy, but for validations",
            steps={"loss": [1.0] * 400},
            machine={"gpu_utilization_percent": [20.0 if i % 50 < 20 else 95.0 for i in range(400)]},
        ),
        Example("a short run", steps={"loss": [1.0] * 60}, machine={"gpu_utilization_percent": [5.0] * 60}),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the distribution of the samples."""
        series = history.machine.get("gpu_utilization_percent")
        if series is None or len(series) < self.least_samples + self.warm_up_samples:
            return None
        import numpy as np

        values = series.values
        values = values[self.warm_up_samples :] if len(series) <= values.size else values
        values = values[np.isfinite(values)]
        if values.size < self.least_samples:
            return None
        mean, p95 = float(values.mean()), float(np.percentile(values, 95))
        if p95 >= self.high_percent or mean >= self.low_percent:
            return None
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"The GPU is in use {mean:.0f} % of the time on average, and in 95 % of the samples less than {p95:.0f} %.",
            evidence={"mean_percent": mean, "p95_percent": p95, "samples": float(values.size)},
        )


@dataclass(frozen=True, slots=True)
class ResourceGpuThrottled:
    """The clocks of a GPU of the run were slowed by heat or a power brake in ``least_share`` of the newest samples.

    Its power limit alone is no finding: a busy card is often at it. At least ``least_samples`` samples are looked at.

    Evidence: ``throttled_share``, ``samples``.

    Attributes:
        least_share, least_samples: See above.

    Source: the reasons are NVML's clocks event reasons; the limits are ours.
    """

    least_share: float = 0.2
    least_samples: int = 60

    code: ClassVar[str] = "resource.gpu_throttled"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("hot all the time", steps={"loss": [1.0] * 200}, machine={"gpu_throttled": [0.0] * 20 + [1.0] * 180}),
        Example(
            "one of two cards, half the time",
            steps={"loss": [1.0] * 200},
            machine={"gpu_throttled": [0.5 * (i % 2) for i in range(200)]},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("never", steps={"loss": [1.0] * 200}, machine={"gpu_throttled": [0.0] * 200}),
        Example(
            "for a moment",
            steps={"loss": [1.0] * 200},
            machine={"gpu_throttled": [float(i % 20 == 0) for i in range(200)]},
        ),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Count the samples in which clocks were slowed."""
        series = history.machine.get("gpu_throttled")
        if series is None or len(series) < self.least_samples:
            return None
        values = series.recent(600)
        share = float((values > 0).mean())
        if share < self.least_share:
            return None
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"Clocks of the GPU are slowed by heat or a power brake in {100 * share:.0f} % of the samples.",
            evidence={"throttled_share": share, "samples": float(values.size)},
        )


@dataclass(frozen=True, slots=True)
class ResourceGpuError:
    """A GPU of the run reported an error since the start: memory that could not be corrected, a row remapped for that
    reason, a failed remap, an Xid of the hardware or driver, or it was lost.

    Evidence: ``errors``.

    Source: NVIDIA's guide to Xid errors and to memory errors of GPUs. Errors of the program are left out.
    """

    code: ClassVar[str] = "resource.gpu_error"
    events: ClassVar[frozenset[Event]] = EVENTS | {Event.EXCEPTION}
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("one error", steps={"loss": [1.0] * 100}, machine={"gpu_errors": [0.0] * 50 + [1.0] * 50}),
        Example("the card is lost", steps={"loss": [1.0] * 100}, machine={"gpu_errors": [0.0] * 99 + [1.0]}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("none", steps={"loss": [1.0] * 100}, machine={"gpu_errors": [0.0] * 100}),
        Example("not known", steps={"loss": [1.0] * 100}),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest count, and at the highest: a lost card counts no more."""
        series = history.machine.get("gpu_errors")
        if series is None or not len(series):
            return None
        errors = float(series.recent(4096).max())
        if not errors > 0:
            return None
        return Finding(
            self.code,
            Severity.ERROR,
            observation.step,
            observation.epoch,
            f"The GPU reported {errors:.0f} error(s) since the start of the run.",
            evidence={"errors": errors},
        )
