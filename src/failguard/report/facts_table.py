"""The reference part of a report: what is known of a run, as labelled rows of text. Unknown values are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from failguard.diagnosis.wording import count, number
from failguard.report.run_report import RunReport
from failguard.report.text import duration, moment, one_line, percent

__all__ = [
    "Rows",
    "environment_rows",
    "fact_rows",
    "overhead_rows",
    "resource_rows",
    "run_rows",
    "settings_rows",
    "similar_runs",
    "with_unit",
]

Rows = list[tuple[str, str]]

MAX_ROWS = 200
MAX_CELL = 300
MAX_KEY = 100
MAX_SIMILAR = 10
MAX_SIMILAR_COLUMNS = 6
# Parts of the resources that have a section of their own, or are not for people.
_TOLD_ELSEWHERE = frozenset(
    {"series", "errors", "samples", "interval_s", "sampler_cpu_s", "index", "time", "throughput", "bill", "advice"}
    | {"hangs", "show_table", "utilization_histogram", "throttle_reasons"}
)


def run_rows(report: RunReport) -> Rows:
    """Who the run is."""
    run = report.run
    rows = {
        "Name": run.run_name,
        "Experiment": run.experiment,
        "Hypothesis": run.hypothesis,
        "Approach": run.approach,
        "Framework": run.framework,
        "Started": run.started_at and moment(run.started_at),
        "Resumed from a checkpoint": "yes" if run.resumed else None,
        "Record": run.record_id,
        "Failure fingerprint": report.fingerprint,
        **{f"Tag {name}": value for name, value in run.tags.items()},
        **{f"Record in {name}": value for name, value in report.locations.items()},
    }
    return _rows(rows)


def similar_runs(report: RunReport) -> tuple[list[str], list[list[str]]]:
    """Earlier runs that failed alike, as a table: names of the columns, and rows. At most 10 runs, of each what comes
    first: ids are for programs.
    """
    runs = [run for run in report.similar_runs if isinstance(run, Mapping)][:MAX_SIMILAR]
    names = list(dict.fromkeys(str(name) for run in runs for name in run))[:MAX_SIMILAR_COLUMNS]
    names = [name for name in names if any(run.get(name) not in (None, [], "") for run in runs)]
    rows = [["" if run.get(name) is None else one_line(_value(run[name]), MAX_CELL) for name in names] for run in runs]
    return [one_line(_label(name), MAX_KEY) for name in names], rows


def settings_rows(report: RunReport) -> Rows:
    """The user's configuration, flattened."""
    return _rows(dict(_flat(report.run.config or report.facts.config)))


def fact_rows(report: RunReport) -> Rows:
    """Model, optimizer, plan and data."""
    facts, model, optimizer = report.facts, report.facts.model, report.facts.optimizer
    rows = {
        "Model": model.name or None,
        "Parameters": _count(model.parameters),
        "Trainable parameters": _count(model.trainable_parameters),
        "Layers with parameters": _count(model.layers),
        "Dropout": model.dropout,
        "Normalization": model.normalization,
        "Activations": ", ".join(model.activations[:20]) or None,
        "Output units": _count(model.output_width),
        "Loss": facts.loss_name,
        "Optimizer": optimizer.name or None,
        "Learning rate at the start": optimizer.learning_rate,
        "Learning-rate schedule": optimizer.schedule,
        "Momentum": optimizer.momentum,
        "Weight decay": optimizer.weight_decay,
        "Gradient clipping": optimizer.clipping,
        "Batch size": _count(facts.batch_size),
        "Batches per update": _count(facts.accumulate_batches) if facts.accumulate_batches > 1 else None,
        "Training samples": _count(facts.train_samples),
        "Validation samples": _count(facts.validation_samples),
        "Steps per epoch": _count(facts.steps_per_epoch),
        "Epochs planned": _count(facts.max_epochs) if (facts.max_epochs or 0) > 0 else None,
        "Steps planned": _count(facts.max_steps) if (facts.max_steps or 0) > 0 else None,
        "Classes seen": _count(len(facts.class_counts)) if facts.class_counts else None,
        "Loss of a constant prediction": facts.trivial_loss,
        "Device": facts.device,
        "Ranks": _count(facts.world_size) if facts.world_size > 1 else None,
    }
    return _rows(rows)


