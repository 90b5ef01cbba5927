"""Reading the metrics of an MLflow run. Writes and creates nothing."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from failguard.sinks.mlflow_read import open_store, trouble_named

__all__ = ["Points", "RunMetrics", "read_metrics"]


@dataclass(frozen=True, slots=True)
class Points:
    """The values of one metric, by step and then by time.

    Attributes:
        steps: int64.
        values: float64, of the same length.
    """

    steps: array[int]
    values: array[float]


@dataclass(slots=True)
class RunMetrics:
    """A run as MLflow has it.

    Attributes:
        run_id, tracking_uri, name, experiment: Who it is; the address without user info.
        status: MLflow's word: ``"RUNNING"``, ``"FINISHED"``, ``"FAILED"``, ``"KILLED"``.
        started_at: With time zone; ``None`` where MLflow has none.
        duration_s: 0 for a run that has not ended.
        params: As logged.
        was_watched: failguard left its mark.
        points: Metric to values.
    """

    run_id: str
    tracking_uri: str
    name: str
    experiment: str
    status: str
    started_at: datetime | None
    duration_s: float
    params: dict[str, str]
    was_watched: bool
    points: dict[str, Points] = field(default_factory=dict)


def read_metrics(run_id: str, tracking_uri: str | None = None, leave_out: Sequence[str] = ()) -> RunMetrics:
    """Read all values of a run's metrics.

    Args:
        run_id: The MLflow run.
        tracking_uri: The store; ``None``: the one MLflow itself would use.
        leave_out: Beginnings of names that are not wanted.

    Raises:
        InputError: There is no such run.
        FailGuardError: The store cannot be used.
    """
    client, shown = open_store(run_id, tracking_uri)
    with trouble_named(run_id, shown):
        run = client.get_run(run_id)
        info = run.info
        found = RunMetrics(
            run_id=run_id,
            tracking_uri=shown,
            name=str(info.run_name or ""),
            experiment=str(client.get_experiment(info.experiment_id).name),
            status=str(info.status),
            started_at=datetime.fromtimestamp(info.start_time / 1000, UTC) if info.start_time else None,
            duration_s=(info.end_time - info.start_time) / 1000 if info.end_time and info.start_time else 0.0,
            params={str(k): str(v) for k, v in run.data.params.items()},
            was_watched="failguard.status" in run.data.tags,
        )
        for name in sorted(run.data.metrics):
            if not name.startswith(tuple(leave_out)):
                points = client.get_metric_history(run_id, name)
                points.sort(key=lambda point: (point.step, point.timestamp))
                found.points[name] = Points(
                    array("q", (point.step for point in points)), array("d", (point.value for point in points))
                )
    return found
