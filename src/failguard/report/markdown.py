"""The report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from failguard.report.facts_table import (
    environment_rows,
    fact_rows,
    overhead_rows,
    resource_rows,
    run_rows,
    settings_rows,
    similar_runs,
)
from failguard.report.resources import markdown_lines
from failguard.report.run_report import RunReport
from failguard.report.summary import block, cause_title, one_line, percent, summarize
from failguard.report.timeline import timeline

__all__ = ["markdown_table", "markdown_text", "to_markdown"]

MAX_TRACE = 20_000  # characters; the whole trace is in error_trace.txt
# Everything that Markdown or embedded HTML would take as markup.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~!&$])")


def to_markdown(report: RunReport) -> str:
    """See :meth:`RunReport.to_markdown`."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: RunReport) -> Iterator[str]:
    summary = summarize(report)
    yield f"# {markdown_text(summary.headline)}"
    yield ""
    answers = list(summary.answers()) if report.root is not None else [("", summary.what)]
    for label, text in answers:
        yield f"- **{label}:** {markdown_text(text)}" if label else markdown_text(text)
    yield from markdown_table(("", ""), summary.numbers)
    yield from _causes(report)
    yield from markdown_lines(report.resources, markdown_text)
    events = timeline(report)
    if events:
        yield from ("", "## Timeline")
        yield from markdown_table(
            ("Step", "Epoch", "Finding or action", "What"),
            [(e.step, e.epoch, f"{e.label} (root)" if e.root else e.label, e.text) for e in events],
        )
    if report.exception is not None:
        yield from _exception(report)
    names, runs = similar_runs(report)
    if runs:
        yield from ("", "## Similar earlier runs")
        yield from markdown_table([markdown_text(name) for name in names], runs)
    for title, rows in (
        ("Run", run_rows(report)),
        ("Configuration", settings_rows(report)),
        ("Model, data and plan", fact_rows(report)),
        ("Resources", resource_rows(report)),
        ("Environment", environment_rows(report)),
        ("What watching cost", overhead_rows(report)),
    ):
        if rows:
            yield from ("", f"## {title}")
            yield from markdown_table(("", ""), rows)
    if summary.remarks:
        yield from ("", "## Remarks", "")
        yield from (f"- {markdown_text(remark)}" for remark in summary.remarks)


def _causes(report: RunReport) -> Iterator[str]:
    diagnosis = report.diagnosis
    if diagnosis.causes:
        yield from ("", "## Possible causes")
    for cause in diagnosis.causes:
        yield from ("", f"### {markdown_text(cause_title(cause.code))} ({percent(cause.confidence)})", "")
        yield from (f"- {markdown_text(one_line(evidence))}" for evidence in cause.evidence)
        if cause.config_values:
            yield f"- {markdown_text(_values(cause.config_values))}"
        if cause.remedy:
            yield from ("", f"**Try:** {markdown_text(one_line(cause.remedy))}")
    if diagnosis.config_issues:
        yield from ("", "## Configuration values that look wrong", "")
        yield from (f"- {markdown_text(one_line(issue))}" for issue in diagnosis.config_issues)


def _exception(report: RunReport) -> Iterator[str]:
    exception = report.exception
    assert exception is not None
    yield from ("", "## Exception", "", f"{markdown_text(one_line(f'{exception.type_name}: {exception.message}'))}")
    if exception.trace:
        trace = block(exception.trace, MAX_TRACE)
        # A fence longer than any in the trace cannot be closed by it.
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", trace)), default=0))
        yield from ("", f"{fence}text", trace.rstrip(), fence)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Lines of a table, cells as text; nothing where there are no rows."""
    rows = list(rows)
    if not rows:
        return
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(' --- ' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(markdown_text(one_line(str(cell))) for cell in row)} |"


def _values(values: Mapping[str, Any]) -> str:
    return one_line(", ".join(f"{name} = {value}" for name, value in values.items()))


def markdown_text(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    return _MARKUP.sub(r"\\\1", text)
