"""The changes that lessons and next steps ask for, read from their text, so that it can be checked who made them."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from failguard.runs.entry import Note, RunEntry, value_of

__all__ = ["Change", "Judgement", "LineOfWork", "changes_in", "current_notes", "judge"]

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


class LineOfWork:
    """The runs of a line of work, which knows who makes a change.

    Args:
        runs: By start, oldest first.
    """

    def __init__(self, runs: Sequence[RunEntry]) -> None:
        self.runs = runs
        self._values: list[dict[str, list[Any]]] | None = None
        self._made: dict[tuple[str, str, str], list[int]] = {}

    def made(self, change: Change) -> list[int]:
        """Positions of the runs that are as a change asks, in order.

        A value is found by its whole key, by the last part of it, or by another usual name of the same thing (``lr``,
        ``learning_rate``); in what the adapter read where the configuration has none. A run that does not say what its
        value is does not make the change, whatever the sign.
        """
        key = (change.name, change.sign, repr(change.value))
        if key not in self._made:
            if self._values is None:
                self._values = [_by_name(run) for run in self.runs]
            names = _names(change.name)
            self._made[key] = [
                i
                for i, values in enumerate(self._values)
                if any(_compare(v, change.sign, change.value) for name in names for v in values.get(name, ()))
            ]
        return self._made[key]


def judge(entry: RunEntry, note: Note, line: LineOfWork, first: int) -> Judgement:
    """Judge one lesson or next step.

    A condition that the run itself fulfils already, as in "lr=0.3 diverged, lr=0.03", tells what was done and is no
    change; one on a metric of the run ("accuracy=0.8") is none either.

    Args:
        entry: The run that the note is on.
        note: The note.
        line: Its line of work.
        first: Position of the first later run in it.
    """
    own = LineOfWork([entry]).made
    alternatives = []
    for conditions in changes_in(note.text):
        kept = tuple(c for c in conditions if not own(c) and not _is_result(c, entry))
        if kept:
            alternatives.append(kept)
    found = [position for kept in alternatives if (position := _first_to_make(kept, line, first)) is not None]
    applied = line.runs[min(found)].run_id if found else None
    return Judgement(entry.run_id, note, tuple(alternatives), applied, bool(alternatives))


def _first_to_make(changes: Sequence[Change], line: LineOfWork, first: int) -> int | None:
    """Position of the first run from ``first`` on that makes all changes."""
    one, *others = (line.made(change) for change in changes)
    for position in one[bisect_left(one, first) :]:
        if all(_holds(made, position) for made in others):
            return position
    return None


def _holds(positions: Sequence[int], position: int) -> bool:
    at = bisect_left(positions, position)
    return at < len(positions) and positions[at] == position


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


def _is_result(change: Change, entry: RunEntry) -> bool:
    """Whether a name is of something that a run gave, and of nothing that it was given."""
    low = change.name.lower()
    known = low in _RESULTS or low.endswith(("_loss", "_accuracy", "_acc")) or change.name in entry.metrics
    return known and not _names(low) & _by_name(entry).keys()


def _names(name: str) -> frozenset[str]:
    low = _normal(name)
    return frozenset((low, *_SAME.get(low, ())))


def _by_name(entry: RunEntry) -> dict[str, list[Any]]:
    """The values of a run by their keys and by the last parts of those."""
    found: dict[str, list[Any]] = {}
    for key, value in entry.config.items():
        whole = _normal(key)
        last = whole.rsplit(".", 1)[-1]
        found.setdefault(whole, []).append(value)
        if last != whole:
            found.setdefault(last, []).append(value)
    for key, value in entry.setup.items():
        if not any(name in found for name in _names(key)):
            found[_normal(key)] = [value]
    return found


@lru_cache(10_000)
def _normal(name: str) -> str:
    return name.lower().replace("-", "_")


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
