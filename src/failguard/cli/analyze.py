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
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH|RUN_ID",
            help="A log (CSV, JSON Lines, Keras History, trainer_state.json, TensorBoard events) or an MLflow run id.",
        ),
    ],
    per: Annotated[
        Per | None, typer.Option(help="What one loss stands for; guessed from the columns if left out.")
    ] = None,
    monitor: Annotated[str, typer.Option(help="The metric that overfitting and the best epoch look at.")] = "val_loss",
    mode: Annotated[Mode, typer.Option(help="min: lower is better; max: higher is better.")] = Mode.MIN,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="What a column is, where the guess is wrong: --column val_loss=cost."),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A hyperparameter, for a sharper diagnosis: --config lr=0.1."),
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="The MLflow store of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 1 on a finding of this severity or above.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as an HTML page.")] = None,
    md: Annotated[Path | None, typer.Option(help="Write the report as Markdown.")] = None,
) -> None:
    """Diagnose a finished run from what it or another tool left behind."""
    from failguard.analysis import analyze as run_analysis
    from failguard.cli.output import print_json, show, write

    report = run_analysis(
        source,
        per=per.value if per else None,
        monitor=monitor,
        mode=mode.value,
        columns=_pairs("--column", column),
        config={name: _value(text) for name, text in _pairs("--config", config).items()},
        tracking_uri=tracking_uri,
    )
    if html is not None:
        write(html, report.to_html())
    if md is not None:
        write(md, report.to_markdown())
    if as_json:
        print_json(report.to_dict())
    else:
        show(report)
    if fails(report, fail_on):
        raise typer.Exit(1)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise typer.BadParameter(f"{text!r} is no pair NAME=VALUE.", param_hint=option)
        pairs[name.strip()] = value.strip()
    return pairs


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def fails(report: RunReport, fail_on: FailOn | None) -> bool:
    """Whether the report holds something at or above the severity that the user asked about."""
    if fail_on is None:
        return False
    from failguard.core.finding import Severity, Status

    least = Severity(fail_on.value).rank
    return report.status is Status.FAILED or any(f.severity.rank >= least for f in report.findings)