def resource_rows(report: RunReport) -> Rows:
    """CPU, memory, disk and GPU: for a sampled quantity its mean and peak."""
    return _rows(dict(_resources(report.resources)))


def environment_rows(report: RunReport) -> Rows:
    """Software and hardware."""
    return _rows({_label(name): with_unit(name, value) for name, value in _flat(report.environment)})


def overhead_rows(report: RunReport) -> Rows:
    """What watching cost, and how often each sampled check ran."""
    overhead = report.overhead
    if overhead.total_s <= 0 and not overhead.cadence_steps:
        return []
    parts = sorted(overhead.parts_s.items(), key=lambda p: -p[1])
    rows: dict[str, Any] = {
        "In all": f"{duration(overhead.total_s)}, of it {duration(overhead.once_s)} at the start",
        "Share of the run, without its start": percent(overhead.share),
        **{f"In {name}": duration(seconds) for name, seconds in parts[:20]},
        **{f"Steps between checks of {name}": count(every) for name, every in overhead.cadence_steps.items()},
        "Memory held for weights": _bytes(overhead.snapshot_bytes) if overhead.snapshot_bytes else None,
    }
    return _rows(rows)


def _resources(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        label = f"{prefix}{_label(name)}"
        if name in _TOLD_ELSEWHERE:
            continue
        if isinstance(value, Mapping) and "mean" in value:
            mean, peak = (with_unit(name, value.get(key)) for key in ("mean", "peak"))
            # Of what runs short, the least is of interest.
            if name.endswith(("_available_bytes", "_free_bytes")):
                yield label, f"{mean} on average, {with_unit(name, value.get('min'))} at least"
            else:
                yield label, f"{mean} on average, {peak} at most"
        elif name == "gpus" and isinstance(value, list):
            for i, gpu in enumerate(value[:16]):
                if isinstance(gpu, Mapping):
                    yield from _resources(gpu, prefix=f"GPU {gpu.get('index', i)}: ")
        elif isinstance(value, Mapping):
            yield label, ", ".join(f"{k}: {v}" for k, v in value.items())
        elif isinstance(value, list):
            yield label, "; ".join(str(v) for v in value) or None
        else:
            yield label, with_unit(name, value)


def _rows(values: Mapping[str, Any]) -> Rows:
    rows = [
        (one_line(str(label), MAX_KEY), one_line(_value(value), MAX_CELL))
        for label, value in list(values.items())[:MAX_ROWS]
        if value is not None and value != ""
    ]
    if len(values) > MAX_ROWS:
        rows.append(("...", f"{count(len(values) - MAX_ROWS)} more"))
    return rows


def _flat(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and depth < 8:
            yield from _flat(value, f"{name}.", depth + 1)
        else:
            yield name, value


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_value(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else str(value)


def _count(value: int | None) -> str | None:
    return None if value is None else count(value)


def _label(name: str) -> str:
    """``"process_rss_bytes"`` -> ``"Process RSS"``: the unit goes with the value."""
    for unit in ("_bytes_per_s", "_bytes", "_percent", "_kwh", "_mhz", "_s", "_w", "_c"):
        if name.endswith(unit):
            name = name[: -len(unit)]
            break
    words = [w.upper() if w in ("rss", "cpu", "gpu") else w for w in name.replace("packages.", "").split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:] if len(words) > 1 or (text == name and "." not in name) else text


def with_unit(name: str, value: Any) -> Any:
    """A measured value with the unit that its name ends in."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if name.endswith("_bytes"):
        return _bytes(value)
    if name.endswith("_bytes_per_s"):
        return f"{_bytes(value)}/s"
    if name.endswith("_percent"):
        return f"{value:.0f} %"
    if name.endswith("_share"):
        return percent(value)
    if name.endswith("_s"):
        return duration(value)
    for ending, unit in (("_w", "W"), ("_c", "°C"), ("_mhz", "MHz")):
        if name.endswith(ending):
            return f"{value:.0f} {unit}"
    return number(float(value))


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"
