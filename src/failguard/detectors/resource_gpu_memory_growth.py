"""``resource.gpu_memory_growth``: memory in tensors on the device grows steadily with steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.curves import line, noisy
from failguard.detectors.growth import WARM_UP_SHARE, WARM_UP_STEPS, steady_growth

__all__ = ["ResourceGpuMemoryGrowth"]

MB = 1e6


@dataclass(frozen=True, slots=True)
class ResourceGpuMemoryGrowth:
    """Memory held in tensors on the device, at the ends of steps, grows steadily after warm-up.

    At the end of a step nearly everything that the step needed is free again, so that there is little noise, and
    nothing fills up over an epoch. The growth must be at least ``least_bytes`` and ``least_share`` of the level. See
    :func:`failguard.detectors.growth.steady_growth`.

    Evidence: ``bytes_per_step``, ``grown_bytes``, ``over_steps``, ``level_bytes``.

    Attributes:
        least_bytes, least_share: See above.

    Source: the rule is ours.
    """

    least_bytes: float = 64 * MB
    least_share: float = 0.05

    code: ClassVar[str] = "resource.gpu_memory_growth"
    events: ClassVar[frozenset[Event]] = frozenset({Event.TICK, Event.EPOCH_END, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("losses are kept with their history", steps={"gpu_memory_bytes": line(800, 2000 * MB, 3000 * MB)}),
        Example(
            "a growing cache of keys and values",
            steps={"gpu_memory_bytes": noisy(line(2000, 8000 * MB, 12_000 * MB), 0.01)},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("batches of different length", steps={"gpu_memory_bytes": noisy([8000 * MB] * 800, 0.1)}),
        Example(
            "the optimizer's state is made in the first step",
            steps={"gpu_memory_bytes": [2000 * MB] + [6000 * MB] * 799},
        ),
        Example("a growth that nobody feels", steps={"gpu_memory_bytes": line(800, 2000 * MB, 2030 * MB)}),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the allocator's numbers."""
        series = history.steps.get("gpu_memory_bytes")
        if series is None or series.last_step is None:
            return None
        from_step = max(WARM_UP_STEPS, int(WARM_UP_SHARE * series.last_step))
        growth = steady_growth(series, from_step, self.least_bytes)
        if growth is None or growth.grown_bytes < self.least_share * growth.level_bytes:
            return None
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"Memory in tensors on the device grew by {growth.grown_bytes / MB:,.0f} MB over {growth.steps:,} steps, "
            f"steadily: {growth.bytes_per_step / 1e3:,.1f} kB a step.",
            evidence={
                "bytes_per_step": growth.bytes_per_step,
                "grown_bytes": growth.grown_bytes,
                "over_steps": float(growth.steps),
                "level_bytes": growth.level_bytes,
            },
        )
