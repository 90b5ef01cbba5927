"""What earlier runs say about a configuration before it is trained, and about a failure after it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from failguard.diagnosis.causes import KNOWLEDGE
from failguard.report.outcome import Outcome
from failguard.runs.contrast import Split, splits
from failguard.runs.entry import RunEntry
from failguard.runs.memory_settings import FailureMemory
from failguard.runs.recall_text import (
    UNSTABLE,
    by_step,
    done_text,
    helped_text,
    lesson_texts,
    name_text,
    row,
    runs_text,
    why_text,
)
from failguard.runs.similarity import CLOSE, Likeness, Values, entry_values, likeness, what

__all__ = ["CODE", "CONFIGURED_CAUSES", "EXPLAINED", "Recollection", "recall", "recall_failure", "went_well"]

CODE = "run.repeat_of_failure"
EXPLAINED = """It is looked for twice, in the local index of the MLflow store and beside the local records.

Before training, as ``info``: earlier runs of the same line of work failed with a configuration like this one. Compared
are the values of the configuration, the model, the optimizer and the loss; seeds, names, paths, devices and workers are
not. Numbers agree by the logarithm of their ratio (1 where equal, 0.7 at a factor of two, 0 from ten), everything else
is equal or not, and another model or optimizer is another configuration. The mean has to reach ``similar_share``, and
each value that the cause depends on has to be within a factor of two, or beyond in the bad direction. Values that set
failed and good runs apart are named. It is silent where the configuration was not to blame, where a good run is nearer,
and where the same configuration went well more often, or more recently.

At the end of a failing run, as ``warning``: its fingerprint is that of an earlier failure. It covers the root finding,
the cause, the module's role, the phase, the exception's type, text and place, the optimizer and the power of ten of its
rate. It is never the root, and no policy acts on it.

