"""How alike two configurations are, value by value. Pure, and always explained."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from failguard.core.redaction import REDACTED
from failguard.core.secret_keys import is_secret_key, words
from failguard.diagnosis.configuration import NAMES
from failguard.report.plain import plain
from failguard.runs.entry import RunEntry
from failguard.runs.memory_settings import FailureMemory

__all__ = ["CLOSE", "Likeness", "changes", "entry_values", "likeness", "matters", "values_of", "what"]

Values = Mapping[str, Any]  # float, bool or text

CLOSE = 0.69  # agreement of numbers up to a factor of two apart
MAX_TEXT = 200  # characters of a text that is compared
GATES = ("model", "optimizer")  # another one makes another configuration

# Names that say nothing of how a run trains, by the words they are made of.
_NEVER = words(
    "seed seeds rng path paths dir directory folder file files filename url uri checkpoint checkpoints ckpt logdir log"
    " logs logger logging verbose verbosity progress worker workers device devices gpu gpus accelerator cuda host"
    " hostname port rank threads prefetch pin persistent timestamp date uuid wandb mlflow tensorboard debug notes note"
    " comment tags project entity user resume"
)
_NEVER_ALONE = words("name id version random_state world_size num_nodes time run output")
_NAMED_BY = words("run experiment exp job group study trial")  # run_name, trial_id: who, not how
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PLACE = re.compile(r"^(?:~|\.{0,2}[/\\]|[A-Za-z]:[/\\])|://")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_MEANING = {name: meaning for meaning, names in NAMES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two configurations side by side.

    Attributes:
        share: Mean agreement over what is compared, 0 to 1; 0 with another model or optimizer, or nothing to compare.
        agreement: Name to agreement, 0 to 1, without the model and the optimizer. For numbers it falls with the
            logarithm of their ratio: 1 where they are equal, 0.7 at a factor of two, 0 from a factor of ten. Everything
            else is equal or not.
    """

    share: float
    agreement: Mapping[str, float]

    @property
    def same(self) -> tuple[str, ...]:
        """Names of the values that are equal."""
        return tuple(name for name, share in self.agreement.items() if share == 1.0)


def values_of(config: Mapping[str, Any], setup: Mapping[str, Any], memory: FailureMemory) -> dict[str, Any]:
    """The values of a run that matter, plain and comparable.

    Args:
        config: The configuration without nesting, as :attr:`RunEntry.config`.
        setup: What the adapter read, as :attr:`RunEntry.setup`. A value that the configuration has under a usual name
            of its own is not counted twice.
        memory: Which names matter.
    """
    found: dict[str, Any] = {}
    known = set()
    for name, value in config.items():
        if matters(name, memory):
            comparable = _comparable(value)
            if comparable is not None and what(name) != "optimizer":
                found[name] = comparable
                known.add(what(name))
    for name, value in setup.items():
        comparable = _comparable(value)
        if comparable is None or name in known or (name not in GATES and memory.keys is not None):
            continue
        found[name] = comparable
    if "optimizer" not in found:
        named = (_comparable(v) for name, v in config.items() if what(name) == "optimizer")
        optimizer = next((value for value in named if value is not None), None)
        if optimizer is not None:
            found["optimizer"] = optimizer
    return found


def entry_values(entry: RunEntry, memory: FailureMemory) -> dict[str, Any]:
    """The same of a run of the registry."""
    return values_of(entry.config, entry.setup, memory)


def likeness(new: Values, old: Values) -> Likeness:
    """Compare a new configuration with one that was tried.

    A value that only the new one has is a difference. One that only the old one has is passed over: it may have been
    logged by something else.
    """
    for gate in GATES:
        if gate in new and gate in old and new[gate] != old[gate]:
            return Likeness(0.0, {})
    agreement = {}
    for name, value in ((n, v) for n, v in new.items() if n not in GATES):
        there = name if name in old else _under_another_name(name, old)
        if there is not None:
            agreement[name] = _agreement(value, old[there])
        elif name not in _SETUP:  # what the adapter could not read there is not known
            agreement[name] = 0.0
    return Likeness(sum(agreement.values()) / len(agreement) if agreement else 0.0, agreement)


def _under_another_name(name: str, values: Values) -> str | None:
    meaning = what(name)
    return next((other for other in values if what(other) == meaning), None) if meaning in NAMES else None


def changes(old: Values, new: Values, first: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
    """What differs, as name to (old, new); ``None`` where a value is not set.

    Args:
        old, new: Two configurations.
        first: Meanings of values (see :func:`what`) to name first.
    """
    found = {}
    for name in dict.fromkeys([*new, *old]):
        a, b = old.get(name), new.get(name)
        if a != b and not (name in _SETUP and (a is None or b is None)):
            found[name] = (a, b)
    return dict(sorted(found.items(), key=lambda pair: what(pair[0]) not in first))


@lru_cache(maxsize=4096)
def what(name: str) -> str:
    """The meaning of a value by its usual names: ``"opt.lr"`` -> ``"learning_rate"``; else its own last name."""
    last = name.rsplit(".", 1)[-1].lower().replace("-", "_")
    if last == "name" and name.lower().endswith("optimizer.name"):
        return "optimizer"
    return _MEANING.get(last, last)


def matters(name: str, memory: FailureMemory) -> bool:
    """Whether a configuration's value says how a run trains."""
    if memory.keys is not None:
        return _is_among(name, memory.keys)
    return not _says_nothing(name) and not _is_among(name, memory.ignore_keys)


@lru_cache(maxsize=4096)
def _says_nothing(name: str) -> bool:
    parts = [w.lower() for w in _WORD.findall(name.rsplit(".", 1)[-1][-200:])]
    last = "_".join(parts)
    if not parts or not _NEVER.isdisjoint(parts) or is_secret_key(name):
        return True
    if parts[-1] in ("name", "id") and not _NAMED_BY.isdisjoint(parts):
        return True
    return last in _NEVER_ALONE and ("." not in name or last != "name")  # optimizer.name is another matter


def _is_among(name: str, patterns: Iterable[str]) -> bool:
    last = name.rsplit(".", 1)[-1]
    return any(fnmatchcase(name, pattern) or fnmatchcase(last, pattern) for pattern in patterns)


def _comparable(value: Any) -> Any:
    """A value as a number, truth or short text; ``None`` where there is none, or none that can be compared."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        number = _float(value)
        return number if math.isfinite(number) else None
    text = value.strip() if isinstance(value, str) else str(plain(value))
    if not text or text == REDACTED or _PLACE.search(text) or _ADDRESS.search(text):
        return None
    number = _float(text)
    return number if math.isfinite(number) else text[:MAX_TEXT].lower()


def _float(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _agreement(a: Any, b: Any) -> float:
    if a == b and isinstance(a, bool) == isinstance(b, bool):
        return 1.0
    if isinstance(a, bool) or isinstance(b, bool) or not (isinstance(a, float) and isinstance(b, float)):
        return 0.0
    if a == 0.0 or b == 0.0 or (a > 0.0) != (b > 0.0):
        return 0.0
    return max(0.0, 1.0 - abs(math.log10(abs(a)) - math.log10(abs(b))))


_SETUP = frozenset(
    ("model", "parameters", "optimizer", "learning_rate", "schedule", "clipping", "loss", "batch_size")
)  # names of `failguard.sinks.mlflow_values.setup`
