"""``data.constant_feature`` in the first batches: inputs that are the same for every sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, InputFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.outcome import learning_is_bad, learning_is_poor
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS

__all__ = ["DataConstantFeature"]


@dataclass(frozen=True, slots=True)
class DataConstantFeature:
    """All inputs of the first batches are the same, so that no sample can be told from another.

    Either every value is the same, or every feature of a table is, over ``min_samples`` samples or more. A *warning*
    where nothing is learned as well (:mod:`failguard.core.outcome`), else ``info``: a generator may learn from a
    constant input. Single features that do not vary are left to ``failguard.validate_dataset``.

    Evidence: ``value``, ``samples``.

    Attributes:
        min_samples: See above.

    Source: exact. The fault is among the preprocessing faults of Humbatova et al., "Taxonomy of Real Faults in Deep
    Learning Systems" (ICSE 2020).
    """

    min_samples: int = 64

    code: ClassVar[str] = "data.constant_feature"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "all pixels are zero",
            steps={"loss": [2.3] * 9},
            facts=Facts(inputs=InputFacts(0.0, 0.0, mean=0.0, standard_deviation=0.0, samples=256)),
        ),
        Example(
            "every row is the same",
            steps={"loss": [2.3] * 9},
            facts=Facts(inputs=InputFacts(-1.0, 1.0, 0.0, 0.5, features=8, constant_features=8, samples=256)),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "one feature of eight",
            steps={"loss": [2.3] * 9},
            facts=Facts(inputs=InputFacts(-1.0, 1.0, 0.0, 0.5, features=8, constant_features=1, samples=256)),
        ),
        Example(
            "too few samples",
            steps={"loss": [2.3] * 9},
            facts=Facts(inputs=InputFacts(0.0, 0.0, mean=0.0, standard_deviation=0.0, samples=8)),
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the statistics of the first batches."""
        inputs = history.facts.inputs
        if observation.step < 0 or inputs.samples < self.min_samples or inputs.minimum is None:
            return None
        if inputs.minimum == inputs.maximum:
            text = f"Every value of the inputs is {inputs.minimum:g}, in all of the first {inputs.samples} samples."
        elif inputs.features and inputs.constant_features == inputs.features:
            text = f"The first {inputs.samples} samples have the same inputs, all {inputs.features} features of them."
        else:
            return None
        is_bad = learning_is_bad(observation, history) or learning_is_poor(observation, history)
        return Finding(
            self.code,
            Severity.WARNING if is_bad else Severity.INFO,
            observation.step,
            observation.epoch,
            text,
            Where(tensor="input"),
            {"value": inputs.minimum, "samples": float(inputs.samples), "since_step": 0.0},
        )
