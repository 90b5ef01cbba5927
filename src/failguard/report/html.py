"""The report as one self-contained HTML page."""

from __future__ import annotations

from html import escape

from failguard.report.run_report import RunReport

__all__ = ["to_fragment", "to_html"]


def to_html(report: RunReport) -> str:
    """See :meth:`RunReport.to_html`."""
    return f"<!doctype html><title>failguard</title><p>{escape(report.diagnosis.summary)}</p>"


def to_fragment(report: RunReport) -> str:
    """A short form for notebooks."""
    return f"<p>{escape(report.diagnosis.summary)}</p>"
