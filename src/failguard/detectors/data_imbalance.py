"""``data.imbalance`` that is not how the data are: classes are rare in training only, or there is a single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, LabelOrder, OutputFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.label_counts import SORTED, class_prior_entropy
from failguard.core.observation import Observation
from failguard.detectors.base import Example

__all__ = ["DataImbalance"]

NOT_ONE, NEVER_SEEN = 10, 100  # targets of a class in validation, and of all in training
# Keras hands these the targets of the batch. Elsewhere a cross-entropy may compare something else, as if contrastive.
KERAS_LOSSES = ("sparse_categorical_crossentropy", "categorical_crossentropy")


def _counted(training: Mapping[int, int], validation: Mapping[int, int]) -> Facts:
    order = LabelOrder(groups=8, entropy=1.0, expected_entropy=1.0)
    output = OutputFacts(shape=(32, 3))
    return Facts(class_counts=training, validation_class_counts=validation, label_order=order, output=output)


def _told_apart(facts: Facts) -> int:
    """Classes that the output tells apart; 0 where that is not known. A single unit tells two apart."""
    shape = facts.output.shape or ()
    width = 0 if len(shape) < 2 else shape[-1 if facts.framework == "keras" else 1]
    return 2 if width == 1 else width


@dataclass(frozen=True, slots=True)
class DataImbalance:
    """Training data lack classes that validation has, so that rows were lost or the split is not random.

    Of a class that makes up ``least_share`` of the validation targets or more, training has less than a
    ``times_fewer``-th of that share, and the classes of training are less mixed altogether: their entropy is below
    ``less_mixed`` of that in validation. Training that is balanced by a sampler is more mixed than validation. Or
    training has none at all of it, among 100 targets or more, and validation has 10. A *warning*, after the first epoch
    with a validation. Only where training batches come mixed, so that those seen stand for the others, and of classes
    that the output has a unit for: embeddings are validated on classes of their own.

    Or, in Keras, a cross-entropy over several classes got ``least_training`` targets or more by the end of an epoch,
    and all that were looked at are one class: labels were lost on the way, or only a part of the data is there.

    Batches alone tell of one class outweighing another too (``info``): many data sets are like that, and it is raised
    where learning goes badly.

    Evidence: ``training_share``, ``validation_share`` of the class, ``since_step``; ``only_class``.

    Attributes:
        least_share, times_fewer, less_mixed: See above.
        least_training, least_validation: Targets that must have been seen.

    Source: the rule is ours. Missing classes and unbalanced training data are operators of DeepCrime (Humbatova et al.,
    2021).
    """

    least_share: float = 0.05
    times_fewer: float = 5.0
    less_mixed: float = 0.6
    least_training: int = 256
    least_validation: int = 100

    code: ClassVar[str] = "data.imbalance"
    events: ClassVar[frozenset[Event]] = frozenset({Event.EPOCH_END})
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("two classes lost", facts=_counted({0: 700, 1: 8, 2: 6}, {0: 90, 1: 110, 2: 100}), epochs={"a": [1]}),
        Example("split by class", facts=_counted({0: 60, 1: 70}, {2: 48}), epochs={"a": [1]}),
        Example("one is not there", facts=_counted({0: 700, 1: 5}, {0: 90, 1: 110, 2: 100}), epochs={"a": [1]}),
        Example(
            "a single class",
            facts=Facts(
                framework="keras",
                class_counts={0: 1280},
                loss_name="sparse_categorical_crossentropy",
                output=OutputFacts(loss_takes="probabilities", shape=(0, 10)),
            ),
            epochs={"a": [1]},
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("rare in both", facts=_counted({0: 700, 1: 8}, {0: 290, 1: 10}), epochs={"a": [1]}),
        Example("balanced by a sampler", facts=_counted({0: 350, 1: 350}, {0: 290, 1: 10}), epochs={"a": [1]}),
        Example(
            "a critic that is shown real samples", facts=Facts(class_counts={1: 1280}, loss_name="binary_cross_entropy")
        ),
        Example("embeddings on new classes", facts=_counted({0: 500, 1: 500}, {7: 90, 8: 110}), epochs={"a": [1]}),
        Example(
            "contrastive, with labels that nobody uses",
            facts=Facts(class_counts={0: 1280}, loss_name="cross_entropy", output=OutputFacts(shape=(32, 4097))),
            epochs={"a": [1]},
        ),
        Example("few were seen", facts=_counted({0: 60, 1: 1}, {0: 90, 1: 110}), epochs={"a": [1]}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Compare the shares of classes."""
        facts = history.facts
        training, validation, order = facts.class_counts, facts.validation_class_counts, facts.label_order
        seen, shown = sum(training.values()), sum(validation.values())
        classes = _told_apart(facts)
        if len(training) == 1 and seen >= self.least_training and facts.loss_name in KERAS_LOSSES:
            return _single(observation, next(iter(training)), seen, classes)
        if len(training) < 2 or order is None or order.entropy < SORTED * order.expected_entropy:
            return None
        shares = {c: (training.get(c, 0) / seen, n / shown) for c, n in validation.items()}
        common = {c: (own, other) for c, (own, other) in shares.items() if other >= self.least_share and c < classes}
        lacking = [c for c, (own, other) in common.items() if self.times_fewer * own < other]
        is_less_mixed = class_prior_entropy(training) < self.less_mixed * class_prior_entropy(validation)
        if seen < self.least_training or shown < self.least_validation or not is_less_mixed:
            # Few are enough where a class was not seen at all.
            lacking = [c for c in lacking if c not in training and validation[c] >= NOT_ONE and seen >= NEVER_SEEN]
        if not lacking:
            return None
        worst = min(lacking, key=lambda c: common[c][0] / common[c][1])
        own, other = common[worst]
        more = f", and {len(lacking) - 1} more are as rare" if len(lacking) > 1 else ""
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            f"Class {worst} makes up {own:.2%} of the training targets seen and {other:.0%} of the validation's{more}: "
            "training data were lost, or the split is not random.",
            Where(tensor="target"),
            {"training_share": own, "validation_share": other, "since_step": 0.0},
        )


def _single(observation: Observation, only: int, seen: int, classes: int) -> Finding | None:
    if classes < 2:
        return None
    return Finding(
        DataImbalance.code,
        Severity.WARNING,
        observation.step,
        observation.epoch,
        f"All {seen:,} training targets seen are class {only}, but the model tells {classes} classes apart: labels "
        "were lost on the way, or only a part of the data is there.",
        Where(tensor="target"),
        {"only_class": float(only), "since_step": 0.0},
    )
