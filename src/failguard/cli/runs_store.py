"""What the commands of ``failguard runs`` share: options, and the registry, brought up to date."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from failguard.runs.registry import Registry

__all__ = ["FullRefresh", "Json", "NoRefresh", "Store", "open_registry"]

LOOK_S = 0.2  # at older runs of a server, in turns

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Store = Annotated[
    str | None, typer.Option(help="The MLflow store; else MLFLOW_TRACKING_URI, else ./mlflow.db.", metavar="URI")
]
NoRefresh = Annotated[bool, typer.Option("--no-refresh", help="Do not ask the store: what the index has will do.")]
FullRefresh = Annotated[bool, typer.Option("--full-refresh", help="Look at every run of the store again.")]


def open_registry(store: str | None, *, no_refresh: bool = False, full_refresh: bool = False) -> Registry:
    """The registry of a store. What keeps it from being up to date is said on stderr.

    Args:
        store: Its address; ``None``: the one that MLflow itself would use.
        no_refresh: Take the index as it is.
        full_refresh: Look at every run.

    Raises:
        FailGuardError: The store cannot be read, and the index never held all of it.
    """
    from failguard.cli.output import one_line
    from failguard.errors import InputError
    from failguard.runs.registry import Registry

    if no_refresh and full_refresh:
        raise InputError("--no-refresh and --full-refresh cannot both be meant. Choose one.")
    registry = Registry(store)
    if no_refresh and registry.refreshed_at is not None:
        return registry
    said = _Progress()
    registry.try_refresh(full=full_refresh, limit_s=LOOK_S, progress=said)
    said.end()
    if registry.trouble:
        typer.echo(f"failguard: {one_line(registry.trouble)}", err=True)
    return registry


class _Progress:
    """A line that counts the runs that were read, where somebody watches and it takes a while."""

    def __init__(self) -> None:
        self._is_shown = False

    def __call__(self, runs: int) -> None:
        if runs >= 1_000 and sys.stderr.isatty():
            self._is_shown = True
            typer.echo(f"\rReading the runs of the store: {runs:,}", err=True, nl=False)

    def end(self) -> None:
        if self._is_shown:
            typer.echo("\r\x1b[K", err=True, nl=False)