The thresholds are fields of ``FailureMemory``. ``FailGuard(memory=False)`` looks for nothing and remembers nothing."""
MAX_RUNS = 5
ROUNDING = 1e-9

# Causes that lie in values that are compared, so that the same values fail again. After an error in the program, in how
# data are prepared, on the disk or the network, the same values may work.
CONFIGURED_CAUSES = frozenset(
    {
        "batch_size_too_large",
        "dead_units",
        "learning_rate_too_high",
        "learning_rate_too_low",
        "loss_function_mismatch",
        "missing_gradient_clipping",
        "mixed_precision_overflow",
        "too_deep_without_normalization",
        "too_few_updates",
        "too_little_data_for_capacity",
        "too_little_regularization",
        "too_much_regularization",
    }
)
# Findings that a configuration can be behind where no cause was named.
_OF_LEARNING = ("loss.", "gradient.", "weights.", "update.", "activation.", "metric.overfitting", "amp.")
_VALUES = {row.code: frozenset(row.config) for row in KNOWLEDGE}
# Where a value further in this direction is worse still.
_WORSE: Mapping[str, Mapping[str, int]] = {
    "learning_rate_too_high": {"learning_rate": 1},
    "learning_rate_too_low": {"learning_rate": -1},
    "batch_size_too_large": {"batch_size": 1},
    "too_few_updates": {"max_epochs": -1},
    "too_much_regularization": {"dropout": 1, "weight_decay": 1},
    "too_little_regularization": {"dropout": -1, "weight_decay": -1},
}


@dataclass(frozen=True, slots=True)
class Recollection:
    """What earlier runs say.

    Attributes:
        message: For the log and the report, in one sentence.
        evidence: Numbers behind it.
        runs: The earlier runs that failed, for :attr:`RunReport.similar_runs`.
    """

    message: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    runs: tuple[dict[str, Any], ...] = ()


def went_well(entry: RunEntry) -> bool:
    """Whether a run stands for a configuration that works: it succeeded, or came to its end with a mere warning."""
    return entry.outcome is Outcome.SUCCESS or (
        entry.outcome is Outcome.PARTIAL and entry.status in ("completed", "recovered", "stopped")
    )


def recall(values: Values, entries: Sequence[RunEntry], memory: FailureMemory) -> Recollection | None:
    """Warn of a configuration before it is trained.

    It is silent unless earlier failures that a configuration can cause are alike in at least ``similar_share``, and in
    each value that their cause depends on up to a factor of two. It is also silent where the value that sets failed
    and good runs apart is on the good side, where a good run is nearer, and where the same configuration went well more
    often, or more recently, than it failed.

    Args:
        values: The new configuration, see :func:`failguard.runs.similarity.values_of`.
        entries: Earlier runs, in any order.
        memory: What counts as alike.

    Returns:
        What to say, or ``None``.
    """
    good = [(entry, entry_values(entry, memory)) for entry in entries if went_well(entry)]
    good = [(entry, tried) for entry, tried in good if _same_kind(values, tried)]
    groups: dict[str, list[tuple[RunEntry, Values]]] = defaultdict(list)
    for entry in entries:
        if entry.failed and _is_configured(entry):
            tried = entry_values(entry, memory)
            if _same_kind(values, tried):
                groups[entry.cause or str(entry.finding)].append((entry, tried))
    best: Recollection | None = None
    for failed in groups.values():
        found = _warning(values, failed, good, memory)
        if found is not None and (best is None or _weight(found) > _weight(best)):
            best = found
    return best


def recall_failure(
    failures: Sequence[RunEntry], good: Sequence[RunEntry], memory: FailureMemory
) -> Recollection | None:
    """Tell that a failure was seen before.

    Args:
        failures: Earlier runs of the same fingerprint, newest first.
        good: Runs of the same line that went well, in any order.
        memory: Which values matter.

    Returns:
        What to say; ``None`` where there is no earlier run.
    """
    if not failures:
        return None
    rows = [row(entry, good, memory, "failure", _decisive(entry)) for entry in failures[:MAX_RUNS]]
    last, n = failures[0], len(failures)
    parts = [f"The same failure as in {runs_text(n)}, the last one {name_text(last)} of {last.started_at:%Y-%m-%d}"]
    fixed = next((row["fixed_by"] for row in rows if row.get("fixed_by")), None)
    if fixed:
        parts.append(f"then it was fixed by {fixed}")
    parts += lesson_texts(failures)
    return Recollection(f"{'; '.join(parts)}.", {"earlier_failures": float(n)}, tuple(rows))


def _warning(
    values: Values,
    failed: Sequence[tuple[RunEntry, Values]],
    good: Sequence[tuple[RunEntry, Values]],
    memory: FailureMemory,
) -> Recollection | None:
    """What one kind of failure has to say."""
    symptoms = {entry.finding for entry, _ in failed}
    good = [(entry, tried) for entry, tried in good if symptoms.isdisjoint(entry.findings)]
    decisive = frozenset(name for entry, _ in failed for name in _decisive(entry))
    split = next(iter(splits([v for _, v in failed], [v for _, v in good], decisive)), None)
    if split is not None and split.is_good(values):
        return None
    fails = split is not None and split.fails(values)
    near = []
    for entry, tried in failed:
        share = _share(values, tried, entry, split if fails else None)
        if share >= memory.similar_share - ROUNDING:
            near.append((share, entry, tried))
    if len(near) < memory.min_failures:
        return None
    near.sort(key=lambda n: (n[0], n[1].started_at), reverse=True)
    others = sorted(
        ((likeness(values, tried).share, entry, tried) for entry, tried in good),
        key=lambda o: (o[0], o[1].started_at),
        reverse=True,
    )
    if others and _works([(likeness(values, tried).share, entry) for _, entry, tried in near], others, fails):
        return None
    newest = sorted((entry for _, entry, _ in near), key=lambda e: e.started_at, reverse=True)
    done = done_text(newest)
    parts = [
        f"{runs_text(len(near))} with a configuration like this {done}{by_step(newest)}"
        f"{why_text(near, split if fails else None, decisive, done)}"
    ]
    helped = [_nearest(others, split)] if others else []
    if helped:
        parts.append(helped_text(values, helped[0], split, decisive))
    parts += lesson_texts([*newest, *(entry for entry, _ in helped)])
    evidence = {
        "earlier_failures": float(len(near)),
        "earlier_successes": float(len(good)),
        "similar_share": near[0][0],
    }
    wells = [entry for entry, _ in good]
    rows = [row(entry, wells, memory, "configuration", _decisive(entry)) for _, entry, _ in near[:MAX_RUNS]]
    return Recollection(f"{'; '.join(parts)}.", evidence, tuple(rows))


def _nearest(others: Sequence[tuple[float, RunEntry, Values]], split: Split | None) -> tuple[RunEntry, Values]:
    """The run to name as one that went well: the one most alike, of equals the one at the bound."""
    alike = [(entry, tried) for share, entry, tried in others if share >= others[0][0] - ROUNDING]
    at_bound = (o for o in alike if split is not None and o[1].get(split.name) == split.good_at)
    return next(at_bound, alike[0])


def _works(
    near: Sequence[tuple[float, RunEntry]], others: Sequence[tuple[float, RunEntry, Values]], fails: bool
) -> bool:
    """Whether what went well speaks louder. Nearness counts as it is, without the bad direction."""
    worst, best = max(share for share, _ in near), others[0][0]
    if best < worst - ROUNDING or (fails and best < 1.0 - ROUNDING):
        return False
    if best > worst + ROUNDING:
        return True
    failed = [entry.started_at for share, entry in near if share >= worst - ROUNDING]
    well = [entry.started_at for share, entry, _ in others if share >= worst - ROUNDING]
    return len(well) > len(failed) or max(well) >= max(failed)  # times of a run are whole seconds


def _share(values: Values, tried: Values, entry: RunEntry, split: Split | None) -> float:
    """Mean agreement with a run that failed, 0 where a value that its cause depends on is another.

    A value that is further on the failing side counts as equal.
    """
    found: Likeness = likeness(values, tried)
    if found.share == 0.0:
        return 0.0
    decisive, worse = _decisive(entry), _WORSE.get(entry.cause or "", {})
    agreement = dict(found.agreement)
    for name, share in agreement.items():
        meaning = what(name)
        is_worse = (split is not None and split.name == name) or _is_beyond(
            values[name], tried.get(name), worse.get(meaning, 0)
        )
        if is_worse:
            agreement[name] = 1.0
        elif meaning in decisive and share < CLOSE:
            return 0.0
    return sum(agreement.values()) / len(agreement)


def _is_beyond(value: Any, tried: Any, direction: int) -> bool:
    return isinstance(value, float) and isinstance(tried, float) and direction != 0 and (value - tried) * direction > 0


def _decisive(entry: RunEntry) -> frozenset[str]:
    """Meanings of the values that a failure depends on."""
    tamed_by = frozenset({"learning_rate", "clipping", "schedule"}) if entry.finding in UNSTABLE else frozenset()
    return _VALUES.get(entry.cause or "", frozenset()) | tamed_by


def _is_configured(entry: RunEntry) -> bool:
    """Whether a configuration can be behind a failure."""
    if entry.finding is None or entry.status == "interrupted":
        return False
    if entry.cause is not None:
        return entry.cause in CONFIGURED_CAUSES
    return entry.finding.startswith(_OF_LEARNING)


def _same_kind(values: Values, tried: Values) -> bool:
    return all(values[gate] == tried[gate] for gate in ("model", "optimizer") if gate in values and gate in tried)


def _weight(found: Recollection) -> tuple[float, float]:
    return found.evidence["similar_share"], found.evidence["earlier_failures"]
