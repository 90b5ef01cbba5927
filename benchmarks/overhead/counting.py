"""Counts what failguard's own code does in training steps: calls, memory that stays, waits for a device. No clock."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import failguard
from failguard import accounting, guard
from failguard.resources import sampler, windows

__all__ = ["OWN", "Counts", "StepCounter", "counted_syncs", "fixed_cadences"]

OWN = str(Path(failguard.__file__).parent)
# What makes the host wait for an accelerator, were the tensor there.
SYNCS = ("item", "tolist", "cpu", "numpy", "nonzero", "__float__", "__int__", "__bool__", "__index__")


@dataclass
class Counts:
    """What was counted over some steps.

    Attributes:
        steps: Steps counted.
        calls: Calls of Python functions of failguard's, by step.
        by_function: The same over all steps, by ``"file:function"``.
        builtin_calls: Calls of built-in functions from failguard's code, over all steps.
        syncs: Reads of tensors from failguard's code that would wait for an accelerator, over all steps.
        sync_places: The same by file.
        kept_blocks, kept_bytes: Memory that failguard's code took and did not give back.
        kept_where: The places where most of it was taken.
    """

    steps: int = 0
    calls: list[int] = field(default_factory=list)
    by_function: Counter[str] = field(default_factory=Counter)
    builtin_calls: int = 0
    syncs: int = 0
    sync_places: Counter[str] = field(default_factory=Counter)
    kept_blocks: int = 0
    kept_bytes: int = 0
    kept_where: list[str] = field(default_factory=list)

    @property
    def ordinary_calls(self) -> int:
        """Calls in the step that is most common: one in which no check is due."""
        return Counter(self.calls).most_common(1)[0][0] if self.calls else 0

    @property
    def mean_calls(self) -> float:
        """Calls a step, checks included."""
        return sum(self.calls) / max(len(self.calls), 1)

    def mean_calls_in(self, *folders: str) -> float:
        """Calls a step of functions in files under these folders."""
        return sum(n for name, n in self.by_function.items() if name.startswith(folders)) / max(self.steps, 1)

    @property
    def mean_builtin_calls(self) -> float:
        """Calls of built-in functions a step."""
        return self.builtin_calls / max(self.steps, 1)

    def busiest(self, n: int = 12) -> str:
        """The functions that are called most, a line each."""
        return "\n".join(
            f"{count / max(self.steps, 1):8.2f} a step  {name}" for name, count in self.by_function.most_common(n)
        )


class StepCounter:
    """Counts the steps ``first`` to ``first + steps``; :meth:`tick` is to be called at the start of each step.

    Calls and memory are counted in two halves, as counting calls takes memory and slows down.
    """

    def __init__(self, first: int, steps: int) -> None:
        """Args:
        first: Steps to let pass: caches, first batches, start of threads.
        steps: Steps over which calls are counted, and as many after them over which memory is.
        """
        self.counts = Counts()
        self.last = first + 2 * steps
        self._first = first
        self._steps = steps
        self._seen = 0
        self._calls = 0
        self._before: tracemalloc.Snapshot | None = None

    def tick(self) -> None:
        """A step begins."""
        seen, self._seen = self._seen, self._seen + 1
        if seen == self._first:
            self._calls = 0
            sys.setprofile(self._profile)
        elif self._first < seen <= self._first + self._steps:
            self.counts.calls.append(self._calls)
            self.counts.steps += 1
            self._calls = 0
            if seen == self._first + self._steps:
                sys.setprofile(None)
                tracemalloc.start()
                gc.collect()
                self._before = _own_memory()
        elif seen == self.last - 1:
            self._compare()

    def close(self) -> None:
        """Stop counting, whatever happened."""
        sys.setprofile(None)
        if tracemalloc.is_tracing():
            tracemalloc.stop()

    def _compare(self) -> None:
        gc.collect()
        after = _own_memory()
        if self._before is not None:
            # Series grow to a size that is fixed; that it is, tests of core/history.py say.
            rows = [r for r in after.compare_to(self._before, "lineno") if not _is_series(r)]
            self.counts.kept_blocks = sum(row.count_diff for row in rows)
            self.counts.kept_bytes = sum(row.size_diff for row in rows)
            grown = sorted(rows, key=lambda row: -row.size_diff)[:5]
            self.counts.kept_where = [
                f"{row.size_diff} bytes in {row.count_diff} blocks: {row.traceback}" for row in grown
            ]
        tracemalloc.stop()

    def _profile(self, frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(OWN):
            return
        if event == "call":
            self._calls += 1
            self.counts.by_function[f"{code.co_filename[len(OWN) + 1 :]}:{code.co_name}"] += 1
        elif event == "c_call":
            self.counts.builtin_calls += 1


def _is_series(row: tracemalloc.StatisticDiff) -> bool:
    return row.traceback[0].filename.endswith("core/history.py")


def _own_memory() -> tracemalloc.Snapshot:
    return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{OWN}/*")])


@contextmanager
def fixed_cadences() -> Iterator[None]:
    """Every sampled check runs at its shortest interval, whatever it costs: so that no count depends on the clock.

    What is done every few seconds is left out, and so are the threads that sample by the clock.
    """
    ran, closed, every_s = accounting.Cadence.ran, windows.Windows.closed, guard.PROGRESS_EVERY_S
    start = sampler.Sampler.start

    def always_cheap(self: accounting.Cadence, step: int, cost_s: float, step_s: float) -> None:
        ran(self, step, 0.0, 1.0)

    def soon_again(self: windows.Windows, step: int, cost_s: float, total_s: float) -> None:
        self.next_step = step + windows.EARLY_EVERY_STEPS

    accounting.Cadence.ran = always_cheap  # type: ignore[method-assign]
    windows.Windows.closed = soon_again  # type: ignore[method-assign]
    guard.PROGRESS_EVERY_S = 1e9
    sampler.Sampler.start = lambda self: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        accounting.Cadence.ran = ran  # type: ignore[method-assign]
        windows.Windows.closed = closed  # type: ignore[method-assign]
        guard.PROGRESS_EVERY_S = every_s
        sampler.Sampler.start = start  # type: ignore[method-assign]


@contextmanager
def counted_syncs(counts: Counts) -> Iterator[None]:
    """Count reads of tensors from failguard's own code, by stand-ins for the methods that read them."""
    import torch

    originals = {name: getattr(torch.Tensor, name) for name in SYNCS}

    def stand_in(original: Any) -> Any:
        def read(*args: Any, **kwargs: Any) -> Any:
            place = sys._getframe(1).f_code.co_filename
            if place.startswith(OWN):
                counts.syncs += 1
                counts.sync_places[place[len(OWN) + 1 :]] += 1
            return original(*args, **kwargs)

        return read

    for name, original in originals.items():
        setattr(torch.Tensor, name, stand_in(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch.Tensor, name, original)
