"""Curves of a run as inline SVG, drawn with matplotlib's object interface: no pyplot, no global state.

Everything that the user's own matplotlib settings could change is set here. No text of the user's is drawn: names go
into the page's own legend, where they are escaped.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from failguard.diagnosis.wording import number
from failguard.report.run_report import RunReport
from failguard.report.summary import one_line
from failguard.report.timeline import marked

__all__ = ["LegendEntry", "Plot", "new_axes", "plots", "style_axes", "to_svg"]

# Drawn in these colours, which the page then replaces: axes take its text colour, curves its palette.
_COLOURS = {
    "#010101": "var(--ink, currentColor)",
    "#020202": "var(--grid, #8884)",
    "#030303": "var(--curve-1, #2563eb)",
    "#040404": "var(--curve-2, #c2410c)",
    "#050505": "var(--curve-3, #0f766e)",
    "#060606": "var(--bad, #dc2626)",
}
INK, GRID, FIRST, SECOND, THIRD, BAD = _COLOURS
_CSS_NAME = {FIRST: "curve-1", SECOND: "curve-2", THIRD: "curve-3", BAD: "bad"}

WIDE_INCHES = (7.2, 2.7)
NARROW_INCHES = (4.0, 2.5)  # for a phone, where the wide one would be too small to read
LOG_RATIO = 50.0  # a span above which a linear axis would hide the small values
MAX_LEGEND = 8
LABEL_SHARE = 0.03  # of the axis, below which two labels would touch


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One line of a legend.

    Attributes:
        name: What is drawn. The user's own text where it is a metric.
        colour: Name of the page's colour variable.
        mark: ``"line"``, ``"band"``, ``"dashes"`` or ``"cross"``.
    """

    name: str
    colour: str
    mark: str = "line"


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture.

    Attributes:
        title: Heading.
        alt: What it shows, in words.
        svg: The ``<svg>`` element.
        narrow_svg: The same for a narrow window.
        legend: What is what.
    """

    title: str
    alt: str
    svg: str
    narrow_svg: str
    legend: tuple[LegendEntry, ...]


@dataclass(slots=True)
class _Curve:
    """Blocks of one quantity: ``bad`` are places of values that are not finite."""

    name: str
    per: str
    at: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    bad: list[float]


def plots(report: RunReport) -> list[Plot]:
    """Training loss per step, metrics per epoch, gradient norm per step: those of which there is something to draw.

    Raises:
        Exception: Whatever matplotlib raises. The caller goes on without pictures.
    """
    curves = {(c.per, c.name): c for c in _curves(report.history)}
    monitor = str(report.best.get("monitor") or "val_loss")
    per_epoch = [curves.get(("epoch", name)) for name in dict.fromkeys(("train_loss", "loss", monitor, "val_loss"))]
    shown = [c for c in per_epoch if c is not None and len(c.at) > 1]
    if len(shown) > 1 and shown[0].name == "train_loss" and shown[1].name == "loss":
        del shown[1]  # Keras logs the same under its own name
    import numpy as np

    with np.errstate(all="ignore"):  # axes of values near the float limits overflow without harm
        drawn = [
            _draw(report, "Training loss per step", [curves.get(("step", "loss"))], "step"),
            _draw(report, "Metrics per epoch", shown[:3], "epoch"),
            _draw(report, "Gradient norm per step", [curves.get(("step", "gradient_norm"))], "step"),
        ]
    return [plot for plot in drawn if plot is not None]


def _curves(rows: Sequence[dict[str, Any]]) -> list[_Curve]:
    found: dict[tuple[str, str], _Curve] = {}
    for row in rows:
        name, per = str(row.get("name", "")), str(row.get("per", "step"))
        curve = found.setdefault((per, name), _Curve(name, per, [], [], [], [], []))
        try:
            start, n = float(row["start"]), int(row.get("count") or 1)
            finite = int(row.get("finite") or 0)
        except (KeyError, TypeError, ValueError):
            continue
        middle = start + (n - 1) / 2
        if finite < n:
            curve.bad.append(middle)
        values = [row.get(key) for key in ("mean", "low", "high")]
        if all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            curve.at.append(middle)
            for place, value in zip((curve.mean, curve.low, curve.high), values, strict=True):
                # Near the float limit the axes' own arithmetic overflows.
                place.append(max(min(float(value or 0.0), 1e300), -1e300))
    return list(found.values())


def _draw(report: RunReport, title: str, curves: Sequence[_Curve | None], per: str) -> Plot | None:
    known = [c for c in curves if c is not None and (len(c.at) > 1 or (c.at and c.bad))]
    if not known:
        return None
    wide, legend = _picture(report, known, per, WIDE_INCHES)
    narrow, _ = _picture(report, known, per, NARROW_INCHES)
    return Plot(title, _alt(title, known, per), wide, narrow, tuple(legend))


def _picture(
    report: RunReport, known: Sequence[_Curve], per: str, size_inches: tuple[float, float]
) -> tuple[str, list[LegendEntry]]:
    figure, axes = new_axes(size_inches)
    log = _wants_log(known)
    if log:
        axes.set_yscale("log")
    legend = []
    for curve, colour in zip(known, (FIRST, SECOND, THIRD), strict=False):
        dots = "o" if len(curve.at) <= 30 else ""
        axes.plot(curve.at, curve.mean, color=colour, linewidth=1.4, linestyle="-", marker=dots, markersize=3)
        legend.append(LegendEntry(_curve_name(curve), _CSS_NAME[colour]))
        if any(high > low for low, high in zip(curve.low, curve.high, strict=True)):
            axes.fill_between(curve.at, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    legend += _markers(report, axes, known, per)
    style_axes(axes, log=log)
    return to_svg(figure), legend


def _markers(report: RunReport, axes: Any, curves: Sequence[_Curve], per: str) -> list[LegendEntry]:
    """Findings, values that are not finite and the best epoch."""
    legend = []
    bad = sorted({at for c in curves for at in c.bad})
    if bad:
        # At the upper edge: they have no place on the value axis.
        axes.plot(
            bad[:: max(len(bad) // 100, 1)],
            [0.97] * len(bad[:: max(len(bad) // 100, 1)]),
            transform=axes.get_xaxis_transform(),
            color=BAD,
            linestyle="none",
            marker="x",
            markersize=6,
            markeredgewidth=1.8,
        )
        legend.append(LegendEntry("NaN or Inf", "bad", "cross"))
    legend += _findings(report, axes, per)
    best = report.best.get("epoch")
    if per == "epoch" and isinstance(best, int | float) and math.isfinite(best):
        axes.axvline(best, color=INK, linewidth=1.0, linestyle=(0, (1, 2)))
        legend.append(LegendEntry("best epoch", "ink", "dashes"))
    return legend


def _findings(report: RunReport, axes: Any, per: str) -> list[LegendEntry]:
    """A dashed line with its number in the timeline for each finding; lines that nearly meet share a label."""
    legend: list[LegendEntry] = []
    labels: list[tuple[float, list[str]]] = []
    findings = [(str(i), f, float(f.step if per == "step" else f.epoch)) for i, f in enumerate(marked(report), start=1)]
    for mark, finding, at in sorted(findings, key=lambda entry: entry[2]):
        if at < 0:
            continue
        axes.axvline(at, color=BAD, linewidth=1.0, linestyle=(0, (4, 3)))
        legend.append(LegendEntry(f"{mark} {finding.code}", "bad", "dashes"))
        low, high = axes.get_xlim()
        if labels and at - labels[-1][0] < LABEL_SHARE * (high - low):
            labels[-1][1].append(mark)
        else:
            labels.append((at, [mark]))
    for place, marks in labels:
        text = axes.text(place, 1.01, ",".join(marks), transform=axes.get_xaxis_transform(), ha="center", va="bottom")
        _plain_text(text)
        text.set_color(BAD)
        text.set_fontsize(10)
    return legend[:MAX_LEGEND]


def _wants_log(curves: Sequence[_Curve]) -> bool:
    values = [v for c in curves for v in (*c.mean, *c.low, *c.high)]
    return min(values) > 0 and max(values) / min(values) > LOG_RATIO


def new_axes(size_inches: tuple[float, float]) -> tuple[Any, Any]:
    """An empty figure and its axes, with room for numbers and labels. For :func:`to_svg`."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height = size_inches
    figure = Figure(figsize=size_inches, facecolor="none", edgecolor="none")
    figure.set_layout_engine("none")
    FigureCanvasSVG(figure)
    return figure, figure.add_axes((0.65 / width, 0.3 / height, 1 - 0.77 / width, 1 - 0.54 / height))


