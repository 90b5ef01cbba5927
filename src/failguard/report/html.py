"""The report as one self-contained HTML page: no network, no script."""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failguard.core.finding import Severity
from failguard.core.log import logger
from failguard.report.facts_table import (
    environment_rows,
    fact_rows,
    overhead_rows,
    resource_rows,
    run_rows,
    settings_rows,
    similar_runs,
)
from failguard.report.resources import bill_rows, hang_texts, time_rows
from failguard.report.run_report import RunReport
from failguard.report.summary import block, cause_title, one_line, percent, summarize
from failguard.report.text import moment
from failguard.report.timeline import timeline

if TYPE_CHECKING:
    from jinja2 import Environment

    from failguard.report.plots import Plot

__all__ = ["page", "style", "to_fragment", "to_html"]

MAX_TRACE = 50_000  # characters; the whole trace is in error_trace.txt


def to_html(report: RunReport) -> str:
    """See :meth:`RunReport.to_html`."""
    pictures, problem = _pictures(report)
    run = report.run
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            **_common(report),
            title=one_line(run.run_name or run.experiment or run.record_id or "run", 120),
            plots=pictures,
            plot_problem=problem,
            events=timeline(report),
            hours=_hours(report),
            exception=report.exception,
            trace=_trace(report),
            issues=report.diagnosis.config_issues,
            similar=similar_runs(report),
            tables=[
                ("Run", run_rows(report)),
                ("Configuration", settings_rows(report)),
                ("Model, data and plan", fact_rows(report)),
                ("Resources", resource_rows(report)),
                ("What watching cost", overhead_rows(report)),
                ("Environment", environment_rows(report)),
            ],
        )
    )


def to_fragment(report: RunReport) -> str:
    """The short form for notebooks: headline, answers, numbers and causes."""
    return _environment().get_template("fragment.html.j2").render(**_common(report))


def style() -> str:
    """The style sheet of the pages."""
    return _environment().get_template("style.css.j2").render()


def page(title: str, tone: str, *sections: str) -> str:
    """A self-contained page in the style of run reports.

    Args:
        title: Plain text.
        tone: ``"calm"``, ``"warning"`` or ``"failing"``.
        sections: HTML, escaped already.
    """
    body = "".join(f"<section>{section}</section>" for section in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{style()} td {{ width: auto }}</style></head>"
        f'<body><main><header class="{tone}"><h1>{escape(title)}</h1></header>'
        f"{body}</main></body></html>\n"
    )


def _common(report: RunReport) -> dict[str, Any]:
    summary = summarize(report)
    return {
        "report": report,
        "summary": summary,
        "answers": list(summary.answers()) if report.root is not None else [],
        "causes": report.diagnosis.causes,
        "warnings": [f for f in report.findings if f.severity is not Severity.INFO],
    }


def _pictures(report: RunReport) -> tuple[list[Plot], str]:
    """Curves, or none and the reason: a page without pictures is better than no page."""
    try:
        from failguard.report.plots import plots

        return plots(report), ""
    except Exception as error:  # noqa: BLE001 - whatever matplotlib raises
        logger.debug("failguard: the curves could not be drawn", exc_info=True)
        return [], one_line(f"The curves could not be drawn: {type(error).__name__}: {error}", 300)


def _hours(report: RunReport) -> dict[str, Any]:
    """The section about resources."""
    try:
        from failguard.report.resource_plots import resource_plots

        pictures = resource_plots(report)
    except Exception:  # noqa: BLE001 - as above
        logger.debug("failguard: the use of resources could not be drawn", exc_info=True)
        pictures = []
    changes = report.resources.get("advice")
    return {
        "bill": bill_rows(report.resources),
        "time": time_rows(report.resources),
        "advice": changes if isinstance(changes, list) else [],
        "hangs": hang_texts(report.resources),
        "plots": pictures,
    }


def _trace(report: RunReport) -> str:
    return "" if report.exception is None else block(report.exception.trace, MAX_TRACE)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = one_line
    environment.filters["moment"] = moment
    environment.filters["percent"] = percent
    environment.filters["cause_title"] = cause_title
    return environment
