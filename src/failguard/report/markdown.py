"""The report as Markdown."""

from __future__ import annotations

from failguard.report.run_report import RunReport

__all__ = ["to_markdown"]


def to_markdown(report: RunReport) -> str:
    """See :meth:`RunReport.to_markdown`."""
    return f"# {report.status}\n\n{report.diagnosis.summary}\n"
