"""stabilityguard's wrapper around an optimizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.detection.peers.watch import NON_FINITE, PeerWatch, UnwatchedLoop, Words

__all__ = ["WORDS", "watch"]

WORDS: Words = {
    "nan": NON_FINITE,
    "spike": ("gradient.exploding", "gradient.accumulating", "loss.spike"),
}
"""A report of a spike either names layers that are not finite or a gradient far above its mean."""


class StabilityGuardWatch(PeerWatch):
    """Lets the wrapper do the updates and reads its reports."""

    @contextmanager
    def loop(self, model: Any, optimizer: Any) -> Iterator[Any]:
        """See :class:`~benchmarks.detection.program.Watch`."""
        if isinstance(optimizer, list):
            self.unusable = "a guarded optimizer wraps one optimizer"
            yield UnwatchedLoop()
            return
        from stabilityguard import GuardedOptimizer

        with TemporaryDirectory() as folder:
            guarded = GuardedOptimizer(optimizer, model, log_dir=folder)
            loop = UnwatchedLoop()

            def step(loss: Any, batch: Any = None) -> bool:
                before = guarded.total_spikes
                guarded.step()
                if guarded.total_spikes > before:
                    self.hear(Path(folder) / f"spike_step{guarded.step_count}.json")
                self.steps += 1
                return False  # the update is done, or skipped

            loop.step = step  # type: ignore[method-assign]
            try:
                yield loop
            finally:
                guarded.close()

    def hear(self, report: Path) -> None:
        """Note a report, after which the update was skipped."""
        bad = json.loads(report.read_text())["nan_layers"]
        self.say("nan" if bad else "spike", "error" if bad else "warning")
        self.actions += 1


def watch(framework: str) -> StabilityGuardWatch:
    """A watch for one run."""
    return StabilityGuardWatch(WORDS)
