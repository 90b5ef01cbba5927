"""The console: quiet while all is well, one clear panel at the end of a failing run."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import IO

from failguard.core.finding import Finding, Severity, Status
from failguard.core.log import logger
from failguard.report.resources import bill_rows, time_rows, usage_rows
from failguard.report.run_report import RunReport
from failguard.report.summary import EARLY_STOP, Summary, one_line, place, summarize

__all__ = ["Console"]

MAX_WIDTH = 100
LEAST_WIDTH = 40
MAX_REMARKS = 6
_COLOURS = {"failing": "red", "warning": "yellow", "calm": "green"}


class Console:
    """Says on stderr how a run ended, if there is something to say.

    During the run each new finding from ``warning`` on is one line in the log ``failguard``. At the end a healthy run
    gets nothing, an ordinary early stop or an interrupt one line, everything else a panel: what, where, why, what to
    try, where the record is. Without a terminal, in notebooks and with ``TERM=dumb`` it is plain text; colours respect
    ``NO_COLOR``.
    """

    name = "console"
    background = False

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def start(self, report: RunReport) -> None:
        """A run begins: nothing is said yet."""
        self._said.clear()

    def progress(self, report: RunReport) -> None:
        """Say new findings, one line each."""
        for finding in report.findings:
            key = (finding.code, finding.severity.value)
            if finding.severity.rank >= Severity.WARNING.rank and key not in self._said:
                self._said.add(key)
                logger.warning("failguard: %s: %s [%s]", finding.severity, _sentence(finding), finding.code)

    def finish(self, report: RunReport) -> None:
        """Say how the run ended, and before that what it took where the user asked for it."""
        if report.resources.get("show_table") is True:
            _print(_resource_table(report))
        summary = summarize(report)
        if summary.tone == "calm":
            if report.root is not None and report.root.code == EARLY_STOP:
                _print(_one_line(report, summary))
            return
        only_interrupted = all(f.code == "run.interrupted" or f.severity is Severity.INFO for f in report.findings)
        if report.status is Status.INTERRUPTED and only_interrupted:
            _print(_one_line(report, summary))
            return
        _print(_panel(report, summary) if _is_terminal(sys.stderr) else _plain(report, summary))


def _sentence(finding: Finding) -> str:
    return (
        f"{one_line(finding.message, 300)} ({place(finding)})" if finding.step >= 0 else one_line(finding.message, 300)
    )


def _one_line(report: RunReport, summary: Summary) -> str:
    numbers = [f"{label.lower()} {text}" for label, text in summary.numbers if label in ("Steps", "Best")]
    record = next(iter(report.locations.values()), "")
    parts = [summary.headline, *numbers, *([f"record {one_line(record, 300)}"] if record else [])]
    return f"failguard: {'; '.join(parts)}.\n"


def _rows(report: RunReport, summary: Summary) -> Iterator[tuple[str, str]]:
    """Label and text of each line, a pair of empty texts for a gap."""
    yield from summary.answers()
    if summary.numbers:
        yield "", ""
        yield from summary.numbers
    if report.locations:
        yield "", ""
        for name, location in report.locations.items():
            yield "Record" if name == "local" else one_line(name, 20), one_line(location, 500)
    if summary.remarks:
        yield "", ""
        for remark in summary.remarks[:MAX_REMARKS]:
            yield "Note", one_line(remark, 300)
        if len(summary.remarks) > MAX_REMARKS:
            yield "Note", f"{len(summary.remarks) - MAX_REMARKS} more remarks are in the record."


def _plain(report: RunReport, summary: Summary) -> str:
    """Plain text: no frame, no colour, one line a row."""
    lines = [f"failguard: {summary.headline}"]
    lines += [f"  {label + ':':<13}{text}" if label else "" for label, text in _rows(report, summary)]
    return "\n".join(lines) + "\n"


def _resource_table(report: RunReport) -> str:
    """What the run took, with the changes that would save most."""
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    resources = report.resources
    table = Table(title=Text("failguard: what the run took"), title_justify="left", show_header=False)
    for label, text in [*bill_rows(resources), *time_rows(resources), *usage_rows(resources)]:
        table.add_row(Text(label), Text(text))
    changes = resources.get("advice")
    for item in changes if isinstance(changes, list) else ():
        table.add_row(Text("What would help"), Text(one_line(f"{item.get('change')} {item.get('evidence')}", 300)))
    target = io.TextIOWrapper(io.BytesIO(), encoding=_encoding(sys.stderr), errors="replace")
    width = min(max(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, LEAST_WIDTH), MAX_WIDTH)
    console = RichConsole(
        file=target,
        width=width,
        force_terminal=_is_terminal(sys.stderr),
        force_jupyter=False,
        emoji=False,
        markup=False,
    )
    with console.capture() as captured:
        console.print(table)
    return "\n" + captured.get()


def _panel(report: RunReport, summary: Summary) -> str:
    """A framed panel. All texts are given as Text, so that nothing of the user's is taken as markup."""
    from rich.console import Console as RichConsole
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    colour = _COLOURS[summary.tone]
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _rows(report, summary):
        style = "bold" if label == "What to try" else ""
        table.add_row(Text(label, style="dim"), Text(text, style=style))
    title = Text.assemble(("failguard ", "dim"), (summary.headline, f"bold {colour}"))
    panel = Panel(table, title=title, title_align="left", border_style=colour, padding=(1, 2))
    width = min(max(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, LEAST_WIDTH), MAX_WIDTH)
    # Rendered to text first: what the stream cannot encode is dealt with in one place.
    target = io.TextIOWrapper(io.BytesIO(), encoding=_encoding(sys.stderr), errors="replace")
    console = RichConsole(
        file=target, width=width, force_terminal=True, force_jupyter=False, emoji=False, highlight=False, markup=False
    )
    with console.capture() as captured:
        console.print(panel)
    return "\n" + captured.get()


def _print(text: str) -> None:
    """Write to stderr. A stream that is missing, closed or cannot encode the text loses characters, not the run."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = _encoding(stream)
            stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except (OSError, ValueError):  # a closed stream or pipe: there is nobody to tell
        logger.debug("failguard: the end of the run could not be shown on stderr")


def _encoding(stream: IO[str]) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _is_terminal(stream: IO[str] | None) -> bool:
    if stream is None or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return False
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False
