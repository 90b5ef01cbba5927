"""``failguard analyze``: diagnose a finished run."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from failguard.report.run_report import RunReport

__all__ = ["FailOn", "fails", "register"]


class Per(str, Enum):
    """What one value of the training loss stands for."""

    EPOCH = "epoch"
    STEP = "step"


class Mode(str, Enum):
    """Which direction of the monitored metric is better."""

    MIN = "min"
    MAX = "max"


class FailOn(str, Enum):
    """From which severity on the command fails."""

    WARNING = "warning"
    ERROR = "error"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("analyze")(analyze)


def analyze(
    path: Annotated[Path, typer.Argument(help="A CSV file with a header, such as a CSVLogger writes.")],
    per: Annotated[
        Per | None, typer.Option(help="What one loss stands for; guessed from the columns if left out.")
    ] = None,
    monitor: Annotated[str, typer.Option(help="The metric that overfitting and the best epoch look at.")] = "val_loss",
    mode: Annotated[Mode, typer.Option(help="min: lower is better; max: higher is better.")] = Mode.MIN,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 1 on a finding of this severity or above.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as an HTML page.")] = None,
) -> None:
    """Diagnose a finished run from its log."""
    from failguard.analysis import analyze as run_analysis
    from failguard.cli.output import print_json, show, write

    report = run_analysis(path, per=per.value if per else None, monitor=monitor, mode=mode.value)
    if html is not None:
        write(html, report.to_html())
    if as_json:
        print_json(report.to_dict())
    else:
        show(report)
    if fails(report, fail_on):
        raise typer.Exit(1)


def fails(report: RunReport, fail_on: FailOn | None) -> bool:
    """Whether the report holds something at or above the severity that the user asked about."""
    if fail_on is None:
        return False
    from failguard.core.finding import Severity, Status

    least = Severity(fail_on.value).rank
    return report.status is Status.FAILED or any(f.severity.rank >= least for f in report.findings)
