"""``model.output_mismatch``: the output's width, range or activation cannot match the loss or the targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, OutputFacts, SetupFacts, TargetFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.statistics import bounded
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS

__all__ = ["ModelOutputMismatch", "mismatch"]

SHARE = 0.01  # of the targets that must be out of reach of the output
NEVER_NEGATIVE = ("cross_entropy", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
TOLERANCE = 1e-3  # rounding of probabilities
NO_PROBABILITIES = ("relu", "tanh", "elu", "leaky_relu", "softplus")  # a linear one is told by its values
ROW_TOLERANCE = 0.02  # rounding of their sum, over many classes and in half precision
ONE_DISTRIBUTION = ("categorical_crossentropy", "sparse_categorical_crossentropy")
REGRESSIONS = (
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "mean_squared_error",
    "mean_absolute_error",
    "huber",
    "log_cosh",
    "logcosh",
)


def _run(name: str, output: OutputFacts, target: TargetFacts | None = None) -> Example:
    return Example(name, steps={"loss": [1.0] * 9}, facts=Facts(output=output, target=target or TargetFacts()))


@dataclass(frozen=True, slots=True)
class ModelOutputMismatch:
    """Model, loss and targets do not fit together. A *warning*, from the model's structure and its first batches.

    - a softmax over a single unit, or one that normalizes over the samples of a batch;
    - a sigmoid or softmax of what is the output of another one;
    - probabilities (softmax, sigmoid) handed to a loss that takes logits, or logits cut off by a ReLU;
    - logits handed to a loss that takes probabilities or log-probabilities: values outside of what these can be, or an
      activation such as ReLU or tanh before probabilities;
    - targets that the last activation cannot reach: below zero for a ReLU, outside of 0 to 1 for a sigmoid or softmax,
      outside of -1 to 1 for a tanh, for 1 % of the targets or more;
    - targets outside of 0 to 1 for a binary cross-entropy, or class numbers beyond the units of the output;
    - class numbers as the targets of a regression with one output: five classes or more whose mean inputs are clearly
      apart and follow the order of the numbers with a correlation below 0.5 (:mod:`failguard.core.class_order`);
    - sigmoids under a categorical cross-entropy, outputs that do not add up to 1 for each sample, or several classes at
      once in its targets;
    - targets of 0 under a mean absolute percentage error, which divides by them;
    - minus a loss that is never negative, where a single optimizer minimizes it, or such a loss where it maximizes;
    - shapes such as ``(N, 1)`` and ``(N,)`` that broadcast to ``(N, N)``.

    What concerns targets is said only where a batch holds one for each output, so that the loss compares the two.

    Evidence: ``output_minimum``, ``output_maximum``, ``target_minimum``, ``target_maximum``, where known.

    Source: the rules are those of AUTOTRAINER (Zhang et al., 2021), DeepDiagnosis (Wardat et al., 2022), UMLAUT (Schoop
    et al., 2021) and NeuraLint (Nikanjam et al., 2021), where they are exact.
    """

    code: ClassVar[str] = "model.output_mismatch"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        _run("softmax over one unit", OutputFacts("softmax", 1, loss_takes="probabilities")),
        _run("softmax twice", OutputFacts("softmax", 10, loss_takes="logits")),
        _run("softmax for a loss of log-probabilities", OutputFacts("softmax", 10, loss_takes="log_probabilities")),
        Example(
            "class numbers as amounts",
            steps={"loss": [1.0] * 9},
            facts=Facts(
                loss_name="mse_loss",
                output=OutputFacts("linear", loss_takes="values", shape=(32, 1)),
                target=TargetFacts("int64", 0.0, 9.0, is_whole=True, elements_per_sample=1, names_classes=True),
            ),
        ),
        _run(
            "a sigmoid of a sigmoid",
            OutputFacts("sigmoid", loss_takes="probabilities", is_squashed_twice=True),
        ),
        _run("minus the loss", OutputFacts("linear", loss_takes="logits", is_negated=True)),
        Example(
            "an optimizer that maximizes the loss",
            steps={"loss": [1.0] * 9},
            facts=Facts(
                loss_name="cross_entropy",
                output=OutputFacts("linear", loss_takes="logits"),
                setup=SetupFacts(optimizers=1, maximizes=True),
            ),
        ),
        Example(
            "classes that add up to anything",
            steps={"loss": [1.0] * 9},
            facts=Facts(
                loss_name="sparse_categorical_crossentropy",
                output=OutputFacts(
                    None, loss_takes="probabilities", minimum=0.0, maximum=0.6, least_row_sum=0.1, greatest_row_sum=2.0
                ),
            ),
        ),
        Example(
            "percentages of zeros",
            steps={"loss": [1.0] * 9},
            facts=Facts(
                loss_name="mean_absolute_percentage_error",
                output=OutputFacts("softmax", 10, loss_takes="values", shape=(32, 10)),
                target=TargetFacts("float32", 0.0, 1.0, is_whole=True, is_one_hot=True, elements_per_sample=10),
            ),
        ),
        _run("relu for classes", OutputFacts("relu", loss_takes="probabilities")),
        _run("logits as probabilities", OutputFacts("linear", loss_takes="probabilities", minimum=-3.0, maximum=4.0)),
        _run(
            "relu for negative targets",
            OutputFacts("relu", loss_takes="values", shape=(32, 1)),
            TargetFacts("float32", -2.0, 2.0, below_zero=0.5, elements_per_sample=1),
        ),
        _run(
            "(N,1) against (N,)",
            OutputFacts("linear", loss_takes="values", shape=(32, 1), target_shape=(32,), is_broadcast=True),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        _run("softmax and its loss", OutputFacts("softmax", 10, loss_takes="probabilities", minimum=0.0, maximum=1.0)),
        _run("logits and theirs", OutputFacts("linear", loss_takes="logits", minimum=-9.0, maximum=9.0)),
        _run(
            "relu for prices",
            OutputFacts("relu", loss_takes="values", shape=(32, 1)),
            TargetFacts("float32", 0.0, 9.0, below_zero=0.0, elements_per_sample=1),
        ),
        _run(
            "an autoencoder on a batch that holds labels too",
            OutputFacts("sigmoid", loss_takes="values", shape=(32, 64)),
            TargetFacts("int64", 0.0, 9.0, above_one=0.8, elements_per_sample=1),
        ),
        Example(
            "an adversary maximizes the other's loss",
            steps={"loss": [1.0] * 9},
            facts=Facts(
                output=OutputFacts("linear", loss_takes="logits", is_negated=True), setup=SetupFacts(optimizers=2)
            ),
        ),
        Example(
            "minus the loss, maximized",
            steps={"loss": [-1.0] * 9},
            facts=Facts(
                loss_name="cross_entropy",
                output=OutputFacts("linear", loss_takes="logits", is_negated=True),
                setup=SetupFacts(optimizers=1, maximizes=True),
            ),
        ),
        _run(
            "one class is left out",
            OutputFacts("linear", loss_takes="logits", shape=(32, 3), target_shape=(32,), ignored_class=255),
            TargetFacts("int64", 0.0, 255.0, is_whole=True, elements_per_sample=1),
        ),
        _run("log-softmax under cross-entropy changes nothing", OutputFacts("log_softmax", loss_takes="logits")),
        _run(
            "grades as amounts",
            OutputFacts("linear", loss_takes="values", shape=(32, 1)),
            TargetFacts("int64", 0.0, 5.0, is_whole=True, elements_per_sample=1, names_classes=False),
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at output, loss and targets."""
        facts = history.facts
        found = None if observation.step < 0 else mismatch(facts)
        if found is None:
            return None
        part, text = found
        numbers = {
            "output_minimum": facts.output.minimum,
            "output_maximum": facts.output.maximum,
            "target_minimum": facts.target.minimum,
            "target_maximum": facts.target.maximum,
        }
        evidence = {name: bounded(value) for name, value in numbers.items() if value is not None and value == value}
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            text,
            Where(tensor=part),
            {**evidence, "since_step": 0.0},
        )


