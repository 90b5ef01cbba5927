"""What a program of the zoo is: a training as users write it, with the truth about it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["PROGRAMS", "Program", "Run", "Truth", "Watch", "case", "half_of", "healthy"]

FRAMEWORKS = ("lightning", "keras", "torch")


class Watch(Protocol):
    """What a program gets from whoever watches it. A program does nothing else for its watcher."""

    callbacks: list[Any]
    """For ``Trainer(callbacks=...)`` or ``fit(callbacks=...)``; a new list, to be changed freely."""

    def loop(self, model: Any, optimizer: Any) -> AbstractContextManager[Any]:
        """For a plain loop: an object with ``step(loss=, batch=)``, ``should_stop`` and ``end_epoch(**metrics)``."""


Train = Callable[[Watch, bool, int], float]
"""Trains once: who watches, whether with the fault, the seed. Returns the skill that was reached, see ``skill.py``."""


@dataclass(frozen=True)
class Truth:
    """What is wrong with a faulty program, from what was done to it.

    Attributes:
        roots: Codes of findings that are right as the root, the best first.
        also: Codes that are honest symptoms of it too, but not the root.
        causes: Causes that are right, the best first.
        onset: First step at which the fault can be seen; 0 where it is in the program from the start, ``None`` where it
            grows, as overfitting does.
        non_finite: Values become NaN or Inf.
    """

    roots: tuple[str, ...]
    causes: tuple[str, ...]
    also: tuple[str, ...] = ()
    onset: int | None = 0
    non_finite: bool = False

    @property
    def codes(self) -> frozenset[str]:
        """Every code that is no false claim about the run."""
        return frozenset(self.roots) | frozenset(self.also)


@dataclass(frozen=True)
class Program:
    """One entry of the zoo.

    Attributes:
        name: ``framework/stem``.
        train: Runs it.
        truth: What the fault is; ``None`` for a program that is only healthy.
        about: One line: what is done, and where it was seen.
        awkward: Healthy, but of a kind that detectors are known to alarm on.
        module: File that it is written in.
        worked_on: Written while rules were worked on, so that it belongs to the calibration half whatever its name is.
    """

    name: str
    train: Train
    truth: Truth | None
    about: str = ""
    awkward: bool = False
    module: str = ""
    worked_on: bool = False

    @property
    def framework(self) -> str:
        """``lightning``, ``keras`` or ``torch``."""
        return self.name.split("/")[0]

    @property
    def stem(self) -> str:
        """The name without the framework: what the programs of several frameworks share."""
        return self.name.split("/", 1)[1]

    @property
    def half(self) -> str:
        """``calibration`` or ``report``."""
        return "calibration" if self.worked_on else half_of(self.stem)

    @property
    def variants(self) -> tuple[str, ...]:
        """``faulty`` and ``fixed``, or ``healthy``."""
        return ("healthy",) if self.truth is None else ("faulty", "fixed")


@dataclass(frozen=True, order=True)
class Run:
    """A program, one of its variants and a seed."""

    program: str
    variant: str
    seed: int

    @property
    def faulty(self) -> bool:
        """Whether it is to fail."""
        return self.variant == "faulty"

    @property
    def key(self) -> str:
        """Name for people and files."""
        return f"{self.program}:{self.variant}:{self.seed}"


PROGRAMS: dict[str, Program] = {}
"""Every program by name, filled in by the modules of ``zoo``."""


def half_of(stem: str) -> str:
    """The side of the split, from the name alone: twins, and the same case in several frameworks, stay together."""
    return "report" if hashlib.sha256(stem.encode()).digest()[0] & 1 else "calibration"


def case(
    name: str,
    roots: str,
    causes: str,
    *,
    also: str = "",
    onset: int | None = 0,
    non_finite: bool = False,
    about: str = "",
    worked_on: bool = False,
    **bound: Any,
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Registers a faulty program; the same function without its fault is the fixed twin.

    Args:
        name: ``framework/stem``.
        roots, causes, also: As in :class:`Truth`, separated by blanks.
        onset, non_finite: As in :class:`Truth`.
        about, worked_on: As in :class:`Program`.
        **bound: Further keywords for the function, so that one function can serve several programs.
    """
    truth = Truth(tuple(roots.split()), tuple(causes.split()), tuple(also.split()), onset, non_finite)
    return _registrar(name, truth, about, awkward=False, worked_on=worked_on, bound=bound)


def healthy(
    name: str, *, about: str = "", awkward: bool = True, worked_on: bool = False, **bound: Any
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Registers a program that is only healthy."""
    return _registrar(name, None, about, awkward=awkward, worked_on=worked_on, bound=bound)


def _registrar(
    name: str, truth: Truth | None, about: str, *, awkward: bool, worked_on: bool, bound: dict[str, Any]
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    if name.split("/")[0] not in FRAMEWORKS or name in PROGRAMS:
        raise ValueError(f"{name!r} is no new name of the form framework/stem")

    def register(function: Callable[..., float]) -> Callable[..., float]:
        def train(watch: Watch, fault: bool, seed: int) -> float:
            return function(watch, fault, seed, **bound) if truth is not None else function(watch, seed, **bound)

        about_it = about or (function.__doc__ or "").strip()
        PROGRAMS[name] = Program(name, train, truth, about_it, awkward, inspect.getfile(function), worked_on)
        return function

    return register


@dataclass
class Selection:
    """Which runs are asked for."""

    only: str = ""
    framework: str = ""
    seeds: int = 2
    half: str = "both"
    variants: tuple[str, ...] = field(default=("faulty", "fixed", "healthy"))

    def runs(self) -> list[Run]:
        """The runs, in the order of the zoo."""
        return [
            Run(program.name, variant, seed)
            for program in PROGRAMS.values()
            if _matches(program.name, self.only)
            and self.framework in ("", program.framework)
            and self.half in ("both", program.half)
            for variant in program.variants
            if variant in self.variants
            for seed in range(self.seeds)
        ]


def _matches(name: str, pattern: str) -> bool:
    return not pattern or any(part in name for part in pattern.split(","))
