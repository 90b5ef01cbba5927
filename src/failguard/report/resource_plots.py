"""Pictures of what a run used: its course over time, and how busy its GPUs were."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from failguard.report.plots import (
    FIRST,
    NARROW_INCHES,
    SECOND,
    WIDE_INCHES,
    LegendEntry,
    Plot,
    new_axes,
    style_axes,
    to_svg,
)
from failguard.report.run_report import RunReport
from failguard.report.summary import one_line

__all__ = ["resource_plots"]

LEAST_READINGS = 8  # fewer show nothing

# Readings of one picture, with the words for them: shares in percent first, then memory.
_SHARES = (
    ("gpu0_utilization_percent", "GPU 0"),
    ("process_cpu_percent", "CPU of the process"),
    ("host_cpu_percent", "CPU of the host"),
)
_MEMORY = (
    ("gpu_memory_reserved_bytes", "GPU memory reserved"),
    ("process_rss_bytes", "memory of the process"),
    ("children_rss_bytes", "memory of children"),
)


def resource_plots(report: RunReport) -> list[Plot]:
    """Those of which there is something to draw.

    Raises:
        Exception: Whatever matplotlib raises. The caller goes on without pictures.
    """
    series = report.resources.get("series")
    plots = []
    if isinstance(series, Mapping):
        plots += [_over_time("Utilisation over time, in percent", series, _SHARES, 1.0)]
        plots += [_over_time("Memory over time, in GB", series, _MEMORY, 1e-9)]
    plots.append(_histogram(report.resources.get("gpus")))
    return [plot for plot in plots if plot is not None]


def _over_time(title: str, series: Mapping[str, Any], names: Sequence[tuple[str, str]], factor: float) -> Plot | None:
    times = series.get("elapsed_s")
    if not isinstance(times, list):
        return None
    drawn = []
    for name, words in names:
        values = series.get(name)
        if not isinstance(values, list) or len(values) != len(times):
            continue
        points = [(t, v * factor) for t, v in zip(times, values, strict=True) if _is_number(t) and _is_number(v)]
        if len(points) >= LEAST_READINGS:
            drawn.append((words, points))
    if not drawn:
        return None
    in_minutes = times[-1] > 600
    curves = [
        (words, [t / 60 if in_minutes else t for t, _ in points], [v for _, v in points]) for words, points in drawn[:2]
    ]

    def paint(axes: Any) -> None:
        for (_, x, y), colour in zip(curves, (FIRST, SECOND), strict=False):
            axes.plot(x, y, color=colour, linewidth=1.4, linestyle="-")

    alt = "; ".join(f"{words} from {y[0]:.3g} to {y[-1]:.3g}, at most {max(y):.3g}" for words, _, y in curves)
    legend = tuple(LegendEntry(words, f"curve-{i}") for i, (words, _, _) in enumerate(curves, start=1))
    unit = "minutes" if in_minutes else "seconds"
    return _plot(f"{title} ({unit})", f"{title}: {alt}.", paint, legend)


def _histogram(gpus: Any) -> Plot | None:
    totals = [0.0] * 10
    for gpu in gpus if isinstance(gpus, list) else ():
        counts = gpu.get("utilization_histogram") if isinstance(gpu, Mapping) else None
        if isinstance(counts, list) and len(counts) == len(totals) and gpu.get("used_by_run") is not False:
            totals = [a + float(b) for a, b in zip(totals, counts, strict=True)]
    if sum(totals) <= 0:
        return None
    shares = [100.0 * t / sum(totals) for t in totals]

    def paint(axes: Any) -> None:
        axes.bar([10 * i + 5 for i in range(10)], shares, width=9, color=FIRST)

    words = ", ".join(f"{10 * i} to {10 * i + 10} %: {s:.0f} %" for i, s in enumerate(shares) if s >= 0.5)
    title = "How busy the GPUs were, in percent of the samples"
    return _plot(title, f"{title}: {words}.", paint, (LegendEntry("utilisation", "curve-1"),))


def _plot(title: str, alt: str, paint: Callable[[Any], None], legend: tuple[LegendEntry, ...]) -> Plot:
    """Paint it for wide and for narrow windows."""
    pictures = []
    for size_inches in (WIDE_INCHES, NARROW_INCHES):
        figure, axes = new_axes(size_inches)
        paint(axes)
        axes.set_ylim(bottom=0)
        style_axes(axes)
        pictures.append(to_svg(figure))
    wide, narrow = pictures
    return Plot(title, one_line(alt, 600), wide, narrow, legend)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
