"""Who a run is: names, purpose, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["RunInfo"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The registry entry of one run. Secrets are already redacted.

    Attributes:
        record_id: Name of the local record's folder: start time and a random part.
        started_at: ISO 8601 with milliseconds, since runs of one second have an order too, and time zone.
        framework: ``"lightning"``, ``"keras"``, ``"torch"``, ``"python"`` for an experiment without a guard, or
            ``"log"`` for a finished log.
        experiment, run_name, hypothesis, approach: As the user gave them.
        line: The line of work that the run belongs to; ``None``: its experiment.
        parent: Id of the run that this one improves on.
        tags: As the user gave them, values as text.
        config: The user's hyperparameters, or what was read from the model and optimizer.
        mlflow_run_id: A run that the framework's own logger writes to, found at the start.
        mlflow_tracking_uri: The store of that run.
        resumed: The run goes on from a checkpoint that carried the guard's state.
        is_experiment: An ExperimentManager ran it: its outcome and the type of its error are params too.
    """

    record_id: str
    started_at: str
    framework: str = ""
    experiment: str | None = None
    run_name: str | None = None
    hypothesis: str | None = None
    approach: str | None = None
    line: str | None = None
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    mlflow_run_id: str | None = None
    mlflow_tracking_uri: str | None = None
    resumed: bool = False
    is_experiment: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain values, for JSON."""
        return asdict(self)
