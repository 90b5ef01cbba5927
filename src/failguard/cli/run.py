"""``failguard run``: what any command takes of the machine."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from failguard.resources import Sampler

__all__ = ["register"]

EXIT_NOT_FOUND = 127  # as in a shell


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(run)


def run(
    command: Annotated[
        list[str], typer.Argument(help="The command and its arguments, after --.", metavar="COMMAND...")
    ],
    name: Annotated[str | None, typer.Option(help="What it is, for messages.")] = None,
    max_memory_increase_mb: Annotated[float | None, typer.Option(help="Warn above this growth of memory.")] = None,
    max_duration_s: Annotated[float | None, typer.Option(help="Warn when it takes longer.")] = None,
    price_per_gpu_hour: Annotated[float | None, typer.Option(help="To say what it cost.")] = None,
    interval_s: Annotated[float, typer.Option(help="Seconds between two samples.")] = 1.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the whole summary to a file.")] = None,
) -> None:
    """Run a command and say what it took: time, memory, CPU, GPU. Exits with the command's own code."""
    from failguard.cli.output import write
    from failguard.errors import ConfigurationError
    from failguard.resources import ResourceLimits, Sampler
    from failguard.resources.bill import bill

    limits = ResourceLimits(
        interval_s=interval_s,
        max_memory_increase_mb=max_memory_increase_mb,
        min_disk_free_mb=None,
        price_per_gpu_hour=price_per_gpu_hour,
    )
    if max_duration_s is not None and not 0 < max_duration_s < float("inf"):
        raise ConfigurationError(f"max_duration_s={max_duration_s!r} cannot be used: it takes seconds above 0.")
    began_at = monotonic()
    try:
        process = subprocess.Popen(command)
    except (OSError, ValueError) as error:
        typer.echo(f"failguard: {command[0]!r} cannot be run: {getattr(error, 'strerror', None) or error}.", err=True)
        raise typer.Exit(EXIT_NOT_FOUND) from None
    sampler = Sampler(limits, pid=process.pid)
    sampler.start()
    code = _wait(process, name or Path(command[0]).name, max_duration_s)
    duration_s = monotonic() - began_at
    sampler.stop()
    summary = _summary(sampler, duration_s, code)
    summary["bill"] = bill(summary, duration_s, price_per_gpu_hour=price_per_gpu_hour)
    _say(name or " ".join(command), summary)
    if json_file is not None:
        import json

        from failguard.report.plain import plain

        write(json_file, json.dumps(plain(summary), allow_nan=False, indent=1))
    raise typer.Exit(code)


def _wait(process: subprocess.Popen[Any], name: str, max_duration_s: float | None) -> int:
    """Wait for the command. Signals go to it; what it makes of them is its own matter."""

    def pass_on(number: int, frame: object) -> None:
        process.send_signal(number)

    # Ctrl-C reaches the command from the terminal by itself.
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on),
        signal.SIGINT: signal.signal(signal.SIGINT, _wait_on),
    }
    try:
        try:
            process.wait(max_duration_s)
        except subprocess.TimeoutExpired:
            typer.echo(f"failguard: {name} takes longer than {max_duration_s:g} s.", err=True)
            process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _wait_on(number: int, frame: object) -> None:
    """The command decides when it ends."""


def _summary(sampler: Sampler, duration_s: float, code: int) -> dict[str, Any]:
    summary = {"exit_code": code, **sampler.summary(), "duration_s": duration_s}
    highest = _highest_child_bytes()
    # A command starts as a copy of this process, which then counts as the memory that it had.
    if highest is not None and highest > 1.5 * _own_bytes():
        summary["highest_process_rss_bytes"] = highest
    return summary


def _highest_child_bytes() -> float | None:
    """The highest resident memory of any process that was waited for, as the system counts it."""
    if os.name != "posix":
        return None
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    highest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return float(highest) if highest > 0 else None


def _own_bytes() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss)


def _say(name: str, summary: dict[str, Any]) -> None:
    """The result on stderr, so that the command's own output stays what it is."""
    from failguard.report.resources import bill_rows, usage_rows
    from failguard.report.summary import one_line

    typer.echo(f"failguard: {one_line(name, 80)} ended with exit code {summary['exit_code']}", err=True)
    for label, text in [*bill_rows(summary), *usage_rows(summary)]:
        typer.echo(f"  {label:<24}{text}", err=True)
    for exceeded in summary.get("limits_exceeded", ()):
        typer.echo(f"  warning: {exceeded}", err=True)
