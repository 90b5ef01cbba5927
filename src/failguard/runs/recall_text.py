"""What earlier runs say, in words. Other people's texts come out as one safe line."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from failguard.core.redaction import redact_text
from failguard.diagnosis.wording import count
from failguard.report.text import one_line
from failguard.runs.contrast import Split, value_text
from failguard.runs.entry import RunEntry
from failguard.runs.memory_settings import FailureMemory
from failguard.runs.similarity import Values, changes, entry_values, what

__all__ = [
    "UNSTABLE",
    "by_step",
    "done_text",
    "helped_text",
    "lesson_texts",
    "name_text",
    "row",
    "runs_text",
    "why_text",
]

MAX_LESSONS = 2
MAX_CHANGES = 3
UNSTABLE = frozenset(
    {"loss.divergence", "loss.non_finite", "gradient.exploding", "gradient.non_finite", "weights.non_finite"}
)
DID = {
    "loss.divergence": "diverged",
    "loss.non_finite": "got a loss that is not finite",
    "gradient.non_finite": "got gradients that are not finite",
    "weights.non_finite": "got weights that are not finite",
    "loss.no_learning": "learned nothing",
    "loss.plateau": "stopped learning too soon",
    "gradient.exploding": "had exploding gradients",
    "metric.overfitting": "overfitted",
    "resource.oom": "ran out of memory",
}


def runs_text(n: int) -> str:
    """``"3 earlier runs"``."""
    return f"{count(n)} earlier run{'s' if n > 1 else ''}"


def done_text(failed: Sequence[RunEntry]) -> str:
    """What the runs did; runs that fail for one cause may show it otherwise."""
    codes = {str(entry.finding) for entry in failed}
    if len(codes) > 1:
        return "diverged" if codes <= UNSTABLE else "failed"
    (code,) = codes
    return DID.get(code, f"failed with {one_line(code, 80)}")


def by_step(failed: Sequence[RunEntry]) -> str:
    """The step by which all of them had failed, where each ended there."""
    steps = [e.steps for e in failed if e.steps is not None and e.status in ("stopped", "failed")]
    return f" by step {count(max(steps))}" if steps and len(steps) == len(failed) else ""


def why_text(
    near: Sequence[tuple[float, RunEntry, Values]], split: Split | None, decisive: Collection[str], done: str
) -> str:
    """The value that decides: what sets good and failed runs apart, else what the cause depends on."""
    if split is not None:
        well = _well(str(near[0][1].finding))
        told = f"{split.failing_side} {done} {split.failed} of {split.failed_of}"
        return f" ({_safe(f'{told}, {split.good_side} {well} {split.good} of {split.good_of}', 300)})"
    tried = near[0][2]
    names = [name for name in tried if what(name) in decisive and name != "optimizer"][:MAX_CHANGES]
    return f" ({_safe(', '.join(f'{name} {value_text(tried[name])}' for name in names), 300)})" if names else ""


def helped_text(values: Values, other: tuple[RunEntry, Values], split: Split | None, decisive: Collection[str]) -> str:
    """A run that went well, with what it did otherwise."""
    entry, tried = other
    differing = changes(values, tried, decisive)
    names = [split.name] if split is not None else list(islice(differing, 2))
    told = _safe(", ".join(f"{name} {value_text(tried.get(name))}" for name in names), 200)
    return f"run {name_text(entry)}{f' with {told}' if told else ''} {_well(str(entry.finding))}"


def _well(code: str) -> str:
    return "went through" if code.startswith("resource.") else "learned"


def lesson_texts(entries: Sequence[RunEntry]) -> list[str]:
    """What people learned from these runs, the first two."""
    texts = dict.fromkeys(_safe(text, 200) for entry in entries for text in entry.lessons)
    return [f"lesson: {text.rstrip('.')}" for text in islice((t for t in texts if t), MAX_LESSONS)]


def row(
    entry: RunEntry, good: Sequence[RunEntry], memory: FailureMemory, match: str, decisive: Collection[str]
) -> dict[str, Any]:
    """An earlier run in the table of the report; the first six are shown."""
    fix, changed = _fixed(entry, good, memory, decisive)
    return {
        "run": name_text(entry),
        "date": f"{entry.started_at:%Y-%m-%d}",
        "finding": entry.finding,
        "cause": entry.cause,
        "fixed_by": None if fix is None else f"{_changed(changed)} in run {name_text(fix)}",
        "lessons": [_safe(text, 300) for text in entry.lessons[:MAX_LESSONS]],
        "run_id": entry.run_id,
        "match": match,
        "fixed_by_run_id": None if fix is None else fix.run_id,
    }


def _fixed(
    entry: RunEntry, good: Sequence[RunEntry], memory: FailureMemory, decisive: Collection[str]
) -> tuple[RunEntry | None, Mapping[str, tuple[Any, Any]]]:
    """The next run of the line that went well, one that names the failed run as its parent first; and what differs."""
    later = [g for g in good if g.started_at > entry.started_at and g.line == entry.line]
    if not later:
        return None, {}
    fix = min(later, key=lambda g: (g.parent != entry.run_id, g.started_at))
    return fix, changes(entry_values(entry, memory), entry_values(fix, memory), decisive)


def _changed(changed: Mapping[str, tuple[Any, Any]]) -> str:
    if not changed:
        return "the same values"
    told = [f"{name} {value_text(a)} -> {value_text(b)}" for name, (a, b) in islice(changed.items(), MAX_CHANGES)]
    more = f" and {len(changed) - MAX_CHANGES} more" if len(changed) > MAX_CHANGES else ""
    return _safe(f"{', '.join(told)}{more}", 300)


def name_text(entry: RunEntry) -> str:
    """The run's name, or the beginning of its id."""
    return _safe(entry.name, 60) or entry.run_id[:8]


def _safe(text: str, limit: int) -> str:
    """Other people's text as one line, without secrets and control characters."""
    return one_line(redact_text(text), limit)
