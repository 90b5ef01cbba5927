"""``resource.memory_growth``: resident memory of the process, or of its loader workers, grows steadily with steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.curves import decay, line, noisy
from failguard.detectors.growth import Growth, settled_step, steady_growth

__all__ = ["ResourceMemoryGrowth"]

MB = 1e6


@dataclass(frozen=True, slots=True)
class ResourceMemoryGrowth:
    """Memory at the ends of steps grows steadily after warm-up and after the first epoch.

    What counts as steady is in :func:`failguard.detectors.growth.steady_growth`. The growth must be at least
    ``least_bytes`` and ``least_share`` of the memory. Pages of files are left out, so mapped datasets do not count. In
    the first epoch, in which caches of the data fill up, there is no finding (see ``resource.oom`` for what must not
    wait); a run without epochs is judged at its end, from ``least_bytes_without_epochs`` on.

    The memory of child processes (workers of a data loader) is looked at in the same way, by the samples of the run.

    Evidence: ``bytes_per_step``, ``grown_bytes``, ``over_steps``, ``level_bytes``; ``in_children`` is 1 where it is
    they who grow, else 0.

    Attributes:
        least_bytes, least_share, least_bytes_without_epochs: See above.

    Source: the rule is ours. Amazon SageMaker Debugger warns of a memory growth of 5 %; alone, that alarms on caches.
    """

    least_bytes: float = 64 * MB
    least_share: float = 0.05
    least_bytes_without_epochs: float = 256 * MB

    code: ClassVar[str] = "resource.memory_growth"
    events: ClassVar[frozenset[Event]] = frozenset({Event.TICK, Event.EPOCH_END, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "each step keeps half a megabyte",
            steps={"process_memory_bytes": line(1200, 900 * MB, 1500 * MB)},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
        ),
        Example(
            "each step keeps a little, under the noise of an allocator",
            steps={"process_memory_bytes": noisy(line(2000, 900 * MB, 1400 * MB), 0.01)},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
        ),
        Example(
            "a run without epochs",
            steps={"process_memory_bytes": line(2000, 900 * MB, 2000 * MB)},
        ),
        Example(
            "the loader's workers grow",
            steps={"process_memory_bytes": [900 * MB] * 1200},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
            machine={"children_rss_bytes": noisy(line(200, 2000 * MB, 4000 * MB), 0.005)},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "the allocator's noise",
            steps={"process_memory_bytes": noisy([900 * MB] * 1200, 0.03)},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
        ),
        Example(
            "a cache of the data fills up in the first epoch",
            steps={"process_memory_bytes": line(300, 900 * MB, 3000 * MB) + noisy([3000 * MB] * 900, 0.002)},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
        ),
        Example(
            "a cache that fills up ever more slowly",
            steps={"process_memory_bytes": decay(2000, 900 * MB, 3000 * MB, 6)},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
        ),
        Example(
            "one jump, as of a validation's buffers",
            steps={"process_memory_bytes": [900 * MB] * 700 + [1300 * MB] * 500},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
        ),
        Example(
            "a saw-tooth of garbage collection",
            steps={"process_memory_bytes": [900 * MB + 3 * MB * (i % 100) for i in range(1200)]},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
        ),
        Example("a short run", steps={"process_memory_bytes": line(60, 900 * MB, 1500 * MB)}),
        Example(
            "a growth that nobody feels",
            steps={"process_memory_bytes": line(1200, 900 * MB, 930 * MB)},
            epochs={"val_loss": [1.0, 0.8, 0.7, 0.6]},
        ),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the process, then at its children."""
        least_bytes = self.least_bytes
        if history.first_epoch_end is None:
            if observation.event is not Event.RUN_END:
                return None
            least_bytes = self.least_bytes_without_epochs
        for series, in_children in (
            (history.steps.get("process_memory_bytes"), False),
            (history.machine.get("children_rss_bytes"), True),
        ):
            if series is None or series.last_step is None:
                continue
            growth = steady_growth(series, settled_step(series.last_step, history.first_epoch_end), least_bytes)
            if growth is None or growth.grown_bytes < self.least_share * growth.level_bytes:
                continue
            return self._finding(observation, growth, in_children)
        return None

    def _finding(self, observation: Observation, growth: Growth, in_children: bool) -> Finding:
        whose = "of its worker processes" if in_children else "of the process"
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"The memory {whose} grew by {growth.grown_bytes / MB:,.0f} MB over {growth.steps:,} steps, steadily: "
            f"{growth.bytes_per_step / 1e3:,.1f} kB a step.",
            evidence={
                "bytes_per_step": growth.bytes_per_step,
                "grown_bytes": growth.grown_bytes,
                "over_steps": float(growth.steps),
                "level_bytes": growth.level_bytes,
                "in_children": float(in_children),
            },
        )
