"""``resource.oom``: memory is about to run out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity
from failguard.core.history import History, Series
from failguard.core.observation import Observation
from failguard.core.statistics import median
from failguard.detectors.base import Example
from failguard.detectors.curves import line, noisy
from failguard.detectors.growth import WARM_UP_SHARE, WARM_UP_STEPS, steady_growth

__all__ = ["ResourceOom"]

GB = 1e9


@dataclass(frozen=True, slots=True)
class ResourceOom:
    """At the pace of its steady growth, memory runs out before the planned end, or within an hour where there is none.

    Steady growth is that of :func:`failguard.detectors.growth.steady_growth`, of at least ``least_bytes``. What is left
    is the least of the newest samples of what the machine, or the container, can still give; for a GPU, of its memory.
    In the first epoch, in which caches of the data fill up, the end of the epoch counts as the end.

    Evidence: ``bytes_per_step``, ``left_bytes``, ``steps_left``, ``on_device`` (1 for a GPU's memory, else 0).

    Attributes:
        least_bytes, horizon_s: See above; the second is the hour.

    Source: ours.
    """

    least_bytes: float = 0.1 * GB
    horizon_s: float = 3600.0

    code: ClassVar[str] = "resource.oom"
    events: ClassVar[frozenset[Event]] = frozenset({Event.TICK, Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "it will not last to the planned end",
            steps={"process_memory_bytes": line(1024, 1 * GB, 3 * GB), "step_s": [0.1] * 1024},
            facts=Facts(max_steps=100_000),
            machine={"host_memory_available_bytes": line(100, 8 * GB, 6 * GB)},
        ),
        Example(
            "it will not last for an hour",
            steps={"process_memory_bytes": line(1024, 1 * GB, 3 * GB), "step_s": [0.1] * 1024},
            machine={"host_memory_available_bytes": line(100, 8 * GB, 6 * GB)},
        ),
        Example(
            "the memory of the GPU",
            steps={"gpu_memory_bytes": line(1024, 30 * GB, 70 * GB), "step_s": [0.1] * 1024},
            machine={"gpu_memory_left_bytes": line(100, 50 * GB, 10 * GB)},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "it lasts to the planned end",
            steps={"process_memory_bytes": line(1024, 1 * GB, 3 * GB), "step_s": [0.1] * 1024},
            facts=Facts(max_steps=2000),
            machine={"host_memory_available_bytes": line(100, 80 * GB, 78 * GB)},
        ),
        Example(
            "a cache that has filled by the end of the first epoch",
            steps={"process_memory_bytes": line(1024, 1 * GB, 3 * GB), "step_s": [0.1] * 1024},
            facts=Facts(max_epochs=100, steps_per_epoch=1100),
            machine={"host_memory_available_bytes": line(100, 8 * GB, 6 * GB)},
        ),
        Example(
            "little is left, but nothing grows",
            steps={"process_memory_bytes": noisy([60 * GB] * 1024, 0.01), "step_s": [0.1] * 1024},
            machine={"host_memory_available_bytes": [2 * GB] * 100},
        ),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Extrapolate the memory of the process, then that of the device."""
        for name, left, on_device in (
            ("process_memory_bytes", "host_memory_available_bytes", False),
            ("gpu_memory_bytes", "gpu_memory_left_bytes", True),
        ):
            series, left_series = history.steps.get(name), history.machine.get(left)
            if series is None or series.last_step is None or left_series is None or not len(left_series):
                continue
            finding = self._judge(observation, history, series, float(left_series.recent(8).min()), on_device)
            if finding is not None:
                return finding
        return None

    def _judge(
        self, observation: Observation, history: History, series: Series, left_bytes: float, on_device: bool
    ) -> Finding | None:
        last_step = series.last_step or 0
        from_step = max(WARM_UP_STEPS, int(WARM_UP_SHARE * last_step))
        if not on_device and history.first_epoch_end is not None and last_step > history.first_epoch_end:
            from_step = max(from_step, history.first_epoch_end)
        growth = steady_growth(series, from_step, self.least_bytes)
        steps_s = [float(x) for x in history.step_series("step_s").recent(64) if 0 < x < float("inf")]
        if growth is None or not steps_s:
            return None
        steps_left = left_bytes / growth.bytes_per_step
        end = self._last_step(history, on_device)
        step_s = median(steps_s)
        lasts = steps_left >= end - last_step if end is not None else steps_left * step_s >= self.horizon_s
        if lasts:
            return None
        what = "The device's memory" if on_device else "Memory"
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"{what} will run out in about {steps_left:,.0f} steps ({steps_left * step_s / 60:,.0f} minutes) if it "
            f"goes on growing by {growth.bytes_per_step / 1e3:,.1f} kB a step: {left_bytes / GB:.3g} GB are left.",
            evidence={
                "bytes_per_step": growth.bytes_per_step,
                "left_bytes": left_bytes,
                "steps_left": steps_left,
                "on_device": float(on_device),
            },
        )

    def _last_step(self, history: History, on_device: bool) -> int | None:
        facts = history.facts
        if history.first_epoch_end is None and facts.steps_per_epoch is not None and not on_device:
            return min(facts.steps_per_epoch, facts.planned_steps or facts.steps_per_epoch)
        return facts.planned_steps
