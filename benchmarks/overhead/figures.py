"""Figures of one program: medians of paired ratios with bootstrap intervals, CPU time, and the watch's own account."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from benchmarks.overhead.turns import Participant

__all__ = ["EMPTY", "Interval", "Row", "median_interval", "rows_of"]

EMPTY = ("empty", "empty again")  # the trainings with an empty callback: their mean is what others are compared with
DRAWS = 2000
TARGET_PERCENT = 1.0


@dataclass(frozen=True)
class Interval:
    """A figure with the interval that holds it in 95 % of resampled measurements. All in percent."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


@dataclass(frozen=True)
class Row:
    """What one watch costs in one program.

    Attributes:
        program, watch: Which.
        step_ms: Median time of a step without it; of an execution, where that holds several steps.
        overhead: Of the time of a typical step: median of paired ratios.
        cpu: Of CPU time, sampled checks and threads included: ratio of sums.
        own_us: Microseconds a step by its own account; ``None`` where it keeps none.
        own_percent: The same as a share of the time of its turns.
        threads_percent: CPU time of its own threads as a share of the time; ``None`` where it is not known.
        rounds, steps: Pairs, and steps of the watched training that were counted.
        said: What there is to say, such as why it could not be run.
    """

    program: str
    watch: str
    step_ms: float = 0.0
    overhead: Interval | None = None
    cpu: Interval | None = None
    own_us: float | None = None
    own_percent: float | None = None
    threads_percent: float | None = None
    rounds: int = 0
    steps: int = 0
    said: str = ""

    @property
    def target_met(self) -> str:
        """``yes`` or ``no`` where interval and account leave no doubt, else ``noise``."""
        if self.overhead is None:
            return "-"
        own = self.own_percent or 0.0
        if self.overhead.high <= TARGET_PERCENT and own <= TARGET_PERCENT:
            return "yes"
        return "no" if self.overhead.low > TARGET_PERCENT or own > TARGET_PERCENT else "noise"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def median_interval(ratios: Sequence[float], seed: int = 0) -> Interval:
    """The median of ratios as percent above one, with its bootstrap interval."""
    values = np.asarray(ratios)
    draws = np.random.default_rng(seed).choice(values, (DRAWS, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return Interval(100 * (float(np.median(values)) - 1), 100 * (float(low) - 1), 100 * (float(high) - 1))


def _sum_interval(numerators: Sequence[float], denominators: Sequence[float], seed: int = 0) -> Interval:
    """The ratio of two sums as percent above one, rounds drawn with replacement."""
    a, b = np.asarray(numerators), np.asarray(denominators)
    draws = np.random.default_rng(seed).integers(0, len(a), (DRAWS, len(a)))
    low, high = np.percentile(a[draws].sum(axis=1) / b[draws].sum(axis=1), [2.5, 97.5])
    return Interval(100 * (a.sum() / b.sum() - 1), 100 * (float(low) - 1), 100 * (float(high) - 1))


def rows_of(program: str, participants: Sequence[Participant], steps_per_tick: int = 1) -> list[Row]:
    """One row for each watch, the second empty one (the control) included."""
    empties = [p for p in participants if p.name in EMPTY]
    rows = []
    for p in participants:
        if p is empties[0]:
            continue
        if p.error is not None:
            rows.append(Row(program, p.name, said=f"{type(p.error).__name__}: {str(p.error).splitlines()[0][:200]}"))
            continue
        # The control is one empty training beside the other; all else is held against both.
        base = empties[:1] if p in empties else empties
        pairs = [
            (mine, others)
            for mine, *others in zip(p.blocks, *(e.blocks for e in base), strict=False)
            if mine is not None and all(o is not None for o in others)
        ]
        if len(pairs) < 2:
            rows.append(Row(program, p.name, said="too few rounds in the time given"))
            continue
        plain_s = [statistics.fmean(o.median_s for o in others) for _, others in pairs]
        plain_cpu_s = [statistics.fmean(o.cpu_s for o in others) for _, others in pairs]
        step_s = statistics.median(plain_s) / steps_per_tick
        steps = (p.ticks - p.warm_at) * steps_per_tick
        own_s = p.spent_s - p.spent_at_warm_s
        own_us = 1e6 * own_s / steps if own_s > 0 and steps else None
        rows.append(
            Row(
                program,
                p.name,
                step_ms=1e3 * step_s * steps_per_tick,
                overhead=median_interval([m.median_s / s for (m, _), s in zip(pairs, plain_s, strict=True)]),
                cpu=_sum_interval([m.cpu_s for m, _ in pairs], plain_cpu_s),
                own_us=own_us,
                own_percent=None if own_us is None else 100 * own_s / p.in_turns_s,
                rounds=len(pairs),
                steps=steps,
            )
        )
    return rows
