"""``failguard doctor``: what this machine offers, and what is in the way."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    record_dir: Annotated[str, typer.Option(help="Where local records are to go.")] = "failguard_runs",
    alerts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS", help="Send a test message to an address in Apprise syntax, such as slack://..."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check frameworks, GPUs, the MLflow store and the record folder. Exits with 2 if something is broken."""
    from failguard.cli.checks import State, check_alerts, run_checks
    from failguard.cli.output import print_json, say, say_labelled

    checks = [*run_checks(record_dir), *check_alerts(alerts or [])]
    broken = [check for check in checks if check.state is State.BROKEN]
    if as_json:
        print_json({"ok": not broken, "checks": checks})
    else:
        for check in checks:
            say_labelled(check.state.value, f"{check.name}: {check.detail}")
            if check.remedy:
                say_labelled("", check.remedy)
        say("Nothing is broken." if not broken else f"{len(broken)} broken: {', '.join(c.name for c in broken)}.")
    if broken:
        raise typer.Exit(2)
