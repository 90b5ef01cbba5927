"""What MLflow gets, as plain values that it accepts: names, lengths and numbers within its limits."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from failguard._version import __version__
from failguard.core.finding import Severity, Status
from failguard.core.redaction import cut
from failguard.report.outcome import outcome_of
from failguard.report.plain import plain
from failguard.report.run_report import RunReport

__all__ = [
    "MetricRow",
    "TimedRow",
    "course_rows",
    "flat_config",
    "metric_rows",
    "note",
    "params",
    "resource_rows",
    "run_status",
    "setup",
    "summary_rows",
    "tags",
    "valid_name",
]

# MLflow's limits: mlflow.utils.validation.
MAX_PARAM = 6_000
MAX_TAG = 8_000
MAX_NAME = 250
MAX_PARAMS = 500  # ours: more is a data set, not a configuration
RESULT_PARAMS = frozenset({"outcome", "error_type"})  # of an experiment

COURSE_EVERY_S = 10.0  # as MLflow's own system metrics
NEXT_READING = 10

MetricRow = tuple[str, float, int]  # name, value, step
TimedRow = tuple[str, float, int, int]  # name, value, step, time in milliseconds

_ILLEGAL = re.compile(r"[^\w.\- :/]")


def valid_name(name: str) -> str:
    """A metric or param name that MLflow accepts: one bad name rejects a whole batch."""
    name = _ILLEGAL.sub("_", name).strip()
    parts = [p for p in name.split("/") if p not in ("", ".", "..")]
    return "/".join(parts)[:MAX_NAME].rstrip("/") or "_"


def metric_rows(history: Sequence[Mapping[str, Any]], sent: Mapping[str, int], *, final: bool) -> list[MetricRow]:
    """The blocks of a report's history that MLflow has not got yet.

    Args:
        history: Rows of :meth:`History.rows`.
        sent: Metric name to the start of the newest block that was sent.
        final: The run is over, so that the last block of each series is complete.

    Returns:
        ``(name, mean, start)`` for each new block with a finite value. Step quantities come as ``failguard/<name>``
        over steps, epoch metrics as the same over epochs; where a name is both, the epochs' one ends in ``_epoch``.
    """
    series: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in history:
        series.setdefault((str(row["per"]), str(row["name"])), []).append(row)
    found = []
    for (per, name), rows in series.items():
        is_both = per == "epoch" and ("step", name) in series
        key = valid_name(f"failguard/{name}{'_epoch' if is_both else ''}")
        size = rows[0]["count"] if len(rows) > 1 else 1  # all blocks but the last are of one size
        for row in rows:
            is_complete = final or row["count"] >= size
            if is_complete and row["start"] > sent.get(key, -1) and row["mean"] is not None:
                found.append((key, float(row["mean"]), int(row["start"])))
    return found


def resource_rows(report: RunReport) -> list[MetricRow]:
    """The resource summary as ``system/...`` metrics at the run's last step, without what has a course over time."""
    step = max(report.progress.steps - 1, 0)
    series = report.resources.get("series")
    course = set(series) if isinstance(series, Mapping) else set()
    single = {name: value for name, value in report.resources.items() if name not in course}
    return [
        (valid_name(f"system/{name}"), float(value), step)
        for name, value in _flat(single, "/")
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def course_rows(report: RunReport, sent: Mapping[str, int]) -> list[TimedRow]:
    """The course of each sampled quantity, for MLflow's page of system metrics. At most one point in ten seconds.

    Args:
        report: The report.
        sent: Metric name to the newest step that was sent.

    Returns:
        ``(name, value, step, time)`` with the seconds since the start as the step, and the time in milliseconds since
        1970.
    """
    series = report.resources.get("series")
    if not isinstance(series, Mapping) or not isinstance(series.get("elapsed_s"), list):
        return []
    began_ms = start_ms(report)
    chosen: list[tuple[int, float]] = []
    for i, elapsed_s in enumerate(series["elapsed_s"]):
        if not chosen or elapsed_s - chosen[-1][1] >= COURSE_EVERY_S:
            chosen.append((i, elapsed_s))
    rows = []
    for name, values in series.items():
        key = valid_name(f"system/{name}")
        if name == "elapsed_s" or not isinstance(values, list):
            continue
        for i, elapsed_s in chosen:
            # A quantity that is read less often stands for the time until its next reading.
            value = next((v for v in values[i : i + NEXT_READING] if v is not None), None)
            step = int(elapsed_s)
            if value is not None and math.isfinite(value) and step > sent.get(key, -1):
                rows.append((key, float(value), step, began_ms + int(elapsed_s * 1000)))
    return rows


def summary_rows(report: RunReport) -> list[MetricRow]:
    """What a finished run took and when its failure was seen, so that one search over many runs reads it.

    Hours used, wasted and saved, GPU-hours where there were GPUs, steps and planned steps, and the seconds from the
    start to the first sight of the root finding. What is not known is left out.
    """
    step = max(report.progress.steps - 1, 0)
    bill = report.resources.get("bill")
    amounts = bill if isinstance(bill, Mapping) else {}
    values = {
        "used_h": report.compute.used_h,
        "wasted_h": report.compute.wasted_h,
        "saved_h": report.compute.saved_h,
        "gpu_h": amounts.get("gpu_hours"),
        "wasted_gpu_h": amounts.get("wasted_gpu_hours"),
        "saved_gpu_h": amounts.get("saved_gpu_hours"),
        "steps": None if report.run.is_experiment and not report.progress.steps else report.progress.steps,
        "planned_steps": report.progress.planned_steps,
        "detected_after_s": None if report.root is None else report.seen_after_s.get(report.root.code),
    }
    return [
        (f"failguard/run/{name}", float(value), step)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def params(report: RunReport) -> dict[str, str]:
    """The hypothesis and the config, flattened with dots."""
    found: dict[str, str] = {}
    if report.run.hypothesis:
        found["hypothesis"] = cut(report.run.hypothesis, MAX_PARAM)
    for name, value in flat_config(report.run.config).items():
        unique, n = name, 2
        while unique in found or (report.run.is_experiment and unique in RESULT_PARAMS):  # the config's own
            unique = f"{name[: MAX_NAME - 5]}_{n}"
            n += 1
        found[unique] = cut(value if isinstance(value, str) else _as_text(value), MAX_PARAM)
    return found


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without nesting, names joined with dots and as MLflow takes them, at most 500 values."""
    found: dict[str, Any] = {}
    for name, value in _flat(config, "."):
        if len(found) >= MAX_PARAMS:
            break
        name = unique = valid_name(name)
        n = 2
        while unique in found:
            unique = f"{name[: MAX_NAME - 5]}_{n}"
            n += 1
        found[unique] = value
    return found


def setup(report: RunReport) -> dict[str, Any]:
    """What the run was made of, as far as the adapter could read it, for comparing runs."""
    facts = report.facts
    values = {
        "model": facts.model.name,
        "parameters": facts.model.parameters,
        "optimizer": facts.optimizer.name,
        "learning_rate": facts.optimizer.learning_rate,
        "schedule": facts.optimizer.schedule,
        "clipping": facts.optimizer.clipping,
        "loss": facts.loss_name,
        "batch_size": facts.batch_size,
    }
    return {name: value for name, value in values.items() if value not in (None, "")}


def tags(report: RunReport) -> dict[str, str]:
    """The ``failguard.*`` tags."""
    root, run = report.root, report.run
    seen = [f.code for f in report.findings if f.severity is not Severity.INFO]
    outcome = outcome_of(report)
    found = {
        "failguard.status": report.status.value,
        "failguard.outcome": None if outcome is None else outcome.value,
        "failguard.record": run.record_id,
        "failguard.framework": run.framework,
        "failguard.version": __version__,
        "failguard.line": run.line or run.experiment,
        "failguard.parent": run.parent,
        "failguard.approach": run.approach,
        "failguard.finding": root.code if root is not None else None,
        "failguard.findings": " ".join(dict.fromkeys(seen)),
        "failguard.error_type": None if report.exception is None else report.exception.type_name,
        "failguard.config": _fitting(flat_config(run.config)),
        "failguard.setup": _fitting(setup(report)),
        "failguard.cause": report.diagnosis.likely_cause,
        "failguard.fingerprint": report.fingerprint,
    }
    return {name: cut(str(value), MAX_TAG) for name, value in found.items() if value}


def note(report: RunReport) -> str:
    """The run page's note, in Markdown: status, finding, cause, remedy, what was seen before."""
    from failguard.report.markdown import markdown_text
    from failguard.report.text import one_line

    lines = [f"**failguard: {report.status}**", "", report.diagnosis.summary]
    if report.root is not None:
        lines += ["", f"- Finding: `{report.root.code}` at step {report.root.step}: {report.root.message}"]
    if report.diagnosis.causes:
        cause = report.diagnosis.causes[0]
        lines += [f"- Likely cause: `{cause.code}` (confidence {cause.confidence:.0%})"]
        if cause.remedy:
            lines += [f"- What to try: {cause.remedy}"]
    before = next((f.message for f in report.findings if f.code == "run.repeat_of_failure"), None)
    if before is not None:
        lines += [f"- Seen before: {markdown_text(one_line(before))}"]
    lines += ["", "The full report is the artifact `failguard/report.html`."]
    return cut("\n".join(lines), MAX_TAG)


def run_status(report: RunReport) -> str:
    """MLflow's terminal status for a run of our own."""
    return {Status.FAILED: "FAILED", Status.INTERRUPTED: "KILLED"}.get(report.status, "FINISHED")


def start_ms(report: RunReport) -> int:
    """When the run began, in milliseconds since 1970."""
    try:
        return int(datetime.fromisoformat(report.run.started_at).timestamp() * 1000)
    except ValueError:
        return int(time.time() * 1000)


def _flat(values: Mapping[str, Any], separator: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, separator, f"{name}{separator}")
        else:
            yield name, value


def _fitting(values: Mapping[str, Any]) -> str:
    """JSON of values within the length of a tag; what does not fit is left out, the longest first."""
    kept = {name: json.dumps(plain(value), allow_nan=False)[: MAX_TAG + 1] for name, value in values.items()}
    while kept:
        text = "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in kept.items()) + "}"
        if len(text) <= MAX_TAG:
            return text
        del kept[max(kept, key=lambda name: len(kept[name]))]
    return ""


def _as_text(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, list | dict) else str(value)
