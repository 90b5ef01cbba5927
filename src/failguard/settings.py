"""The keywords of FailGuard, the same in every framework, checked once at construction."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from failguard.core.codes import check_finding_code
from failguard.core.data_checks import DataChecks
from failguard.core.improvement import Mode
from failguard.core.redaction import short
from failguard.detectors.base import Detector
from failguard.errors import ConfigurationError
from failguard.policy import Policy
from failguard.resources import ResourceLimits
from failguard.runs.memory_settings import FailureMemory
from failguard.sinks.alerts import AlertSink
from failguard.sinks.base import Sink

__all__ = ["Settings"]

DETECTOR_PRESETS = ("minimal", "standard", "full")


@dataclass(frozen=True, slots=True)
class Settings:
    """The keywords of FailGuard. Their meaning is documented in :class:`failguard.adapter.GuardCallback`.

    ``monitor_is_named`` is not a keyword: the user named ``monitor`` (even with its default value) or set ``patience``,
    so that the metric's absence is worth a message.

    Raises:
        ConfigurationError: A value cannot be used. The message names it and what is allowed.
    """

    monitor: str = "val_loss"
    mode: Mode = "min"
    patience: int | None = None
    min_delta: float = 0.0
    restore_best_weights: bool | None = None
    policy: str | Policy | Mapping[str, Any] = "standard"
    ignore: Sequence[str] = ()
    detectors: str | Sequence[Detector] = "standard"
    resources: bool | ResourceLimits = True
    check_data: bool | DataChecks = True
    config: Mapping[str, Any] | None = None
    experiment: str | None = None
    run_name: str | None = None
    hypothesis: str | None = None
    approach: str | None = None
    line: str | None = None
    parent: str | None = None
    tags: Mapping[str, Any] | None = None
    sinks: Literal["auto"] | Sequence[Sink] = "auto"
    record_dir: str | os.PathLike[str] = "failguard_runs"
    alerts: Sequence[str | Callable[..., Any]] = ()
    overhead_budget: float = 0.01
    raise_on_failure: bool = False
    memory: bool | FailureMemory = True
    verify_remedies: bool | Literal["capture"] = False
    monitor_is_named: bool = False

    def __post_init__(self) -> None:
        self._check_text("monitor", empty=False)
        if self.mode not in ("min", "max"):
            raise _unusable("mode", self.mode, "'min' (lower is better) or 'max' (higher is better)")
        if self.patience is not None and (not _is_whole(self.patience) or self.patience < 1):
            raise _unusable("patience", self.patience, "a whole number of epochs from 1, or None for no early stopping")
        if not _is_number(self.min_delta) or not 0 <= self.min_delta < math.inf:
            raise _unusable("min_delta", self.min_delta, "a finite number from 0")
        if not _is_number(self.overhead_budget) or not 0 < self.overhead_budget <= 1:
            raise _unusable("overhead_budget", self.overhead_budget, "a share of step time above 0 and at most 1")
        if not isinstance(self.check_data, bool | DataChecks):
            raise _unusable("check_data", self.check_data, "True, False or DataChecks(...)")
        if not isinstance(self.raise_on_failure, bool):
            raise _unusable("raise_on_failure", self.raise_on_failure, "True or False")
        if not isinstance(self.memory, bool | FailureMemory):
            raise _unusable("memory", self.memory, "True, False or FailureMemory(...)")
        if not isinstance(self.verify_remedies, bool) and self.verify_remedies != "capture":
            raise _unusable(
                "verify_remedies", self.verify_remedies, "True, False or 'capture' (keep what `failguard verify` needs)"
            )
        if self.restore_best_weights not in (None, True, False):
            raise _unusable("restore_best_weights", self.restore_best_weights, "True, False or None")
        if not isinstance(self.resources, bool | ResourceLimits):
            raise _unusable("resources", self.resources, "True, False or ResourceLimits(...)")
        for name in ("experiment", "run_name", "hypothesis", "approach", "line", "parent"):
            self._check_text(name)
        for name in ("config", "tags"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise _unusable(name, value, "a mapping such as {'learning_rate': 0.1}, or None")
        if not isinstance(self.record_dir, str | os.PathLike) or not os.fspath(self.record_dir):
            raise _unusable("record_dir", self.record_dir, "a folder's path")
        # The dataclass is frozen so that a guard's settings never change under it; normalising is part of making it.
        object.__setattr__(self, "monitor", str(self.monitor))  # plain text, as it goes into checkpoints
        object.__setattr__(self, "policy", Policy.coerce(self.policy).also_stopping(self.raising))
        object.__setattr__(self, "ignore", tuple(check_finding_code(c) for c in _items("ignore", self.ignore)))
        if isinstance(self.alerts, str):  # not shown: most of an address may be a secret
            raise ConfigurationError("alerts takes a list of addresses or callables, such as [address], not text.")
        object.__setattr__(self, "alerts", tuple(_items("alerts", self.alerts)))
        for target in self.alerts:
            if not isinstance(target, str) and not callable(target):
                raise _unusable("alerts", target, "notification addresses or callables that take the report")
        if self.alerts:
            AlertSink(self.alerts)  # raises where an address cannot be used or Apprise is missing
        self._check_detectors()
        self._check_sinks()

    @property
    def resolved_policy(self) -> Policy:
        """``policy`` as an object, however it was given."""
        return Policy.coerce(self.policy)

    @property
    def failure_memory(self) -> FailureMemory | None:
        """How earlier failures are remembered; ``None``: they are not."""
        if isinstance(self.memory, FailureMemory):
            return self.memory
        return FailureMemory() if self.memory else None

    @property
    def raising(self) -> Sequence[str]:
        """Codes of findings about the data that are to end in an error."""
        return self.check_data.raises if isinstance(self.check_data, DataChecks) else ()

    @property
    def keeps_best_weights(self) -> bool:
        """Whether a copy of the best epoch's weights is wanted."""
        if self.restore_best_weights is not None:
            return self.restore_best_weights
        return self.patience is not None or self.resolved_policy.stops_on("metric.overfitting")

    def _check_text(self, name: str, *, empty: bool = True) -> None:
        value = getattr(self, name)
        if value is None and empty:
            return
        if not isinstance(value, str) or not (value or empty):
            raise _unusable(name, value, "text" + (" or None" if empty else ", such as 'val_loss'"))

    def _check_detectors(self) -> None:
        if isinstance(self.detectors, str):
            if self.detectors not in DETECTOR_PRESETS:
                raise _unusable("detectors", self.detectors, f"one of {', '.join(DETECTOR_PRESETS)}, or a list of them")
            return
        for detector in _items("detectors", self.detectors):
            if isinstance(detector, type) or not callable(getattr(detector, "check", None)):
                raise _unusable("detectors", detector, "objects with a code and a method check(observation, history)")
            check_finding_code(str(getattr(detector, "code", "")))
            if not isinstance(getattr(detector, "events", ()), Collection):
                raise _unusable("detectors", detector, "detectors whose events are a set of Event")

    def _check_sinks(self) -> None:
        if isinstance(self.sinks, str):
            if self.sinks != "auto":
                raise _unusable("sinks", self.sinks, "'auto', a list of sinks, or [] to write nothing")
            return
        for sink in _items("sinks", self.sinks):
            missing = [m for m in ("name", "background", "start", "progress", "finish") if not hasattr(sink, m)]
            if isinstance(sink, type) or missing:
                raise _unusable(
                    "sinks", sink, f"objects of the Sink protocol (missing: {', '.join(missing) or 'call it'})"
                )
        names = [sink.name for sink in self.sinks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"sinks holds more than one sink of the name {twice[0]!r}. Keep one, or give each a name of its own."
            )


def _unusable(name: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"{name}={short(value, 200)} cannot be used: {name} takes {allowed}.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _items(name: str, value: object) -> Sequence[Any]:
    # A bare string is a sequence too, and a likely slip: ignore="loss.spike".
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _unusable(name, value, f"a list, such as [{short(value, 200)}]" if isinstance(value, str) else "a list")
    return value
