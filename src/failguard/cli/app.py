"""The commands together, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import typer
import typer.core

from failguard.cli import analyze, data, demo, doctor, explain, report, run, runs, sync

__all__ = ["EXIT_USAGE", "app"]

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT


class Commands(typer.core.TyperGroup):
    """Turns expected errors into one line on stderr."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and exit."""
        from failguard.errors import FailGuardError

        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter is no reason to fail
                stream.reconfigure(errors="replace")
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            _end_quietly()
        except SystemExit as ending:  # click meets a closed pipe with exit code 1, which here means a failed check
            if isinstance(ending.__context__, BrokenPipeError):
                _end_quietly()
            raise
        except (KeyboardInterrupt, typer.Abort):
            _fail("Interrupted.", EXIT_INTERRUPTED)
        except FailGuardError as error:
            _fail(str(error), EXIT_USAGE)
        except OSError as error:
            what = f"{error.filename!r}: {error.strerror}" if error.filename else str(error)
            _fail(f"{what}. Choose another path or free it.", EXIT_USAGE)
        except Exception as error:  # noqa: BLE001 - the last place that can give it a code
            # Usage errors are typer's own; the module that defines them differs between its versions.
            if not hasattr(error, "format_message"):
                sys.excepthook(*sys.exc_info())  # a defect of our own; left to Python it would exit with 1
                sys.exit(EXIT_USAGE)
            _fail(f"{error.format_message()} Type: {_command(error)} --help", EXIT_USAGE)
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="failguard",
    cls=Commands,
    help="Diagnose training runs: look at finished ones, read reports, check this machine.",
    rich_markup_mode=None,  # hostile text stays text, and help does not load rich
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from failguard._version import __version__

        typer.echo(f"failguard {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
    ),
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _command_module in (demo, doctor, analyze, report, runs, data, run, explain, sync):
    _command_module.register(app)


def _end_quietly() -> NoReturn:
    """The reader of our output left, as ``head`` does."""
    # Python flushes stdout once more at exit; there is nobody to write to.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    sys.exit(0)


def _command(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context is not None else "failguard"


def _fail(message: str, code: int) -> NoReturn:
    from failguard.cli.output import one_line

    typer.echo(f"failguard: {one_line(message)}", err=True)
    sys.exit(code)
