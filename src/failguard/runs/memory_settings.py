"""How a guard remembers earlier failures: ``FailGuard(memory=FailureMemory(...))``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from failguard.core.redaction import short
from failguard.errors import ConfigurationError

__all__ = ["FailureMemory"]

SCOPES = ("same line", "all")


@dataclass(frozen=True, slots=True)
class FailureMemory:
    """What counts as a configuration like this one, and how long to wait for the answer.

    Attributes:
        similar_share: Mean agreement of two configurations from which they are alike, above 0 and at most 1.
        ignore_keys: Names of values that do not matter, beside those that never do (seeds, names, paths, devices,
            workers). Dotted as in the registry, ``*`` stands for anything: ``["data.version", "aug_*"]``.
        keys: Only these values matter, and the model and the optimizer; ``None``: all that are not ignored.
        min_failures: Earlier failures that are needed for a warning.
        wait_s: The most that training waits, in seconds: once before it begins, and once at the end of a failing run.
        experiments: Where to look: ``"same line"`` (the line of work, else the experiment) or ``"all"`` of the store.

    Raises:
        ConfigurationError: A value cannot be used. The message names it and what is allowed.
    """

    similar_share: float = 0.8
    ignore_keys: Sequence[str] = ()
    keys: Sequence[str] | None = None
    min_failures: int = 1
    wait_s: float = 0.3
    experiments: Literal["same line", "all"] = "same line"

    def __post_init__(self) -> None:
        if not _is_number(self.similar_share) or not 0 < self.similar_share <= 1:
            raise _unusable("similar_share", self.similar_share, "a share above 0 and at most 1")
        if isinstance(self.min_failures, bool) or not isinstance(self.min_failures, int) or self.min_failures < 1:
            raise _unusable("min_failures", self.min_failures, "a whole number from 1")
        if not _is_number(self.wait_s) or not 0 <= self.wait_s <= 10:
            raise _unusable("wait_s", self.wait_s, "seconds from 0 to 10")
        if self.experiments not in SCOPES:
            raise _unusable("experiments", self.experiments, " or ".join(map(repr, SCOPES)))
        object.__setattr__(self, "ignore_keys", _names("ignore_keys", self.ignore_keys))
        if self.keys is not None:
            object.__setattr__(self, "keys", _names("keys", self.keys))


def _names(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) and v for v in value):
        raise _unusable(name, value, "a list of names, such as ['data.version', 'aug_*']")
    return tuple(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unusable(name: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"FailureMemory({name}={short(value, 200)}) cannot be used: it takes {allowed}.")
