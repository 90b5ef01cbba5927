"""What watching costs, measured while it runs, and how often each check may run within the budget."""

from __future__ import annotations

from failguard.report.run_report import Overhead

__all__ = ["Accounting", "Cadence"]

MAX_EVERY_STEPS = 4096


class Cadence:
    """How often one sampled check runs.

    After each run of the check its cost is weighed against the time of a step, and the interval is widened until the
    check takes at most its share of the step time, or narrowed again down to ``least``.

    Attributes:
        every_steps: The interval now.
    """

    __slots__ = ("_cost_s", "_due", "_free", "_share", "every_steps", "least")

    def __init__(self, least: int, share: float, *, free: int = 0) -> None:
        """Args:
        least: The shortest interval, in steps.
        share: The share of step time that the check may take, 0 to 1.
        free: Runs at the beginning that come at the shortest interval whatever they cost.
        """
        self.least = least
        self._free = free
        self.every_steps = least
        self._share = share
        self._cost_s = 0.0
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
        # An exponential mean: one slow call (a page fault, a lock) does not silence the check.
        self._cost_s = cost_s if self._cost_s == 0.0 else 0.8 * self._cost_s + 0.2 * cost_s
        if self._free > 0:
            self._free -= 1
        elif step_s > 0.0 and self._share > 0.0:
            wanted = int(self._cost_s / (self._share * step_s)) + 1
            self.every_steps = min(max(wanted, self.least), MAX_EVERY_STEPS)
        self._due = step + self.every_steps

    def restart(self, step: int) -> None:
        """The check is due at once, as after a resume."""
        self._due = step


class Accounting:
    """Adds up the time spent in failguard's code on the training thread.

    Attributes:
        budget: The share of step time that watching may take.
        gradients: Cadence of the full gradient pass.
        detectors: Cadence of the per-step detectors.
        internals: Cadence of the look inside the model. The first four come early, so that short runs have some.
        once_s: Part of the time that falls at the start of the run, in seconds.
    """

    def __init__(self, budget: float) -> None:
        """Args:
        budget: Share of step time, 0 to 1.
        """
        self.budget = budget
        self.gradients = Cadence(least=10, share=budget * 0.3)
        self.detectors = Cadence(least=16, share=budget * 0.3)
        self.internals = Cadence(least=24, share=budget * 0.3, free=4)
        self.parts_s: dict[str, float] = {}
        self.once_s = 0.0
        self._extra: dict[str, int] = {}

    def add(self, part: str, seconds: float) -> None:
        """Count time spent in a hook or part."""
        self.parts_s[part] = self.parts_s.get(part, 0.0) + seconds

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
