"""What watching costs, measured while it runs, and how often each check may run within the budget."""

from __future__ import annotations

from failguard.report.run_report import Overhead

__all__ = ["Accounting", "Cadence"]

MAX_EVERY_STEPS = 4096
WEIGHED_RUNS = 5  # of a check, for what it costs
CHECK_SHARE = 0.3  # of the budget, for each of the three sampled checks
LEAST_CHECK_SHARE = 0.1  # of the budget, where what every step needs takes most of it
EARLY_STEPS = 1024  # in which checks have their whole share: most failures come early, and a start is short


class Cadence:
    """How often one sampled check runs.

    After each run of the check its cost is weighed against the time of a step, and the interval is widened until the
    check takes at most its share of the step time, or narrowed again down to ``least``.

    Attributes:
        every_steps: The interval now.
        least: The shortest interval, in steps.
        share: The share of step time that the check may take, 0 to 1.
    """

    __slots__ = ("_costs_s", "_due", "_free", "every_steps", "least", "share")

    def __init__(self, least: int, share: float, *, free: int = 0) -> None:
        """Args:
        least: The shortest interval, in steps.
        share: The share of step time that the check may take, 0 to 1.
        free: Runs at the beginning that come at the shortest interval whatever they cost.
        """
        self.least = least
        self._free = free
        self.every_steps = least
        self.share = share
        self._costs_s: tuple[float, ...] = ()
        self._due = 0

    @property
    def next_step(self) -> int:
        """The step from which it is due."""
        return self._due

    def due(self, step: int) -> bool:
        """Whether the check should run at this step."""
        return step >= self._due

    def ran(self, step: int, cost_s: float, step_s: float) -> None:
        """Note a run of the check.

        Args:
            step: The step it ran at.
            cost_s: What it took, in seconds.
            step_s: The typical time of a step, in seconds; 0 when not known yet.
        """
        # A median of the last few: a call in which another process had the core does not silence the check.
        self._costs_s = (*self._costs_s[1 - WEIGHED_RUNS :], cost_s)
        if self._free > 0:
            self._free -= 1
        elif step_s > 0.0 and self.share > 0.0:
            typical_s = sorted(self._costs_s)[(len(self._costs_s) - 1) // 2]
            wanted = int(typical_s / (self.share * step_s)) + 1
            self.every_steps = min(max(wanted, self.least), MAX_EVERY_STEPS)
        self._due = step + self.every_steps

    def restart(self, step: int) -> None:
        """The check is due at once, as after a resume."""
        self._due = step


class Accounting:
    """Adds up the time spent in failguard's code on the training thread.

    Parts may lie within each other, as a look inside lies within a hook: each is counted without the parts in it.

    Attributes:
        budget: The share of step time that watching may take.
        gradients: Cadence of the full gradient pass.
        detectors: Cadence of the per-step detectors.
        internals: Cadence of the look inside the model. The first four come early, so that short runs have some.
        once_s: Part of the time that falls at the start of the run, in seconds.
        counted_s: Seconds counted by :meth:`add` so far. A part that may hold others takes what was added to this
            meanwhile off its own time.
    """

    def __init__(self, budget: float) -> None:
        """Args:
        budget: Share of step time, 0 to 1.
        """
        self.budget = budget
        self.gradients = Cadence(least=10, share=budget * CHECK_SHARE)
        self.detectors = Cadence(least=16, share=budget * CHECK_SHARE)
        self.internals = Cadence(least=24, share=budget * CHECK_SHARE, free=4)
        self.parts_s: dict[str, float] = {}
        self.once_s = 0.0
        self.counted_s = 0.0
        self._extra: dict[str, int] = {}

    def add(self, part: str, seconds: float) -> None:
        """Count time just spent in a hook or part, without the parts within it."""
        self.parts_s[part] = self.parts_s.get(part, 0.0) + seconds
        self.counted_s += seconds

    def add_past(self, part: str, seconds: float) -> None:
        """Count time that was spent before the hook in progress, such as a sum over many steps."""
        self.parts_s[part] = self.parts_s.get(part, 0.0) + seconds

    def weigh_every_step(self, cost_s: float, step_s: float, steps: int) -> None:
        """Leave the sampled checks what the part that runs at every step does not take.

        That part is not sampled where it keeps bad updates away from the weights.

        Args:
            cost_s: What it takes in a step, in seconds.
            step_s: The typical time of a step, in seconds; 0 when not known yet.
            steps: Steps of the run so far.
        """
        if step_s <= 0.0 or steps < EARLY_STEPS:
            return
        left = (self.budget - cost_s / step_s) / 3
        share = min(max(left, self.budget * LEAST_CHECK_SHARE), self.budget * CHECK_SHARE)
        self.gradients.share = self.detectors.share = self.internals.share = share

    @property
    def total_s(self) -> float:
        """Seconds in all."""
        return sum(self.parts_s.values())

    def note_cadence(self, check: str, every_steps: int) -> None:
        """Record the interval of a check that an adapter runs by itself."""
        self._extra[check] = every_steps

    def overhead(self, duration_s: float, snapshot_bytes: int) -> Overhead:
        """The account so far."""
        total = self.total_s
        return Overhead(
            total_s=total,
            share=max(total - self.once_s, 0.0) / duration_s if duration_s > 0 else 0.0,
            once_s=self.once_s,
            parts_s=dict(self.parts_s),
            cadence_steps={
                "gradients": self.gradients.every_steps,
                "detectors": self.detectors.every_steps,
                "internals": self.internals.every_steps,
                **self._extra,
            },
            snapshot_bytes=snapshot_bytes,
        )
