"""``resource.input_bound``: the step waits for data a large part of the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import median
from failguard.detectors.base import Example
from failguard.detectors.curves import noisy

__all__ = ["ResourceInputBound"]


@dataclass(frozen=True, slots=True)
class ResourceInputBound:
    """The timed steps of the run waited for data for at least ``least_share`` of their time.

    So it must be on average over at least ``least_windows`` stretches of timed steps, without the first (in which
    workers start), and over the newest quarter of them. The wait must be at least ``least_wait_s`` a step, as for
    shorter ones more workers cost more than they bring; ``least_wait_cpu_s`` where training is on the CPU, which
    loading competes for; and ``least_total_s`` in the run so far. Where the utilisation of the GPU is known and at
    least ``busy_percent``, the device has work enough while the loop waits: no finding.

    Evidence: ``wait_share``, ``wait_s_per_step``, ``step_s``, ``waited_s`` (projected on the run so far).

    Attributes:
        least_share, least_wait_s, least_wait_cpu_s, least_total_s, least_windows, busy_percent: See above.

    Source: the quantity is that of the input pipeline analysis of TensorBoard's and PyTorch's profilers; the limits are
    ours.
    """

    least_share: float = 0.35
    least_wait_s: float = 0.002
    least_wait_cpu_s: float = 0.005
    least_total_s: float = 10.0
    least_windows: int = 4
    busy_percent: float = 80.0

    code: ClassVar[str] = "resource.input_bound"
    events: ClassVar[frozenset[Event]] = frozenset({Event.TICK, Event.EPOCH_END, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("most of the time", steps={"step_s": [0.1] * 400, "data_wait_share": noisy([0.61] * 400, 0.05)}),
        Example(
            "workers deliver in bursts",
            steps={"step_s": [0.1] * 400, "data_wait_share": [0.9 if i % 4 == 0 else 0.3 for i in range(400)]},
        ),
        Example(
            "and the GPU idles",
            steps={"step_s": [0.1] * 400, "data_wait_share": [0.7] * 400},
            machine={"gpu_utilization_percent": [31.0] * 40},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("hardly any", steps={"step_s": [0.1] * 400, "data_wait_share": noisy([0.05] * 400, 0.2)}),
        Example(
            "workers take a while to start",
            steps={"step_s": [0.1] * 400, "data_wait_share": [0.95] + [0.02] * 399},
        ),
        Example("a toy whose steps are short", steps={"step_s": [0.001] * 30_000, "data_wait_share": [0.5] * 30_000}),
        Example(
            "short steps on a busy CPU", steps={"step_s": [0.008] * 8000, "data_wait_share": noisy([0.5] * 8000, 0.3)}
        ),
        Example("a short run", steps={"step_s": [0.1] * 60, "data_wait_share": [0.6] * 60}),
        Example(
            "the device has work enough meanwhile",
            steps={"step_s": [0.1] * 400, "data_wait_share": [0.7] * 400},
            machine={"gpu_utilization_percent": [97.0] * 40},
        ),
        Example(
            "only at first, while the disk was cold",
            steps={"step_s": [0.1] * 400, "data_wait_share": [0.9] * 200 + [0.02] * 200},
        ),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Weigh the timed steps."""
        waits, step_s = history.steps.get("data_wait_share"), history.steps.get("step_s")
        if waits is None or step_s is None or len(waits) <= self.least_windows or not len(step_s):
            return None
        shares = [float(x) for x in waits.values[1:]] if len(waits) <= 4096 else [float(x) for x in waits.values]
        newer = shares[-max(len(shares) // 4, 2) :]
        share = sum(shares) / len(shares)
        if not share >= self.least_share or not sum(newer) / len(newer) >= self.least_share:
            return None
        recent = [float(x) for x in step_s.recent(512) if 0 < x < float("inf")]
        if not recent:
            return None
        typical_s = median(recent)
        waited_s = share * typical_s * len(step_s)
        on_cpu = (history.facts.device or "cpu").startswith("cpu")
        least_wait_s = self.least_wait_cpu_s if on_cpu else self.least_wait_s
        if share * typical_s < least_wait_s or waited_s < self.least_total_s:
            return None
        busy = history.machine.get("gpu_utilization_percent")
        if busy is not None and len(busy) >= 8 and float(busy.recent(256).mean()) >= self.busy_percent:
            return None
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"Steps wait for data {100 * share:.0f} % of their time ({1e3 * share * typical_s:.3g} of "
            f"{1e3 * typical_s:.3g} ms a step).",
            evidence={
                "wait_share": share,
                "wait_s_per_step": share * typical_s,
                "step_s": typical_s,
                "waited_s": waited_s,
            },
        )
