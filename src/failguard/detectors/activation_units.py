"""``activation.dead`` and ``activation.saturated``: units that carry nothing, in most of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, ModelFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.internals import ActivationReading, Internals
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS, held_since, layers_at

__all__ = ["ActivationDead", "ActivationSaturated"]

STRONG_DROPOUT = 0.7


def _reading(step: int, kind: str, units: int, *, dead: int = 0, saturated: int = 0) -> Internals:
    unit = ActivationReading("hidden", kind, units, dead, saturated, batches=8, samples=256)
    return Internals(step, step, activations=(unit,))


@dataclass(frozen=True, slots=True)
class ActivationDead:
    """Most units of a ReLU layer put out zero for every sample of several batches in a row.

    Counted is a unit (a channel of a convolution) that was never above zero in any of ``min_batches`` batches; zeros in
    single batches are the nature of ReLU. More than ``min_share`` of a layer is a *warning*, raised only where nothing
    is learned as well. So is a layer of a network with ReLU, and without dropout of 0.7 or more, that gets a gradient
    of exactly zero in three samples in a row while a later layer gets one.

    Evidence: ``dead_units``, ``units``, ``batches``, ``samples``, ``layers_affected``, ``since_step``.

    Attributes:
        min_share, min_batches: See above.

    Source: TheDeepChecker (Ben Braiek and Khomh, 2023) calls a layer dead with over half of its units inactive over a
    buffer of batches.
    """

    min_share: float = 0.5
    min_batches: int = 4

    code: ClassVar[str] = "activation.dead"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("all dead", internals=[_reading(20, "relu", 64, dead=64)]),
        Example(
            "no gradient gets through",
            facts=Facts(model=ModelFacts(activations=("ReLU",))),
            internals=layers_at([10, 40, 80], gradient_norms=[0.0, 0.0, 0.3]),
        ),
        Example("three quarters", internals=[_reading(20, "relu", 64, dead=20), _reading(60, "relu", 64, dead=48)]),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("some are", internals=[_reading(20, "relu", 64, dead=20)]),
        Example(
            "a window too short to tell",
            internals=[Internals(20, 20, activations=(ActivationReading("hidden", "relu", 64, 64),))],
        ),
        Example("saturated is another thing", internals=[_reading(20, "tanh", 64, saturated=60)]),
        Example(
            "a bottleneck of sigmoids loses small gradients",
            facts=Facts(model=ModelFacts(activations=("Sigmoid",))),
            internals=layers_at([10, 40, 80], gradient_norms=[0.0, 0.0, 0.3]),
        ),
        Example(
            "in one sample",
            facts=Facts(model=ModelFacts(activations=("ReLU",))),
            internals=layers_at([10], gradient_norms=[0.0, 0.0, 0.3]),
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest window, and at the newest gradients."""
        return self._without_gradient(observation, history) or _find(
            self.code,
            observation,
            history,
            lambda a: a.dead_units if a.batches >= self.min_batches else 0,
            self.min_share,
            "put out zero for every one of {samples} samples",
            "dead_units",
        )

    def _without_gradient(self, observation: Observation, history: History) -> Finding | None:
        model = history.facts.model
        # Strong dropout can switch off all that a batch would have reached.
        if not any("relu" in name.lower() for name in model.activations) or (model.dropout or 0.0) >= STRONG_DROPOUT:
            return None
        if model.batch_normalization and history.facts.batch_size == 1:  # it puts out its offset: nothing gets through
            return None
        held = held_since(history, lambda r: bool(_cut_off(r)) if r.layers else None, least=3)
        if held is None:
            return None
        names = _cut_off(held[1])
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"The gradient of {names[-1]} is exactly zero while a later layer has one: every unit in between is off.",
            Where(module=names[-1], tensor="output"),
            {"layers_affected": float(len(names)), "since_step": float(held[0].step)},
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
    min_batches: int = 4

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


def _cut_off(reading: Internals) -> list[str]:
    """Layers without any gradient before the last layer that has one."""
    norms = [(layer.name, layer.gradient_norm) for layer in reading.layers if layer.gradient_norm is not None]
    if not norms or not norms[-1][1]:
        return []
    return [name for name, norm in norms if norm == 0.0]


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
