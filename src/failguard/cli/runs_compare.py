"""``failguard runs compare``: two runs side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from failguard.cli.runs_store import Json, NoRefresh, Store, open_registry

if TYPE_CHECKING:
    from failguard.runs.compare import Change, Comparison
    from failguard.runs.entry import RunEntry
    from failguard.runs.registry import Registry

__all__ = ["compare"]

CELL = 34
MOST_ROWS = 30
MOST_CURVES = 4


def compare(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, its beginning, or its name.")],
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="Another; else the nearest run that went well.")
    ] = None,
    as_json: Json = False,
    store: Store = None,
    no_refresh: NoRefresh = False,
) -> None:
    """Compare two runs: configuration, setup, environment, curves, outcome."""
    from failguard.cli.output import print_json
    from failguard.errors import InputError
    from failguard.runs.compare import nearest_good

    registry = open_registry(store, no_refresh=no_refresh)
    first = registry.get(run, refresh=not no_refresh)
    if other is not None:
        second = registry.get(other, refresh=not no_refresh)
        if second.run_id == first.run_id:
            raise InputError(f"{run!r} and {other!r} are the same run. Name another, or none for the nearest good one.")
    else:
        nearest = nearest_good(first, registry.index.entries(outcome="success"))
        if nearest is None:
            raise InputError(f"No run of the MLflow store {registry.shown} went well. Name a run to compare with.")
        second = nearest
    found = _compared(registry, first, second)
    if as_json:
        print_json(found.to_dict())
    else:
        _say(found, is_nearest=other is None)


def _compared(registry: Registry, first: RunEntry, second: RunEntry) -> Comparison:
    """With what only the store has: environments and curves. Where it cannot be read, the rest is compared."""
    from failguard.runs.compare import compare as side_by_side
    from failguard.runs.curves import curve_pairs

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    notes: list[str] = []
    environments = tuple(_environment(registry, entry, notes) for entry in (first, second))
    curves = [_curves(registry, entry, notes) for entry in (first, second)]
    pairs = list(curve_pairs(curves[0], curves[1]))
    return side_by_side(first, second, (environments[0], environments[1]), pairs, tuple(dict.fromkeys(notes)))


def _environment(registry: Registry, entry: RunEntry, notes: list[str]) -> Mapping[str, Any]:
    from failguard.errors import FailGuardError
    from failguard.sinks.mlflow_read import read_report

    if not entry.watched:
        notes.append(f"{_name(entry)} was not watched by failguard: its environment is not known.")
        return {}
    try:
        return read_report(entry.run_id, registry.tracking_uri).environment
    except FailGuardError as error:
        notes.append(f"The environment of {_name(entry)} is not known: {error}")
        return {}


def _curves(registry: Registry, entry: RunEntry, notes: list[str]) -> dict[str, list[tuple[int, float]]]:
    from failguard.errors import FailGuardError
    from failguard.sinks.mlflow_metrics import read_metrics

    try:
        found = read_metrics(entry.run_id, registry.tracking_uri, leave_out=("system/", "failguard/run/"))
    except FailGuardError as error:
        notes.append(f"The curves of {_name(entry)} are not known: {error}")
        return {}
    curves: dict[str, list[tuple[int, float]]] = {}
    # The user's own metrics first; ours of the same name say the same.
    for name, points in sorted(found.points.items(), key=lambda item: item[0].startswith("failguard/")):
        values = list(zip(points.steps, points.values, strict=True))
        curves.setdefault(name.removeprefix("failguard/"), values)
    return curves


def _say(found: Comparison, *, is_nearest: bool) -> None:
    from failguard.cli.output import say, table
    from failguard.runs.when import local_text

    names = _name(found.first), _name(found.second)
    if is_nearest:
        where = "" if found.first.experiment == found.second.experiment else f" (of {found.second.experiment})"
        say(f"{names[1]}{where} is the run that went well whose configuration is nearest to that of {names[0]}.")
        say()
    head = ["", *names]
    began = ["started", local_text(found.first.started_at), local_text(found.second.started_at)]
    table([head, began, *([_cut(cell) for cell in row] for row in found.outcome)])
    for title, changes in (
        ("Configuration", found.config),
        ("Setup", found.setup),
        ("Environment", found.environment),
    ):
        _say_changes(title, changes, head)
    for curve in found.curves[:MOST_CURVES]:
        apart = f"apart from step {curve.apart_from:,} on" if curve.apart_from is not None else "together"
        lines = curve.lines
        say()
        say(f"{curve.name}: {apart}")
        for name, line, points in zip(names, lines, (curve.first, curve.second), strict=True):
            typer.echo(f"  {_cut(name):<{CELL}} {line:<32} {points[0][1]:.4g} to {points[-1][1]:.4g}")
    if not found.curves:
        say()
        say("Curves: the two have no metric over the steps in common.")
    for note in found.notes:
        say()
        say(note)


def _say_changes(title: str, changes: tuple[Change, ...], head: list[str]) -> None:
    from failguard.cli.output import say, table

    say()
    if not changes:
        say(f"{title}: nothing differs.")
        return
    table([[title, *head[1:]], *([_cut(c.name), *map(_cut, c.texts)] for c in changes[:MOST_ROWS])])
    if len(changes) > MOST_ROWS:
        say(f"and {len(changes) - MOST_ROWS} more; --json has all.")


def _name(entry: RunEntry) -> str:
    return f"{entry.name or 'run'} ({entry.run_id[:8]})"


def _cut(text: str) -> str:
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"
