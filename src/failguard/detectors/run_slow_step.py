"""``run.slow_step``: single steps took far longer than the others."""

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

__all__ = ["RunSlowStep"]

WARM_UP_STEPS = 32  # compilation and the first batches


@dataclass(frozen=True, slots=True)
class RunSlowStep:
    """Steps of more than ``times`` the median, and ``least_s`` longer, cost ``least_share`` of the time of all and
    ``least_total_s``.

    Looked at are the newest 4,096 steps, without the first 32 of the run, in which things are compiled. Validations and
    checkpoints are no part of a step. It is ``info``, and a ``warning`` from ``warning_share`` on if that is at least
    ``warning_s``: a step that is slow now and then hurts nobody.

    Evidence: ``slow_steps``, ``slowest_s``, ``typical_s``, ``lost_share``, ``lost_s``; ``every_steps`` where they come
    at one distance, as from a periodic task.

    Attributes:
        times, least_s, least_share, least_total_s, warning_share, warning_s: See above.

    Source: the rule is ours; Amazon SageMaker Debugger counts steps beyond three standard deviations, which the first
    slow step makes large.
    """

    times: float = 5.0
    least_s: float = 0.25
    least_share: float = 0.05
    least_total_s: float = 10.0
    warning_share: float = 0.3
    warning_s: float = 30.0

    code: ClassVar[str] = "run.slow_step"
    events: ClassVar[frozenset[Event]] = frozenset({Event.TICK, Event.RUN_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "every hundredth takes five seconds", steps={"step_s": [5.0 if i % 100 == 99 else 0.1 for i in range(800)]}
        ),
        Example("three that hang", steps={"step_s": noisy([0.1] * 400, 0.1) + [20.0] * 3 + noisy([0.1] * 400, 0.1)}),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("the first step compiles", steps={"step_s": [60.0, *noisy([0.1] * 799, 0.1)]}),
        Example("batches of different length", steps={"step_s": noisy([0.1] * 800, 0.25)}),
        Example("one slow step", steps={"step_s": [0.1] * 600 + [2.0] + [0.1] * 199}),
        Example("short stalls of a busy machine", steps={"step_s": [0.02 if i % 10 else 0.15 for i in range(800)]}),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Weigh the slow steps against all."""
        series = history.steps.get("step_s")
        if series is None or len(series) < 4 * WARM_UP_STEPS:
            return None
        import numpy as np

        values, steps = series.values, series.steps
        if len(series) <= values.size:
            values, steps = values[WARM_UP_STEPS:], steps[WARM_UP_STEPS:]
        fine = np.isfinite(values) & (values > 0) & (values < 1e9)
        values, steps = values[fine], steps[fine]
        if values.size < 2 * WARM_UP_STEPS:
            return None
        typical = float(np.median(values))
        slow = (values > self.times * typical) & (values > typical + self.least_s)
        lost_s = float((values[slow] - typical).sum())
        share = lost_s / float(values.sum())
        if not slow.any() or share < self.least_share or lost_s < self.least_total_s:
            return None
        at = steps[slow]
        evidence = {
            "slow_steps": float(slow.sum()),
            "slowest_s": float(values[slow].max()),
            "typical_s": typical,
            "lost_share": share,
            "lost_s": lost_s,
        }
        rhythm = ""
        if at.size >= 3 and len(set(np.diff(at).tolist())) == 1:
            evidence["every_steps"] = float(at[1] - at[0])
            rhythm = f", every {at[1] - at[0]:,} steps"
        is_bad = share >= self.warning_share and lost_s >= self.warning_s
        return Finding(
            self.code,
            Severity.WARNING if is_bad else Severity.INFO,
            observation.step,
            observation.epoch,
            f"{int(slow.sum()):,} of {values.size:,} steps{rhythm} took up to {evidence['slowest_s']:.3g} s instead of "
            f"{typical:.3g} s: {100 * share:.0f} % of the time.",
            evidence=evidence,
        )
