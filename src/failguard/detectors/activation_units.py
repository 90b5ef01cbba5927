"""``activation.dead`` and ``activation.saturated``: units that carry nothing, in most of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.internals import ActivationReading, Internals
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS

__all__ = ["ActivationDead", "ActivationSaturated"]


def _reading(step: int, kind: str, units: int, *, dead: int = 0, saturated: int = 0) -> Internals:
    unit = ActivationReading("hidden", kind, units, dead, saturated, batches=8, samples=256)
    return Internals(step, step, activations=(unit,))


@dataclass(frozen=True, slots=True)
class ActivationDead:
    """Most units of a ReLU layer put out zero for every sample of several batches in a row.

    Counted is a unit (a channel of a convolution) that was never above zero in any of ``min_batches`` batches; zeros in
    single batches are the nature of ReLU. More than ``min_share`` of a layer is a *warning*, raised only where nothing
    is learned as well.

    Evidence: ``dead_units``, ``units``, ``batches``, ``samples``, ``layers_affected``, ``since_step``.

    Attributes:
        min_share, min_batches: See above.

    Source: TheDeepChecker (Ben Braiek and Khomh, 2023) calls a layer dead with over half of its units inactive over a
    buffer of batches.
    """

    min_share: float = 0.5
    min_batches: int = 8

    code: ClassVar[str] = "activation.dead"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("all dead", internals=[_reading(20, "relu", 64, dead=64)]),
        Example("three quarters", internals=[_reading(20, "relu", 64, dead=20), _reading(60, "relu", 64, dead=48)]),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("some are", internals=[_reading(20, "relu", 64, dead=20)]),
        Example(
            "a window too short to tell",
            internals=[Internals(20, 20, activations=(ActivationReading("hidden", "relu", 64, 64),))],
        ),
        Example("saturated is another thing", internals=[_reading(20, "tanh", 64, saturated=60)]),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest window."""
        return _find(
            self.code,
            observation,
            history,
            lambda a: a.dead_units if a.batches >= self.min_batches else 0,
            self.min_share,
            "put out zero for every one of {samples} samples",
            "dead_units",
        )


@dataclass(frozen=True, slots=True)
class ActivationSaturated:
    """Most units of a sigmoid or tanh layer sit at a flat end, where hardly any gradient passes.

    Counted is a unit whose input was at the flat end (slope below 1 % of the maximum) for 95 % of the samples. More
    than ``min_share`` of a hidden layer is a *warning*, raised only where nothing is learned as well.

    Evidence: ``saturated_units``, ``units``, ``batches``, ``samples``, ``layers_affected``, ``since_step``.

    Attributes:
        min_share, min_batches: As of ``activation.dead``.

    Source: DeepDiagnosis (Wardat et al., ICSE 2022) takes over half of the inputs beyond 5; the slope is the same
    criterion for sigmoid and tanh.
    """

    min_share: float = 0.5
    min_batches: int = 8

    code: ClassVar[str] = "activation.saturated"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("all pinned", internals=[_reading(20, "tanh", 64, saturated=64)]),
        Example("most", internals=[_reading(20, "sigmoid", 64, saturated=40)]),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("some are", internals=[_reading(20, "tanh", 64, saturated=20)]),
        Example("dead is another thing", internals=[_reading(20, "relu", 64, dead=64)]),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest window."""
        return _find(
            self.code,
            observation,
            history,
            lambda a: a.saturated_units if a.batches >= self.min_batches else 0,
            self.min_share,
            "were at a flat end for nearly all of {samples} samples",
            "saturated_units",
        )


def _find(
    code: str,
    observation: Observation,
    history: History,
    count: Callable[[ActivationReading], int],
    min_share: float,
    words: str,
    name: str,
) -> Finding | None:
    windows = [r for r in history.internals if r.activations]
    if not windows:
        return None

    def bad(reading: Internals) -> list[ActivationReading]:
        return [a for a in reading.activations if a.units and count(a) > min_share * a.units]

    affected = bad(windows[-1])
    if not affected:
        return None
    worst = max(affected, key=lambda a: count(a) / a.units)
    since = windows[-1].step
    for reading in reversed(windows):
        found = bad(reading)
        if not found:
            break
        # What holds for every batch of a window held from its first one.
        since = min([reading.step, *(a.since_step for a in found if a.since_step >= 0)])
    return Finding(
        code,
        Severity.WARNING,
        observation.step,
        observation.epoch,
        f"{count(worst)} of {worst.units} {worst.kind} units of {worst.name} {words.format(samples=worst.samples)}.",
        Where(module=worst.name, tensor="output"),
        {
            name: float(count(worst)),
            "units": float(worst.units),
            "batches": float(worst.batches),
            "samples": float(worst.samples),
            "layers_affected": float(len(affected)),
            "since_step": float(since),
        },
    )
