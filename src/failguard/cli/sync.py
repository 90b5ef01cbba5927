"""``failguard sync``: send what the tracking server could not take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sync")(sync)


def sync(
    record_dir: Annotated[Path, typer.Option(help="Where local records are.")] = Path("failguard_runs"),
    tracking_uri: Annotated[str | None, typer.Option(help="A store to send to in place of the one tried.")] = None,
) -> None:
    """Send the records that MLflow does not have yet."""
    from failguard.cli.output import one_line, say
    from failguard.sinks.sync import sync as send

    result = send(record_dir, tracking_uri)
    for record, address in result.sent.items():
        say(f"sent     {record}  {address}")
    for record in result.running:
        say(f"running  {record}  it is sent when it has ended")
    for record, reason in result.failed.items():
        typer.echo(f"failed   {record}  {one_line(reason)}", err=True)
    if not (result.sent or result.running or result.failed):
        say("MLflow has every record.")
    if result.failed:
        raise typer.Exit(2)
