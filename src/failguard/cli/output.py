"""What commands print: plain text, safe for a terminal whatever a record holds."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from failguard.report.run_report import RunReport

__all__ = ["one_line", "print_json", "say", "show", "table", "write"]

MAX_WIDTH = 100
LABEL_WIDTH = 12


def one_line(text: str) -> str:
    """Text from anywhere as one line without control characters."""
    from failguard.report.text import one_line as safe

    return safe(text)


def say(text: str = "") -> None:
    """Print one line to stdout. Control characters, which could steer a terminal, are left out."""
    typer.echo(one_line(text) if text else "")


def say_labelled(label: str, text: str) -> None:
    """Print a paragraph with its label at the left, wrapped to the terminal's width."""
    indent = " " * (LABEL_WIDTH + 2)
    first = f"  {label:<{LABEL_WIDTH}}"
    for line in textwrap.wrap(
        one_line(text), _width(), initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    ) or [first]:
        typer.echo(line)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as columns of equal width, the first row as the head."""
    safe = [[one_line(cell) if cell else "" for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in safe) for i in range(len(safe[0]))]
    for number, row in enumerate(safe):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            typer.echo("  ".join("-" * width for width in widths))


def print_json(value: object) -> None:
    """Print a value as strict JSON, ASCII only."""
    from failguard.report.plain import plain

    typer.echo(json.dumps(plain(value), allow_nan=False, indent=1))


def write(path: Path, text: str) -> None:
    """Write a file the user asked for and say so on stderr, so that stdout stays what it is.

    Raises:
        OSError: It cannot be written.
    """
    path.write_bytes(text.encode("utf-8", "replace"))
    typer.echo(f"Written: {one_line(str(path))}", err=True)


def show(report: RunReport) -> None:
    """Print a report for people: what, where, why, what to try, and what happened."""
    from failguard.report.summary import summarize

    summary = summarize(report)
    say(summary.headline)
    if report.root is not None:
        say_labelled("Finding", f"{report.root.code} ({report.root.severity}; failguard explain {report.root.code})")
    _paragraphs(summary.answers())
    _paragraphs(_other_causes(report))
    _paragraphs((f"{f.severity}", f"{f.code}: {f.message}") for f in report.findings if f != report.root)
    _paragraphs(("action", f"{a.what} at step {a.step}: {a.reason}") for a in report.actions)
    _paragraphs(("config", issue) for issue in report.diagnosis.config_issues)
    _paragraphs(summary.numbers)
    _paragraphs(("note", remark) for remark in summary.remarks)
    _paragraphs(("record", where) for where in report.locations.values())


def _paragraphs(pairs: Iterable[tuple[str, str]]) -> None:
    for label, text in pairs:
        say_labelled(label, text)


def _other_causes(report: RunReport) -> Iterator[tuple[str, str]]:
    for cause in report.diagnosis.causes[1:]:
        yield "Or", f"{cause.code} ({100 * cause.confidence:.0f} %): {cause.remedy}"


def _width() -> int:
    """Columns to wrap at: the terminal's or ``COLUMNS``, 80 into a file or pipe."""
    return max(40, min(shutil.get_terminal_size((80, 24)).columns, MAX_WIDTH))
