"""``failguard data``: check a dataset, a split, or new data against a profile of good data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from failguard.cli.analyze import FailOn

if TYPE_CHECKING:
    from failguard.data.report import DataReport

__all__ = ["register"]

Label = Annotated[str | None, typer.Option(help="Column that is to be predicted.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Html = Annotated[Path | None, typer.Option(help="Write the report as an HTML page.")]
Fails = Annotated[FailOn, typer.Option(help="Exit with 1 on a finding of this severity or above.")]
TABLE = "A .csv, .parquet or .feather file."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Check datasets before training on them.", rich_markup_mode=None)
    commands.command("check")(check)
    commands.command("split")(split)
    commands.command("profile")(profile)
    app.add_typer(commands, name="data")


def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help=TABLE)],
    label: Label = None,
    profile: Annotated[Path | None, typer.Option(help="Compare with this profile of good data too.")] = None,
    strict: Annotated[bool, typer.Option("--strict-source", help="The literal rules of the source design.")] = False,
    as_json: Json = False,
    html: Html = None,
    fail_on: Fails = FailOn.ERROR,
) -> None:
    """Check a dataset; exit with 1 where a check fails."""
    from failguard.data.profile import DataProfile, check_profile
    from failguard.data.report import DataReport, sorted_findings
    from failguard.data.validate import validate_dataset

    known = None if profile is None else DataProfile.load(profile)
    report = validate_dataset(path, label, strict="source" if strict else None, raise_on_failure=False)
    if known is not None:
        against = check_profile(path, known, raise_on_failure=False)
        seen = {(f.code, f.where.tensor) for f in against.findings}
        merged = [*against.findings, *(f for f in report.findings if (f.code, f.where.tensor) not in seen)]
        report = DataReport(
            report.source,
            report.rows,
            report.columns,
            tuple(sorted_findings(merged)),
            (*report.checks, "profile"),
            tuple(dict.fromkeys((*report.notes, *against.notes))),
        )
    _show(report, as_json, html, fail_on)


def split(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help=TABLE)],
    validation: Annotated[Path, typer.Argument(metavar="VALIDATION", help=TABLE)],
    label: Label = None,
    time: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    as_json: Json = False,
    html: Html = None,
    fail_on: Fails = FailOn.ERROR,
) -> None:
    """Compare training and validation data: rows in both, drift, labels, time."""
    from failguard.data.split import check_split

    _show(check_split(train, validation, label, time=time, raise_on_failure=False), as_json, html, fail_on)


def profile(
    path: Annotated[Path, typer.Argument(metavar="FILE", help=TABLE)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the profile, as JSON.")],
) -> None:
    """Describe good data, for `failguard data check --profile`."""
    from failguard.cli.output import say
    from failguard.data.profile import profile_dataset

    found = profile_dataset(path)
    found.save(output)
    say(f"Profile of {found.rows:,} rows and {len(found.columns)} columns: {output}")


def _show(report: DataReport, as_json: bool, html: Path | None, fail_on: FailOn) -> None:
    from failguard.cli.output import print_json, say, say_labelled, write
    from failguard.core.finding import Severity
    from failguard.data.pages import headline

    if html is not None:
        write(html, report.to_html())
    if as_json:
        print_json(report.to_dict())
    else:
        say(f"{headline(report)}.")
        for found in report.findings:
            say_labelled(found.severity.value, f"{found.code}: {found.message}")
        for note in report.notes:
            say_labelled("note", note)
    least = Severity(fail_on.value).rank
    if any(f.severity.rank >= least for f in report.findings):
        raise typer.Exit(1)
