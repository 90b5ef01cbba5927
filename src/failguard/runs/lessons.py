"""The changes that lessons and next steps ask for, read from their text, so that it can be checked who made them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from failguard.runs.entry import Note, RunEntry, value_of

__all__ = ["Change", "Judgement", "changes_in", "current_notes", "is_made_by", "judge"]

KINDS = ("lesson", "next_step")
_TOLERANCE = 1e-9  # relative: 0.1 is written as 0.1, whatever arithmetic it came from
# Names of one thing. The first is the one in a run's setup.
_ALIASES = (
    ("learning_rate", "lr", "base_lr", "max_lr", "opt_learning_rate"),
    ("batch_size", "train_batch_size", "per_device_train_batch_size"),
    ("optimizer", "optimizer_name", "opt_name", "optim"),
    ("clipping", "gradient_clip_val", "max_grad_norm", "grad_clip", "clip_grad_norm", "clipnorm"),
    ("schedule", "lr_scheduler_type", "lr_scheduler", "scheduler"),
    ("weight_decay", "opt_weight_decay", "wd"),
    ("dropout", "dropout_rate", "drop_rate"),
    ("epochs", "max_epochs", "num_train_epochs", "num_epochs", "n_epochs"),
)
_SAME = {name: names for names in _ALIASES for name in names}
_TURNED = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_SIGNS = {"==": "=", ":=": "=", "≤": "<=", "≥": ">=", "≠": "!="}
_NOT = r"(?:never|not|avoid|no|don't|dont|without)"
_CHANGE = re.compile(
    rf"""(?:\b(?P<negated>{_NOT})\s+(?:(?:use|set|try|take|go|train|run|with|at|have|a|the)\s+){{0,3}})?
        (?<![\w.])(?P<name>[A-Za-z_][\w.\-]{{0,99}})
        \s?(?P<sign><=|>=|==|!=|:=|[=<>≤≥≠])\s?
        (?P<value>"[^"\n]{{1,99}}"|'[^'\n]{{1,99}}'|[^\s,;()"'<>=]{{1,100}})""",
    re.VERBOSE | re.IGNORECASE,
)
_OR = re.compile(r"\bor\b", re.IGNORECASE)
_MAX_TEXT = 10_000
# What a run gave, not what it was given: "accuracy=0.8 at step=140" asks for nothing.
_RESULTS = frozenset({"loss", "accuracy", "acc", "auc", "f1", "precision", "recall", "error", "step", "grad_norm"})


@dataclass(frozen=True, slots=True)
class Change:
    """A condition on one value of a configuration.

    Attributes:
        name: Key of the configuration.
        sign: ``"="``, ``"!="``, ``"<"``, ``"<="``, ``">"`` or ``">="``.
        value: What it is compared with.
    """

    name: str
    sign: str
    value: Any

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.value}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a lesson or next step was applied.

    Attributes:
        run_id: The run that it was written on.
        note: The lesson or next step as it stands.
        changes: What it asks for: alternatives, each a list of conditions that belong together.
        applied_by: The first later run of the line that makes the change; ``None`` where none did.
        judgeable: It asks for a change that can be checked.
    """

    run_id: str
    note: Note
    changes: tuple[tuple[Change, ...], ...]
    applied_by: str | None
    judgeable: bool


def current_notes(entry: RunEntry, kinds: Iterable[str] = KINDS) -> list[Note]:
    """The lessons and next steps as they stand, without versions that were replaced or taken back."""
    replaced = {note.replaces for note in entry.notes if note.replaces}
    return [n for n in entry.notes if n.kind in kinds and n.id not in replaced and n.text.strip()]


def changes_in(text: str) -> tuple[tuple[Change, ...], ...]:
    """Read the changes that a text asks for.

    A change is ``name=value`` with one of ``= == != < <= > >=``, with at most one space on either side: ``lr=0.03``,
    ``dropout >= 0.3``, ``optimizer=adam``. Several belong together, ``or`` separates alternatives, and a word such as
    "never", "not" or "avoid" before one turns it around: "never lr>=0.3" asks for ``lr<0.3``.

    Returns:
        The alternatives; empty where the text asks for nothing that could be checked.
    """
    found = []
    for part in _OR.split(text[:_MAX_TEXT]):
        changes = tuple(change for m in _CHANGE.finditer(part) if (change := _change(m)) is not None)
        if changes:
            found.append(changes)
    return tuple(found)


def is_made_by(change: Change, entry: RunEntry) -> bool:
    """Whether a run's configuration, or what the adapter read of its setup, is as a change asks.

    A run that does not say what its value is does not make the change, whatever the sign.
    """
    return any(_compare(value, change.sign, change.value) for value in _lookup(change.name, entry))


def judge(entry: RunEntry, note: Note, later_runs: Sequence[RunEntry]) -> Judgement:
    """Judge one lesson or next step.

    A condition that the run itself fulfils already, as in "lr=0.3 diverged, lr=0.03", tells what was done and is no
    change; one on a metric of the run ("accuracy=0.8") is none either.

    Args:
        entry: The run that the note is on.
        note: The note.
        later_runs: Later runs of the line of work, oldest first.
    """
    alternatives = []
    for conditions in changes_in(note.text):
        kept = tuple(c for c in conditions if not is_made_by(c, entry) and not _is_metric(c, entry))
        if kept:
            alternatives.append(kept)
    made = (r for r in later_runs if any(all(is_made_by(c, r) for c in kept) for kept in alternatives))
    applied = next(made, None) if alternatives else None
    return Judgement(
        entry.run_id, note, tuple(alternatives), None if applied is None else applied.run_id, bool(alternatives)
    )


def _change(match: re.Match[str]) -> Change | None:
    text = match["value"].strip("\"'").rstrip(".!?:")
    if not text:
        return None
    sign = _SIGNS.get(match["sign"], match["sign"])
    value = value_of(text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if sign not in ("=", "!=") and not is_number:
        return None
    return Change(match["name"], _TURNED[sign] if match["negated"] else sign, value)


def _is_metric(change: Change, entry: RunEntry) -> bool:
    low = change.name.lower()
    known = low in _RESULTS or low.endswith(("_loss", "_accuracy", "_acc")) or change.name in entry.metrics
    return known and not list(_lookup(change.name, entry))


def _lookup(name: str, entry: RunEntry) -> Iterable[Any]:
    """The values that a run has under a name: whole or last part of a key, or another name of the same thing."""
    plain_name = name.lower().replace("-", "_")
    names = {plain_name, *_SAME.get(plain_name, ())}
    found = [
        value
        for key, value in entry.config.items()
        if (low := key.lower().replace("-", "_")) in names or low.rsplit(".", 1)[-1] in names
    ]
    if not found:
        found = [value for key, value in entry.setup.items() if key.lower() in names]
    return found


def _compare(value: Any, sign: str, wanted: Any) -> bool:
    if _is_number(value) and _is_number(wanted):
        same = math.isclose(value, wanted, rel_tol=_TOLERANCE)
        return {
            "=": same,
            "!=": not same,
            "<": value < wanted and not same,
            "<=": value < wanted or same,
            ">": value > wanted and not same,
            ">=": value > wanted or same,
        }[sign]
    if sign not in ("=", "!="):
        return False
    same = str(value).strip().casefold() == str(wanted).strip().casefold()
    return same if sign == "=" else not same


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
