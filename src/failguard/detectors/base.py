"""What a detector is, and how its examples are replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Finding
from failguard.core.history import History
from failguard.core.improvement import Improvement, Mode
from failguard.core.observation import ExceptionFacts, Observation

__all__ = ["Detector", "Example", "replay"]

ALL_EVENTS = frozenset(Event)


@runtime_checkable
class Detector(Protocol):
    """Looks at what was measured and names a symptom, or says nothing.

    A detector is a function of the history and its own settings: it keeps no state of the run. It may report the same
    symptom at every call; merging repeats into one finding is the job of ``failguard.episodes``.

    Attributes:
        code: The finding it may raise.
        TRIPS: Examples in which it must.
        QUIET: Examples in which it must not.

    An optional attribute ``events`` (a frozenset of :class:`Event`) limits when it is called; without it, at every event.
    ``check`` at ``Event.STEP`` is called once for many steps, so it must look at the recent history, not only at the
    newest step. It is called at once after a value that is not finite.
    """

    code: str
    TRIPS: ClassVar[Sequence[Example]]
    QUIET: ClassVar[Sequence[Example]]

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at one moment."""


@dataclass(frozen=True, slots=True)
class Example:
    """A run in numbers, for tests and the reference page.

    Attributes:
        name: What it shows.
        steps: Per-step quantities, such as ``{"loss": [...], "gradient_norm": [...]}``.
        epochs: Per-epoch metrics, such as ``{"train_loss": [...], "val_loss": [...]}``. An epoch's metrics come after
            its share of the steps. ``"non_finite_weights"`` counts bad parameters and is no metric.
        facts: What the adapter would know.
        monitor, mode, min_delta: As in FailGuard.
        exception: Raised at the end.
    """

    name: str
    steps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    epochs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    monitor: str = "val_loss"
    mode: Mode = "min"
    min_delta: float = 0.0
    exception: ExceptionFacts | None = None


def replay(detector: Detector, example: Example, *, every_steps: int = 16) -> list[Finding]:
    """Feed an example to a detector the way the guard would.

    Args:
        detector: The detector.
        example: The run in numbers.
        every_steps: Steps between two checks.

    Returns:
        Everything it reported, repeats included.
    """
    raise NotImplementedError
