"""``failguard report``: the report of a run that was watched."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from failguard.report.run_report import RunReport

__all__ = ["register"]

RUN_ID = re.compile(r"[0-9a-f]{32}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    runs: Annotated[
        list[str], typer.Argument(help="Id of a local record or its beginning, its folder, or an MLflow run id.")
    ],
    record_dir: Annotated[Path, typer.Option(help="Where local records are.")] = Path("failguard_runs"),
    html: Annotated[Path | None, typer.Option(help="Write the report as an HTML page.")] = None,
    md: Annotated[Path | None, typer.Option(help="Write the report as Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    resources: Annotated[
        bool, typer.Option("--resources", help="Only what runs took of the machine; several are compared.")
    ] = False,
) -> None:
    """Show or write the report of a run."""
    from failguard.cli.output import print_json, show, write
    from failguard.errors import InputError

    if resources:
        _compare(runs, record_dir, as_json)
        return
    if len(runs) != 1:
        raise InputError(f"{len(runs)} runs are given. One has a report; several are compared with --resources.")
    found = _find(runs[0], record_dir)
    if html is not None:
        write(html, found.to_html())
    if md is not None:
        write(md, found.to_markdown())
    if as_json:
        print_json(found.to_dict())
    elif html is None and md is None:
        show(found)


def _compare(runs: list[str], record_dir: Path, as_json: bool) -> None:
    """What runs took, side by side."""
    from failguard.cli.output import print_json, say, table

    found = [_find(run, record_dir) for run in runs]
    if as_json:
        print_json([{"run": r.run.record_id, "name": r.run.run_name, **_without_series(r.resources)} for r in found])
        return
    from failguard.report.resources import compare_rows

    table(compare_rows(found))
    for report in found:
        changes = report.resources.get("advice")
        for item in changes if isinstance(changes, list) else ():
            say(f"{report.run.run_name or report.run.record_id}: {item.get('change')} {item.get('evidence')}")


def _without_series(resources: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resources.items() if name != "series"}


def _find(run: str, record_dir: Path) -> RunReport:
    """By path, else by local id, else in MLflow."""
    from failguard.errors import InputError
    from failguard.sinks.files import find_record, load_record

    if Path(run).exists():
        return load_record(run)
    try:
        return load_record(find_record(record_dir, run))
    except InputError as error:
        if RUN_ID.fullmatch(run) is None:
            raise
        from failguard.sinks.mlflow_read import read_report  # MLflow takes a second to load

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        try:
            return read_report(run)
        except InputError as second:
            raise InputError(f"{second} {error}") from second
