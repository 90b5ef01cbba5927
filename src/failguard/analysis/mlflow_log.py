"""The metrics of an MLflow run, also of one that failguard never saw."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from typing import Any

from failguard.analysis.log import Log
from failguard.analysis.records import from_records
from failguard.core.finding import Status
from failguard.core.redaction import short
from failguard.sinks.mlflow_metrics import Points, RunMetrics, read_metrics

__all__ = ["read_mlflow"]

LARGEST = 1.797e308  # MLflow stores infinity as the largest float
OURS = ("system/", "failguard/")
STATUS = {"FAILED": Status.FAILED, "KILLED": Status.INTERRUPTED, "RUNNING": Status.RUNNING}


def read_mlflow(run_id: str, tracking_uri: str | None = None) -> Log:
    """Read the metrics of a run, with its parameters as configuration.

    A run without metrics gives a log without columns, so that what else is known can be said.

    Args:
        run_id: The MLflow run.
        tracking_uri: The store; ``None``: the one MLflow itself would use.

    Raises:
        InputError: There is no such run.
        FailGuardError: The store cannot be used.
    """
    run = read_metrics(run_id, tracking_uri, leave_out=OURS)
    notes: list[str] = []
    series = {name: points for name, points in run.points.items() if points.steps}
    if all(min(points.steps) == max(points.steps) for points in series.values()):
        series = {name: _numbered(name, points, notes) for name, points in series.items()}
    if series:
        log = from_records(lambda: _records(series), f"the metrics of the MLflow run {run_id}")
    else:
        log = Log([], lambda: iter(()))
        notes.append("The MLflow run has no metrics: there are no curves to look at.")
    log.notes += notes
    _describe(log, run)
    return log


def _describe(log: Log, run: RunMetrics) -> None:
    origin = log.origin
    origin.config = {name: _as_number(value) for name, value in run.params.items()}
    origin.status, origin.started_at, origin.duration_s = STATUS.get(run.status), run.started_at, run.duration_s
    origin.experiment, origin.run_name = run.experiment, run.name
    origin.mlflow_run_id, origin.mlflow_tracking_uri = run.run_id, run.tracking_uri
    if run.was_watched:
        log.notes.append(f"failguard watched this run and knows more than its curves: failguard report {run.run_id}")


def _numbered(name: str, points: Points, notes: list[str]) -> Points:
    """Points that were logged without steps, by position."""
    steps = points.steps
    if len(steps) > 1:
        notes.append(f"{short(name)} was logged without steps: its values are counted through.")
    return Points(type(steps)(steps.typecode, range(len(steps))), points.values)


def _records(series: Mapping[str, Points]) -> Iterator[dict[str, Any]]:
    """One record a step, over all metrics. Of several values for one step the newest stands."""

    def stream(name: str, points: Points) -> Iterator[tuple[int, str, float]]:
        for step, value in zip(points.steps, points.values, strict=True):
            yield step, name, value

    record: dict[str, Any] = {}
    merged = heapq.merge(*(stream(n, p) for n, p in series.items()), key=lambda point: point[0])
    for step, name, value in merged:
        if record and record["step"] != step:
            yield record
            record = {}
        record["step"] = step
        record[name if name != "step" else "step_"] = math.copysign(math.inf, value) if abs(value) >= LARGEST else value
    if record:
        yield record


def _as_number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
