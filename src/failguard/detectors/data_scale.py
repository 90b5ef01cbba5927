"""``data.scale``: features or targets are unscaled, their magnitudes far from one or far apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, InputFacts, TargetFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import bounded
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS

__all__ = ["DataScale"]


@dataclass(frozen=True, slots=True)
class DataScale:
    """Inputs or targets of the first batches are far from the scale that initial weights and usual rates are made for.

    - *Inputs*: over all elements the magnitude ``max(|mean|, deviation)`` is above ``most``, as for raw pixels of 0 to
      255, or below ``least``; or one feature of a table has a deviation or a mean above ``most_of_feature``.
    - *Targets* of a regression: their magnitude is above ``most``, or their deviation below ``1 / most``.

    A *warning*, raised only where the loss goes badly as well: normalization in the model or a fitting rate make it
    harmless.

    Evidence: ``magnitude``, ``limit``; and ``least_feature_deviation``, ``greatest_feature_deviation`` where known.

    Attributes:
        most, least, most_of_feature: See above.

    Source: inputs are to have mean 0 and deviation 1 (LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998); the
    limits, well beyond that, are ours.
    """

    most: float = 30.0
    least: float = 1e-3
    most_of_feature: float = 100.0

    code: ClassVar[str] = "data.scale"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "raw pixels",
            steps={"loss": [2.3] * 9},
            facts=Facts(inputs=InputFacts(0.0, 255.0, mean=33.0, standard_deviation=78.0, samples=64)),
        ),
        Example(
            "one feature in dollars",
            steps={"loss": [2.3] * 9},
            facts=Facts(
                inputs=InputFacts(
                    0.0, 1e5, 9.0, 12.0, 8, 0.1, 2e4, greatest_feature_mean=5e4, constant_features=0, samples=64
                )
            ),
        ),
        Example(
            "targets in dollars",
            steps={"loss": [1e9] * 9},
            facts=Facts(
                target_kind="continuous",
                target=TargetFacts("float32", 0.0, 5e5, mean=2e5, standard_deviation=1e5, samples=64),
            ),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "standardized",
            steps={"loss": [2.3] * 9},
            facts=Facts(inputs=InputFacts(-4.0, 4.0, mean=0.0, standard_deviation=1.0, samples=64)),
        ),
        Example(
            "pixels of 0 to 16",
            steps={"loss": [2.3] * 9},
            facts=Facts(inputs=InputFacts(0.0, 16.0, mean=4.9, standard_deviation=6.0, samples=64)),
        ),
        Example(
            "class numbers are no targets to scale",
            steps={"loss": [2.3] * 9},
            facts=Facts(
                target_kind="classes",
                target=TargetFacts("int64", 0.0, 999.0, mean=500.0, standard_deviation=289.0, samples=64),
            ),
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the statistics of the first batches."""
        if observation.step < 0:
            return None
        facts = history.facts
        inputs, target = facts.inputs, facts.target
        found = self._inputs(inputs)
        part = "input"
        if found is None and facts.target_kind == "continuous" and target.standard_deviation is not None:
            part = "target"
            size = max(abs(target.mean or 0.0), target.standard_deviation)
            if size > self.most:
                found = (size, self.most, f"Targets have a magnitude of {size:.3g}")
            elif 0.0 < target.standard_deviation < 1.0 / self.most and size < 1.0:
                small = target.standard_deviation
                found = (small, 1.0 / self.most, f"Targets differ by {small:.3g} only (standard deviation)")
        if found is None:
            return None
        size, limit, text = found
        evidence = {"magnitude": bounded(size), "limit": limit, "since_step": 0.0}
        if part == "input" and inputs.greatest_feature_deviation is not None:
            evidence["greatest_feature_deviation"] = bounded(inputs.greatest_feature_deviation)
            evidence["least_feature_deviation"] = bounded(inputs.least_feature_deviation or 0.0)
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"{text}; initial weights and usual rates are made for about 1.",
            Where(tensor=part),
            evidence,
        )

    def _inputs(self, inputs: InputFacts) -> tuple[float, float, str] | None:
        if inputs.standard_deviation is None:
            return None
        size = max(abs(inputs.mean or 0.0), inputs.standard_deviation)
        if size > self.most:
            return size, self.most, f"Inputs have a magnitude of {size:.3g}"
        if 0.0 < size < self.least:
            return size, self.least, f"Inputs have a magnitude of {size:.3g} only"
        feature = max(abs(inputs.greatest_feature_mean or 0.0), inputs.greatest_feature_deviation or 0.0)
        if feature > self.most_of_feature:
            return feature, self.most_of_feature, f"A feature has a magnitude of {feature:.3g}"
        return None
