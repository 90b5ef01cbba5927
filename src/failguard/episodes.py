"""One alarm, not many: gates symptoms on the outcome, merges repeats, and finds the root of a chain. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from failguard.core.codes import NON_FINITE_CODES, check_finding_code
from failguard.core.finding import Finding, Severity

__all__ = ["GATED", "Episodes", "root_of"]

# Findings that say how a run ended. They are roots only where nothing explains them and nothing worse happened.
_ENDINGS = ("run.exception", "run.interrupted", "metric.no_improvement")
# Where a step meets values: weights and data, then the output, the loss, its gradient.
_TENSOR_ORDER = {"weight": 0, "input": 0, "target": 0, "output": 1, "loss": 2, "gradient": 3}
_CODE_ORDER = {
    "data.non_finite": -2,
    "loss.divergence": -1,
    "loss.spike": -1,
    "loss.non_finite": 2,
    "gradient.non_finite": 3,
    "weights.non_finite": 4,
}
_LAST = 5
# How a run is put together, and what its data are like: it was so from the start.
_SETUP = (
    "model.output_mismatch",
    "model.wrong_mode",
    "gradient.missing",
    "gradient.accumulating",
    "weights.frozen",
    "data.constant_feature",
    "data.unshuffled",
    "data.scale",
    "data.labels",
    "model.no_nonlinearity",
)
# What goes on inside, from causes to their consequences.
_INSIDE = (
    "update.too_large",
    "gradient.exploding",
    "activation.saturated",
    "activation.dead",
    "gradient.vanishing",
    "update.too_small",
)
# What may explain a finding although it is told later: units are looked at over many batches, gradients in one; the
# loss is given more time than the predictions; a validation far off from the start is told once training has learned.
_SEEN_AFTER = {
    "gradient.vanishing": ("activation.dead", "activation.saturated"),
    "metric.degenerate_predictions": ("loss.no_learning",),
    "metric.overfitting": ("data.drift",),
    "weights.frozen": ("loss.plateau",),
    "update.too_small": ("loss.plateau",),
}
_CODE_ORDER |= {code: i - 40 for i, code in enumerate(_SETUP)} | {code: i - 20 for i, code in enumerate(_INSIDE)}
# Raised only when learning goes badly as well: each of them is seen in healthy runs too.
GATED = frozenset(_INSIDE) | {"weights.frozen", "data.scale", "metric.degenerate_predictions", "data.imbalance"}
# But for those with evidence that leaves no doubt: classes rare in training but not in validation, labels that are all
# the same, layers that are frozen as an initializer left them.
_CERTAIN = ("validation_share", "only_class", "untrained_layers")
# Of these, what is seen inside while something is learned, by kinds that do not follow from each other.
_STANDS_FOR = {
    "data.scale": "scale",
    "activation.dead": "units",
    "activation.saturated": "units",
    "update.too_large": "updates",
    "update.too_small": "updates",
}
# Findings that say so, at warning or above.
_BAD_OUTCOMES = NON_FINITE_CODES - {"metric.non_finite"} | {
    "loss.divergence",
    "loss.no_learning",
    "loss.plateau",
    "loss.oscillation",
}
_SPEAKS_OF_NON_FINITE = re.compile(r"\b(nan|inf|infinity|non[- ]?finite|not finite|overflow)\b", re.IGNORECASE)


# Of these, what can make a loss grow.
_DIVERGING = frozenset(
    {
        "model.output_mismatch",
        "gradient.accumulating",
        "data.scale",
        "data.labels",
        "data.outliers",
        "gradient.exploding",
    }
)


# What makes validation worse than training by itself: training that sees less, or another kind of data or mode.
_UNLIKE = ("model.output_mismatch", "model.wrong_mode", "data.unshuffled", "data.repeated_batch", "data.drift")

# What follows from training data that lack classes.
_OF_LOST_CLASSES = ("metric.overfitting", "metric.degenerate_predictions", "metric.no_improvement", "loss.no_learning")


class Episodes:
    """Lets a symptom through once: when it is first reported, and again when it gets more severe.

    A symptom that persists or comes back belongs to the episode it started.
    """

    def __init__(self, ignore: Sequence[str] = ()) -> None:
        """Args:
            ignore: Codes never to let through.

        Raises:
            ConfigurationError: One of them is not a code of the taxonomy.
        """
        self._ignored = frozenset(check_finding_code(code) for code in ignore)
        self._worst: dict[str, Severity] = {}
        self._bad_target: Finding | None = None  # that may be masked
        self._symptoms: dict[str, int] = {}  # kinds of what is wrong inside: 2 where several layers show it

    def take_in(
        self, found: Iterable[Finding], *, learning_is_bad: bool = False, learning_is_poor: bool = False
    ) -> list[Finding]:
        """Take in what the detectors reported at one moment.

        Symptoms inside the model are let through as ``info``, as evidence, until the outcome is bad: the loss says so,
        or a finding has. Where it is poor only, two symptoms that have nothing to do with each other have to agree, or
        one has to be seen in several layers. Targets that are not finite are evidence until the loss of their step is
        not finite either: a loss may leave them out on purpose.

        Args:
            found: The findings.
            learning_is_bad: See :func:`failguard.core.outcome.learning_is_bad`.
            learning_is_poor: See :func:`failguard.core.outcome.learning_is_poor`.

        Returns:
            What is new, in the order given.
        """
        found = self._with_targets([f for f in found if f.code not in self._ignored])
        reported = {code for code, severity in self._worst.items() if severity is not Severity.INFO}
        reported |= {f.code for f in found if f.severity is not Severity.INFO}
        for finding in found:
            if finding.code in _STANDS_FOR:
                kind = _STANDS_FOR[finding.code]
                layers = finding.evidence.get("layers_affected", 1.0)
                self._symptoms[kind] = max(self._symptoms.get(kind, 0), 2 if layers >= 2.0 else 1)
        is_bad = learning_is_bad or not reported.isdisjoint(_BAD_OUTCOMES)
        is_bad = is_bad or (learning_is_poor and sum(self._symptoms.values()) >= 2)
        new = []
        for finding in found:
            if finding.code in GATED and not is_bad and finding.evidence.keys().isdisjoint(_CERTAIN):
                finding = replace(finding, severity=Severity.INFO)
            worst = self._worst.get(finding.code)
            if worst is None or finding.severity.rank > worst.rank:
                self._worst[finding.code] = finding.severity
                new.append(finding)
        return new

    def _with_targets(self, found: list[Finding]) -> list[Finding]:
        """Findings, with bad targets as evidence only, or as the reason of what is not finite in their step."""
        in_step = NON_FINITE_CODES - {"metric.non_finite"}
        spoiled = {f.step for f in found if f.code in in_step and f.severity is not Severity.INFO}
        waiting = self._bad_target
        # Rows seen before training come in a step that is not known.
        is_near = waiting is not None and (waiting.step < 0 or waiting.step in spoiled or waiting.step + 1 in spoiled)
        if waiting is not None and spoiled and is_near:
            self._bad_target = None
            return [waiting, *found]
        if spoiled or not self._worst.keys().isdisjoint(_BAD_OUTCOMES):
            return found
        for i, finding in enumerate(found):
            is_target = finding.code == "data.non_finite" and finding.where.tensor == "target"
            if is_target and finding.severity is Severity.WARNING:
                self._bad_target = finding
                found[i] = replace(finding, severity=Severity.INFO)
        return found


def root_of(findings: Sequence[Finding]) -> Finding | None:
    """Find the finding that explains the others.

    Starts at the worst finding (among equals the earliest; how the run ended goes before mere warnings) and goes back
    to the earliest finding that can explain it. Order alone explains nothing: an unrelated earlier warning is never
    the root of an exception.

    Args:
        findings: All findings of a run, in the order they were raised.

    Returns:
        The root, or ``None`` where there is nothing to explain. Where its symptom was reported twice, first as
        suspected and then as confirmed, the confirmed finding.
    """
    told = (f for f in findings if f.code != "run.repeat_of_failure")  # what is known of a failure does not explain it
    candidates = sorted((f for f in told if f.severity is not Severity.INFO or f.code in _ENDINGS), key=_order)
    if not candidates:
        return None
    start = at = min(range(len(candidates)), key=lambda i: _gravity(candidates[i]))
    seen = {start}
    while True:
        before = at
        later = _SEEN_AFTER.get(candidates[at].code, ())
        earlier = [i for i, f in enumerate(candidates) if i not in seen and (i < at or f.code in later)]
        at = next((i for i in earlier if _explains(candidates[i], candidates[at])), at)
        if at == before:
            break
        seen.add(at)
    root = candidates[at]
    same = [f for f in candidates[: max(start, at) + 1] if f.code == root.code]
    return max(same, key=lambda f: f.severity.rank)


def _gravity(finding: Finding) -> tuple[int, bool, bool, bool]:
    """Sorts the finding to start from first: a bad metric comes after what is bad in training itself.

    Ties are left to the order in time.
    """
    is_ending = finding.code in _ENDINGS
    rank = finding.severity.rank
    if is_ending:  # an early stop or an interrupt outranks warnings, never errors
        rank = max(rank, Severity.WARNING.rank)
    # A warning about the machine comes after one about learning.
    of_machine = finding.code.startswith("resource.") or finding.code == "run.slow_step"
    return -rank, not is_ending, of_machine, finding.code == "metric.non_finite"


def _order(finding: Finding) -> tuple[int, int, int]:
    """Sorts findings by step, within a step by the order in which the step meets the values."""
    by_code = _CODE_ORDER.get(finding.code, _LAST)
    tensor = finding.where.tensor
    by_tensor = _TENSOR_ORDER.get(tensor, by_code) if finding.code in NON_FINITE_CODES and tensor else by_code
    step = finding.step
    if finding.code not in NON_FINITE_CODES:  # a confirmed finding counts from when it was suspected, or began
        step = int(min(step, finding.evidence.get("first_seen_step", step), finding.evidence.get("since_step", step)))
    return step, by_tensor, by_code


def _explains(cause: Finding, consequence: Finding) -> bool:
    """Whether a finding can be the reason for one that came after it."""
    failing = cause.severity.rank >= Severity.ERROR.rank
    if cause.code == "data.imbalance":
        return not cause.evidence.keys().isdisjoint(_CERTAIN) and consequence.code in _OF_LOST_CLASSES
    # Weights that moved before stand still because the rate is gone: that is no setup, and no reason by itself.
    if cause.code == "weights.frozen" and (cause.evidence.get("moved_before") or "rate_share" in consequence.evidence):
        return False
    match consequence.code:
        case "weights.frozen" | "update.too_small" if "rate_share" in cause.evidence:
            return True
        case code if code in _INSIDE or code == "weights.frozen":
            if cause.code == "gradient.vanishing":  # it makes updates small and does nothing else
                return code == "update.too_small"
            return cause.code in (*_SETUP, *_DIVERGING) or (cause.code in _INSIDE and code in _INSIDE)
        case "metric.degenerate_predictions":
            return cause.code in (*_SETUP, *_INSIDE, *_DIVERGING, "loss.divergence", "loss.no_learning")
        case "run.exception":
            # A bad value explains an error at once; later only where the error speaks of it.
            near = consequence.step - cause.step <= 1
            spoken = _SPEAKS_OF_NON_FINITE.search(consequence.message) is not None
            bad_value = cause.code in NON_FINITE_CODES and failing
            return (bad_value and (near or spoken)) or (cause.code == "loss.divergence" and spoken)
        case "metric.no_improvement":
            if (
                cause.code in ("metric.overfitting", "loss.no_learning", "loss.oscillation")
                or cause.code in _SETUP
                or cause.code in _INSIDE
            ):
                return True
            return failing and (cause.code == "loss.divergence" or cause.code in NON_FINITE_CODES)
        case "metric.overfitting":
            return cause.code in _UNLIKE or (failing and cause.code == "loss.divergence")
        case "loss.no_learning" | "loss.plateau":
            # The size of updates is how nothing was learned, no reason by itself; validation in train mode is none.
            harmless = cause.code == "model.wrong_mode" and not cause.evidence.get("trains_in_eval_mode")
            idle = cause.code.startswith("update.") or harmless
            stands_still = not idle and cause.code in (*_SETUP, *_INSIDE)
            return stands_still or (failing and cause.code == "loss.divergence")
        case "loss.divergence" | "loss.spike" | "loss.oscillation":
            if cause.code in (*_DIVERGING, "data.unshuffled"):  # a new class makes the loss jump
                return True
            if consequence.code != "loss.spike" and cause.code == "loss.spike":
                return True
            return failing and cause.code in NON_FINITE_CODES and cause.code != "metric.non_finite"
        case code if code in NON_FINITE_CODES:
            if cause.code == "metric.non_finite":
                return False
            if cause.code in (*_DIVERGING, "loss.spike", "amp.scale_collapse", "data.non_finite"):
                return cause.code != "data.scale"
            return cause.code == "loss.divergence" or (failing and cause.code in NON_FINITE_CODES)
        case "resource.oom":
            return cause.code in ("resource.memory_growth", "resource.gpu_memory_growth")
        case "resource.low_gpu_utilization":
            return cause.code == "resource.input_bound"
        case "run.hang":
            return cause.code == "resource.gpu_error"
        case "amp.scale_collapse":
            return cause.code in _DIVERGING or (failing and cause.code in NON_FINITE_CODES)
        case _:
            return False
