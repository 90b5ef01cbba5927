"""The resources of a run in words: what it cost, what it used, where its time went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from failguard.diagnosis.wording import count, number
from failguard.report.facts_table import with_unit
from failguard.report.run_report import RunReport
from failguard.report.summary import block, duration, one_line, percent
from failguard.resources.step_time import PHASES

__all__ = ["bill_rows", "compare_rows", "hang_texts", "markdown_lines", "time_rows", "usage_rows"]

MOST_CHARACTERS = 20_000  # of the stacks of one thread or worker

Rows = list[tuple[str, str]]

_USAGE = (
    ("process_rss_bytes", "Memory of the process", "peak"),
    ("highest_process_rss_bytes", "Highest of any process", None),
    ("tree_rss_bytes", "Memory with children", "peak"),
    ("process_cpu_percent", "CPU of the process", "mean"),
    ("children_cpu_percent", "CPU of children", "mean"),
    ("host_memory_available_bytes", "Memory left", "min"),
    ("disk_free_bytes", "Disk space left", "min"),
    ("gpu_memory_peak_bytes", "GPU memory in tensors", "peak"),
    ("gpu_memory_reserved_bytes", "GPU memory reserved", "peak"),
)


def bill_rows(resources: Mapping[str, Any]) -> Rows:
    """What the run cost."""
    bill = _mapping(resources, "bill")
    rows: Rows = []
    hours = bill.get("hours")
    if isinstance(hours, int | float):
        rows.append(("Time", duration(hours * 3600) + _parts(bill, "hours", lambda h: duration(h * 3600))))
    if "gpu_hours" in bill:
        text = f"{number(bill['gpu_hours'])} on {count(bill.get('gpus', 1))} GPU(s)"
        rows.append(("GPU-hours", text + _parts(bill, "gpu_hours", number)))
    if "energy_kwh" in bill:
        how = {"counter": "from the cards' counters", "power": "power integrated over time"}.get(
            str(bill.get("energy_source")), "counters and integrated power"
        )
        text = f"{number(bill['energy_kwh'])} kWh, {how}"
        rows.append(("GPU energy", text + _parts(bill, "energy_kwh", lambda e: f"{number(e)} kWh")))
    if "cost" in bill:
        rows.append(("Cost", f"{bill['cost']:,.2f}" + _parts(bill, "cost", lambda c: f"{c:,.2f}")))
    if "gpu_utilization_percent" in bill:
        rows.append(("GPU utilisation", f"{bill['gpu_utilization_percent']:.0f} % on average"))
    if "mfu" in bill:
        rows.append(("Model FLOPs utilisation", percent(bill["mfu"])))
    if "emissions_kg" in bill:
        rows.append(("Emissions", f"{number(bill['emissions_kg'])} kg CO2 (codecarbon)"))
    return rows


def time_rows(resources: Mapping[str, Any]) -> Rows:
    """Where the time went, the longest first, and how fast it trained."""
    rows: Rows = []
    phases = _mapping(_mapping(resources, "time"), "phases_s")
    total = sum(v for v in phases.values() if isinstance(v, int | float))
    for name, seconds in sorted(phases.items(), key=lambda item: -item[1]):
        if total > 0 and seconds >= 0.0005 * total:
            words = PHASES.get(str(name), str(name))
            rows.append((words[:1].upper() + words[1:], f"{percent(seconds / total)}, {duration(seconds)}"))
    rates = _mapping(resources, "throughput")
    for name, unit in (("samples_per_s", "samples"), ("tokens_per_s", "tokens"), ("steps_per_s", "steps")):
        if name in rates:
            rows.append((f"{unit[:1].upper()}{unit[1:]} per second", number(rates[name])))
    trend = rates.get("trend_percent")
    if isinstance(trend, int | float) and abs(trend) >= 1:
        rows.append(("Speed at the end", f"{abs(trend):.0f} % {'faster' if trend > 0 else 'slower'} than at the start"))
    return rows


def usage_rows(resources: Mapping[str, Any]) -> Rows:
    """The readings that matter most."""
    rows: Rows = []
    children = resources.get("child_processes")
    alone = not (isinstance(children, Mapping) and children.get("peak"))
    for name, label, which in _USAGE:
        if alone and "children" in label:
            continue
        value = resources.get(name)
        if isinstance(value, Mapping) and which is not None:
            value = value.get(which)
        if isinstance(value, int | float):
            how = {"peak": " at most", "mean": " on average", "min": " at least"}.get(which or "", "")
            rows.append((label, f"{with_unit(name, value)}{how}"))
    return rows


def hang_texts(resources: Mapping[str, Any]) -> Rows:
    """The stacks of a hang, as a title and a text for each thread and worker."""
    rows: Rows = []
    hangs = resources.get("hangs")
    for hang in hangs if isinstance(hangs, list) else ():
        if not isinstance(hang, Mapping):
            continue
        when = f"at step {count(hang.get('step', 0))}, after {duration(float(hang.get('idle_s', 0.0)))} without a step"
        for name, text in _mapping(hang, "stacks").items():
            rows.append((one_line(f"Stack of {name} {when}", 200), block(str(text), MOST_CHARACTERS)))
        workers = hang.get("workers")
        for worker in workers if isinstance(workers, list) else ():
            known = ", ".join(f"{k} {v}" for k, v in worker.items() if k not in ("pid", "stack"))
            text = str(worker.get("stack") or "Its stack is not known.")
            rows.append((one_line(f"Process {worker.get('pid')} ({known}) {when}", 200), block(text, MOST_CHARACTERS)))
    return rows


def markdown_lines(resources: Mapping[str, Any], text: Any) -> Iterator[str]:
    """The section of the Markdown report.

    Args:
        resources: Of a report.
        text: Escapes text for Markdown.
    """
    rows, changes, hangs = (
        [*bill_rows(resources), *time_rows(resources)],
        resources.get("advice"),
        hang_texts(resources),
    )
    if not (rows or changes or hangs):
        return
    yield from ("", "## Where the hours went", "")
    for item in changes if isinstance(changes, list) else ():
        yield f"1. **{text(one_line(str(item.get('change'))))}** {text(one_line(str(item.get('evidence'))))}"
    if rows:
        yield from ("", "| | |", "| --- | --- |")
        yield from (f"| {text(label)} | {text(one_line(value))} |" for label, value in rows)
    for title, stack in hangs:
        yield from ("", text(title), "")
        yield from (f"    {line}" for line in stack.splitlines())


def compare_rows(reports: Sequence[RunReport]) -> list[list[str]]:
    """Several runs side by side: a head, then one row a quantity that any of them has."""
    named: list[dict[str, str]] = []
    for report in reports:
        resources = report.resources
        rows = [*bill_rows(resources), *time_rows(resources), *usage_rows(resources)]
        named.append({"Status": str(report.status), "Steps": count(report.progress.steps), **dict(rows)})
    labels = dict.fromkeys(label for rows_of_one in named for label in rows_of_one)
    head = ["", *(one_line(r.run.run_name or r.run.record_id or "run", 30) for r in reports)]
    return [head, *([label, *(one_line(found.get(label, "-"), 60) for found in named)] for label in labels)]


def _parts(bill: Mapping[str, Any], name: str, words: Any) -> str:
    parts = [f"{words(bill[f'{kind}_{name}'])} {kind}" for kind in ("wasted", "saved") if bill.get(f"{kind}_{name}")]
    return f" ({', '.join(parts)})" if parts else ""


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