def mismatch(facts: Facts) -> tuple[str, str] | None:
    """What does not fit, the clearest first.

    Returns:
        The place (``"output"`` or ``"target"``) and a sentence; ``None`` where everything known fits.
    """
    for rule in _RULES:
        found = rule(facts.output, facts.target, facts)
        if found is not None:
            return found
    return None


Rule = Callable[[OutputFacts, TargetFacts, Facts], tuple[str, str] | None]


def _softmax(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    if output.activation not in ("softmax", "log_softmax"):
        return None
    if output.activation_units == 1:
        return "output", "The output is a softmax over a single unit, which is 1 whatever goes in."
    if output.activation_over_samples:
        return "output", "The softmax normalizes over the samples of a batch, not over the classes."
    return None


def _squashed_twice(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    if not output.is_squashed_twice:
        return None
    return (
        "output",
        f"What goes into the last {(output.activation or '').replace('log_', '')} has gone through a sigmoid or "
        "softmax already, so that the output hardly varies.",
    )


def _broadcast(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    if not output.is_broadcast:
        return None
    shapes = f"Output {output.shape} and targets"
    shapes += f" {output.target_shape} differ in shape" if output.target_shape else " differ in shape"
    return "output", f"{shapes} and are broadcast: every output is compared with every target."


def _logits(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    if output.loss_takes != "logits":
        return None
    if output.activation in ("softmax", "sigmoid"):
        return "output", f"The loss takes logits, but the output has gone through a {output.activation} already."
    if output.activation == "relu":
        return "output", "The loss takes logits, but a ReLU cuts off all that are negative."
    return None


def _probabilities(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    low, high = output.minimum, output.maximum
    if output.loss_takes == "log_probabilities" and output.activation in ("softmax", "sigmoid"):
        return "output", f"The loss takes log-probabilities, but the output is that of a {output.activation}."
    if output.loss_takes == "probabilities" and output.activation in NO_PROBABILITIES:
        return "output", f"The loss takes probabilities, but the output is that of a {output.activation} layer."
    if low is None or high is None:
        return None
    if output.loss_takes == "probabilities" and (low < -TOLERANCE or high > 1.0 + TOLERANCE):
        return "output", f"The loss takes probabilities, but the output goes from {low:.3g} to {high:.3g}."
    if output.loss_takes == "log_probabilities" and high > TOLERANCE and output.activation != "log_softmax":
        return "output", f"The loss takes log-probabilities, which are at most 0, but the output goes up to {high:.3g}."
    least, most = output.least_row_sum, output.greatest_row_sum
    if facts.loss_name not in ONE_DISTRIBUTION or least is None or most is None:
        return None
    if least < 1.0 - ROW_TOLERANCE or most > 1.0 + ROW_TOLERANCE:
        sums = f"{least:.3g} to {most:.3g}"
        return "output", f"The loss takes a distribution over the classes, but those of a sample add up to {sums}."
    return None


def _percentages(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    if facts.loss_name != "mean_absolute_percentage_error" or not _are_compared(output, target):
        return None
    has_zeros = target.is_whole and target.minimum is not None and target.minimum <= 0.0 <= (target.maximum or 0.0)
    if not has_zeros or not (target.is_one_hot or target.minimum == 0.0):
        return None
    return "target", "A percentage error divides by the targets, and some of them are 0."


def _reach(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    low, high = target.minimum, target.maximum
    if output.loss_takes != "values" or low is None or high is None or not _are_compared(output, target):
        return None
    below, above = (target.below_zero or 0.0) >= SHARE, (target.above_one or 0.0) >= SHARE
    reach = {"relu": below, "sigmoid": below or above, "softmax": below or above}.get(output.activation or "", False)
    if output.activation == "tanh":
        reach = (low < -1.05 and below) or (high > 1.05 and above)
    if not reach:
        return None
    return "output", f"Targets go from {low:.3g} to {high:.3g}, which a {output.activation} cannot put out."


def _targets(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    name = facts.loss_name or ""
    if target.minimum is None or target.maximum is None:
        return None
    if not _are_compared(output, target, classes="cross" in name and not name.startswith("binary")):
        return None
    if name.startswith("binary_cross") and (target.minimum < 0.0 or target.maximum > 1.0):
        span = f"from {target.minimum:.3g} to {target.maximum:.3g}"
        if target.is_whole and target.minimum >= 0.0 and target.maximum - target.minimum >= 2.0:
            return (
                "target",
                f"A binary cross-entropy tells two classes apart; these targets are numbers of classes, {span}.",
            )
        return "target", f"A binary cross-entropy takes targets from 0 to 1; these go {span}."
    shape, labels = output.shape, output.target_shape
    is_sparse = shape is not None and labels is not None and len(labels) < len(shape)
    # torch raises by itself on class numbers beyond the output, so that those of a batch would not be what it compared.
    if name == "sparse_categorical_crossentropy" and shape and target.is_whole:
        units = shape[-1]
        if is_sparse and target.maximum >= units and output.ignored_class is None:
            return "target", f"Class numbers go up to {target.maximum:.0f}, but the output has {units} units."
    return None


def _class_numbers(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    is_regression = output.loss_takes == "values" and (facts.loss_name or "") in REGRESSIONS
    if not is_regression or not target.names_classes or not _are_compared(output, target):
        return None
    if target.elements_per_sample != 1 or target.minimum is None or target.maximum is None or target.minimum < 0:
        return None
    return "target", (
        f"The targets are numbers of classes, {target.minimum:.0f} to {target.maximum:.0f}, whose inputs lie in no "
        f"such order, but {facts.loss_name} of a single output takes them as amounts."
    )


def _categorical(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    if facts.loss_name != "categorical_crossentropy" or not _are_compared(output, target):
        return None
    if output.activation == "sigmoid" and output.loss_takes == "probabilities":
        return "output", "A categorical cross-entropy takes one distribution over the classes, not separate sigmoids."
    if target.is_whole and target.is_one_hot is False and target.maximum == 1.0 and target.minimum == 0.0:
        return "target", "A categorical cross-entropy takes one class a sample; these targets hold several or none."
    return None


def _are_compared(output: OutputFacts, target: TargetFacts, *, classes: bool = False) -> bool:
    """Whether there is a target for each output, so that they are what the loss compares: batches may hold more."""
    if output.shape is None or target.elements_per_sample is None:
        return False
    numbers = math.prod(output.shape[1:])
    if classes and numbers != target.elements_per_sample:
        units = output.shape[-1] if len(output.shape) < 3 else output.shape[1]
        return numbers in (units * target.elements_per_sample, output.shape[-1] * target.elements_per_sample)
    return numbers == target.elements_per_sample


def _sign(output: OutputFacts, target: TargetFacts, facts: Facts) -> tuple[str, str] | None:
    # Adversaries with optimizers of their own maximize each other's losses.
    if facts.setup.optimizers > 1 or output.is_negated == facts.setup.maximizes:
        return None
    if facts.setup.maximizes:
        if facts.loss_name not in NEVER_NEGATIVE or output.loss_takes not in ("logits", "values"):
            return None  # it may be something that is to grow
        name = f"maximizes a {facts.loss_name}"
        return "loss", f"The optimizer {name} (maximize=True): what is minimized has the wrong sign."
    return (
        "loss",
        f"The loss is minus a {facts.loss_name or 'loss'}, which makes it grow: what is minimized has the wrong sign.",
    )


_RULES: tuple[Rule, ...] = (
    _softmax,
    _sign,
    _broadcast,
    _logits,
    _squashed_twice,
    _class_numbers,
    _percentages,
    _targets,
    _categorical,
    _reach,
    _probabilities,
)
