"""Choosing runs by values of their configuration."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from failguard.errors import InputError
from failguard.runs.entry import RunEntry, value_of

__all__ = ["ConfigFilter"]

_CONDITION = re.compile(r"\s*([^=<>!]+?)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class ConfigFilter:
    """Conditions on the configuration, all of which must hold.

    Attributes:
        conditions: Name, operator and value of each.
    """

    conditions: tuple[tuple[str, str, Any], ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any] | Sequence[str] | None) -> ConfigFilter:
        """From what users write.

        Args:
            given: ``{"lr": 0.1}``, or ``["lr>=0.1", "optimizer=adam"]``. Nesting is named with dots.

        Raises:
            InputError: It cannot be understood.
        """
        if given is None:
            return cls()
        if isinstance(given, Mapping):
            return cls(tuple((str(name), "=", value) for name, value in given.items()))
        if isinstance(given, str):
            given = [given]
        return cls(tuple(_parsed(text) for text in given))

    def __bool__(self) -> bool:
        return bool(self.conditions)

    @property
    def names(self) -> tuple[str, ...]:
        """The values that it looks at."""
        return tuple(dict.fromkeys(name for name, _, _ in self.conditions))

    def accepts(self, entry: RunEntry) -> bool:
        """Whether a run meets every condition. One that has no such value meets none.

        Args:
            entry: The run.
        """
        return all(_holds(entry, *condition) for condition in self.conditions)


def _parsed(text: str) -> tuple[str, str, Any]:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise InputError(f"The condition {text!r} cannot be understood. Write lr=0.1, lr>=0.1 or optimizer!=adam.")
    name, sign, value = found[1], "=" if found[2] == "==" else found[2], value_of(found[3])
    if sign in _ORDER and not _is_number(value):
        raise InputError(f"The condition {text!r} cannot be understood: {sign} takes a number.")
    return name, sign, value


def _holds(entry: RunEntry, name: str, sign: str, wanted: Any) -> bool:
    if name in entry.config:
        found = entry.config[name]
    elif name in entry.setup:  # what the adapter read, where the user gave no configuration
        found = entry.setup[name]
    else:
        return False
    if sign in _ORDER:
        return _is_number(found) and _ORDER[sign](found, wanted)
    return _same(found, wanted) == (sign == "=")


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return str(found).lower() == str(wanted).lower()
    if _is_number(found) and _is_number(wanted):
        return bool(found == wanted)
    return str(found).lower() == str(wanted).lower()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