def style_axes(axes: Any, *, log: bool = False) -> None:
    """Lines, ticks and letters, after everything is drawn."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    x_ticks = 8 if axes.figure.get_figwidth() > NARROW_INCHES[0] else 4
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(visible=True, which="major", axis="y", color=GRID, linewidth=0.8, linestyle="-")
    axes.grid(visible=False, which="both", axis="x")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
        spine.set_linewidth(0.8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=x_ticks, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(numticks=7) if log else MaxNLocator(nbins=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(float(value))))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_tick_params(color=GRID, width=0.8, length=3, direction="out", labelcolor=INK, labelsize=10)
        for label in axis.get_ticklabels():
            _plain_text(label)
        # Ticks that come later copy these; with usetex they would start LaTeX.
        axis.get_offset_text().set_visible(False)


def _plain_text(text: Any) -> None:
    text.set_usetex(False)
    text.set_parse_math(False)
    text.set_fontfamily(["DejaVu Sans"])  # comes with matplotlib
    text.set_color(INK)


def to_svg(figure: Any) -> str:
    """The ``<svg>`` element of a figure, in the colours of the page."""
    figure.canvas.draw_idle()
    for axes in figure.axes:
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            _plain_text(label)
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, bbox_inches=None, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page gives the width; the picture is described beside it.
    text = re.sub(r'(<svg[^>]*?) (?:width="[^"]*" ?|height="[^"]*" ?)+', r"\1 ", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    return text


def _curve_name(curve: _Curve) -> str:
    names = {"loss": "training loss", "train_loss": "training loss", "gradient_norm": "gradient norm"}
    return names.get(curve.name, one_line(curve.name, 60))


def _alt(title: str, curves: Sequence[_Curve], per: str) -> str:
    """The curves in words: first, lowest, highest and last value of each."""
    parts = []
    for curve in curves:
        if not curve.at:
            continue
        text = (
            f"{_curve_name(curve)} from {number(curve.mean[0])} to {number(curve.mean[-1])}, between "
            f"{number(min(curve.low))} and {number(max(curve.high))}"
        )
        if curve.bad:
            text += f", not finite from {per} {curve.bad[0]:,.0f}"
        parts.append(text)
    last = max((c.at[-1] for c in curves if c.at), default=0.0)
    return one_line(f"{title} over {last + 1:,.0f} {per}s: {'; '.join(parts)}.", 600)
