"""Data reports as Markdown and HTML."""

from __future__ import annotations

from html import escape

from failguard.data.report import DataReport
from failguard.report.html import page
from failguard.report.markdown import markdown_table, markdown_text
from failguard.report.summary import one_line

__all__ = ["headline", "page", "report_fragment", "report_html", "report_markdown"]


def headline(report: DataReport) -> str:
    """The result in one line."""
    rows = ", ".join(f"{n:,} {name + ' rows' if name != 'rows' else name}" for name, n in report.rows.items())
    if not report.ok:
        codes = ", ".join(dict.fromkeys(f.code for f in report.failed))
        return f"Failed checks: {codes} ({rows}, {report.columns} columns)"
    milder = sum(f.severity.value == "warning" for f in report.findings)
    with_warnings = f" with {milder} warning{'s' if milder > 1 else ''}" if milder else ""
    return f"The data passes{with_warnings} ({rows}, {report.columns} columns)"


def report_markdown(report: DataReport) -> str:
    """See :meth:`DataReport.to_markdown`."""
    lines = [f"# {markdown_text(headline(report))}", "", markdown_text(one_line(report.source))]
    lines += markdown_table(
        ("Severity", "Finding", "What"), [(f.severity.value, f.code, f.message) for f in report.findings]
    )
    lines += ["", f"Checks: {', '.join(report.checks)}."]
    lines += [f"- {markdown_text(one_line(note))}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def report_fragment(report: DataReport) -> str:
    """The short form for notebooks."""
    rows = "".join(
        f"<tr><td>{f.severity.value}</td><td><code>{escape(f.code)}</code></td><td>{escape(one_line(f.message))}</td></tr>"
        for f in report.findings
    )
    notes = "".join(f"<p>{escape(one_line(note))}</p>" for note in report.notes)
    return f"<p><strong>{escape(headline(report))}</strong></p><table>{rows}</table>{notes}"


def report_html(report: DataReport) -> str:
    """See :meth:`DataReport.to_html`."""
    tone = "calm" if report.ok else "failing"
    return page(
        headline(report), tone, f"<p class='quiet'>{escape(one_line(report.source))}</p>{report_fragment(report)}"
    )
