"""What a peer said and did while one program ran, whatever the peer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["NON_FINITE", "PeerWatch", "Words"]

Words = Mapping[str, tuple[str, ...]]
"""For each word of a peer the codes it may stand for, the nearest first."""

NON_FINITE = (
    "loss.non_finite",
    "gradient.non_finite",
    "weights.non_finite",
    "metric.non_finite",
    "data.non_finite",
)
"""A peer that says NaN is not asked where it was."""


class UnwatchedLoop:
    """A plain loop that a peer has no hand in."""

    should_stop = False

    def step(self, loss: Any, batch: Any = None) -> bool:
        return True

    def end_epoch(self, **metrics: Any) -> None:
        """Nothing to do."""


class PeerWatch:
    """Collects the words of a peer.

    Attributes:
        callbacks: See :class:`~benchmarks.detection.program.Watch`.
        steps: Steps seen so far; the number of the step that runs, from 0.
        actions: How often the peer changed the training: skipped an update, rolled back, changed the rate, stopped.
        stopped: The peer ended the run.
        unusable: Why the peer cannot watch this program; empty if it can.
    """

    def __init__(self, words: Words) -> None:
        self._words = words
        self._said: dict[tuple[str, str], dict[str, Any]] = {}
        self.callbacks: list[Any] = []
        self.steps = 0
        self.actions = 0
        self.stopped = False
        self.unusable = ""

    @contextmanager
    def loop(self, model: Any, optimizer: Any) -> Iterator[Any]:
        """See :class:`~benchmarks.detection.program.Watch`."""
        self.unusable = "no documented use in a plain loop"
        yield UnwatchedLoop()

    def say(self, word: str, severity: str, step: int | None = None) -> None:
        """Note a word of the peer. Said again, it is counted only: one alarm, not many.

        Args:
            word: A key of the table of words. Another word, of a later version say, is an alarm that names nothing.
            severity: ``"info"``, ``"warning"`` or ``"error"``, as the peer meant it.
            step: Where; the current step by default.
        """
        codes = self._words.get(word, ())
        new = {
            "code": codes[0] if codes else word,
            "codes": list(codes),
            "said": word,
            "severity": severity,
            "step": self.steps if step is None else step,
            "times": 0,
        }
        self._said.setdefault((word, severity), new)["times"] += 1

    def seen(self) -> dict[str, Any]:
        """Plain values in the form that ``scoring.score`` reads, and what is asked of peers only."""
        findings = sorted(self._said.values(), key=lambda f: f["step"])
        loud = [f["code"] for f in findings if f["severity"] != "info"]
        return {
            "status": "stopped" if self.stopped else "completed",
            "findings": findings,
            "root": loud[0] if loud else None,
            "causes": [],
            "steps": self.steps,
            "planned_steps": None,
            "actions": self.actions,
            **({"unusable": self.unusable} if self.unusable else {}),
        }
