"""What an experiment is to be, checked before there is a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from failguard.core.redaction import redact, short
from failguard.errors import ConfigurationError
from failguard.monitor import resource_monitor
from failguard.settings import Settings
from failguard.sinks.base import Sink

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of an experiment before it starts. See :class:`failguard.ExperimentManager` for the meaning."""

    project: str
    name: str
    hypothesis: str = ""
    config: Any = None
    approach: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    line: str | None = None
    parent: str | None = None
    seed: int | None = None
    tracking_uri: str | None = None
    record_dir: str | os.PathLike[str] = "failguard_runs"
    sinks: Literal["auto"] | Sequence[Sink] = "auto"
    alerts: Sequence[Any] = ()
    max_memory_increase_mb: float | None = None
    max_duration_s: float | None = None
    pass_through: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigurationError(
                f"name={short(self.name)} cannot be used: an experiment has a name, such as 'wider'."
            )
        self.settings()
        self.monitor()

    def recorded_config(self) -> dict[str, Any]:
        """The configuration as it is recorded: plain, bounded, without secrets. The user's own is left as it is."""
        copied = redact({} if self.config is None else self.config)
        if not isinstance(copied, dict):
            raise ConfigurationError(
                f"config={short(self.config)} cannot be used: it takes a mapping such as {{'learning_rate': 0.1}}, a "
                "dataclass, a namespace, or None."
            )
        if self.seed is not None:
            copied.setdefault("seed", self.seed)
        return copied

    def settings(self, **changes: Any) -> Settings:
        """The keywords that guards and experiments share, checked."""
        values: dict[str, Any] = {
            "config": self.recorded_config(),
            "experiment": self.project,
            "run_name": self.name,
            "hypothesis": self.hypothesis,
            "approach": self.approach,
            "line": self.line,
            "parent": self.parent,
            "tags": self.tags,
            "sinks": self.sinks,
            "record_dir": self.record_dir,
            "alerts": self.alerts,
        }
        return Settings(**{**values, **changes})

    def monitor(self) -> resource_monitor:
        """What measures the resources of the experiment."""
        return resource_monitor(self.name, self.max_memory_increase_mb, self.max_duration_s)
