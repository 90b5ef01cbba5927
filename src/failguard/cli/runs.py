"""``failguard runs``: the registry. Listing runs, and the options that its commands share."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from failguard.cli import runs_compare, runs_note, runs_show
from failguard.cli.runs_store import FullRefresh, Json, NoRefresh, Store, open_registry

if TYPE_CHECKING:
    from failguard.runs.entry import RunEntry

__all__ = ["register"]

SHOWN = 20
SILENT_S = 3_600.0  # a run that was not heard of for longer may have been killed
CELL = 28


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="All runs of an MLflow store: what came of each, and why.", rich_markup_mode=None)
    commands.command("list")(list_runs)
    commands.command("show")(runs_show.show)
    commands.command("compare")(runs_compare.compare)
    commands.command("note")(runs_note.note)
    app.add_typer(commands, name="runs")


def list_runs(
    experiment: Annotated[str | None, typer.Option("--experiment", "-e", help="Name or id of an experiment.")] = None,
    status: Annotated[
        str | None, typer.Option(help="running, completed, stopped, recovered, failed or interrupted.")
    ] = None,
    outcome: Annotated[str | None, typer.Option(help="success, partial or failure.")] = None,
    finding: Annotated[str | None, typer.Option(help="Code of a finding, such as loss.divergence.")] = None,
    cause: Annotated[str | None, typer.Option(help="Code of the likely cause.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Identity of the failure.")] = None,
    line: Annotated[str | None, typer.Option(help="The line of work.")] = None,
    user: Annotated[str | None, typer.Option(help="Who started it.")] = None,
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", help='A value: "lr>=0.1", "optimizer=adam". Repeatable.')
    ] = None,
    since: Annotated[str | None, typer.Option(help="Started since: 7d, 12h, 2026-03-01, 2026-03-01T14:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Started until; a date includes it.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, help="At most so many; 20 in a table.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="No limit.")] = False,
    columns: Annotated[
        str | None, typer.Option(help="More columns, with commas: names of config values or metrics.")
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with every config value and metric.")] = False,
    store: Store = None,
    no_refresh: NoRefresh = False,
    full_refresh: FullRefresh = False,
) -> None:
    """List runs, newest first. Times are local."""
    from failguard.cli.output import print_json, say, table
    from failguard.errors import InputError

    if as_json and as_csv:
        raise InputError("--json and --csv are two ways to print the same. Choose one.")
    most = limit if limit is not None or everything or as_json or as_csv else SHOWN
    registry = open_registry(store, no_refresh=no_refresh, full_refresh=full_refresh)
    found = registry.list(
        experiment=experiment, status=status, outcome=outcome, finding=finding, cause=cause, fingerprint=fingerprint,
        line=line, user=user, config=config, since=since, until=until, limit=None if most is None else most + 1,
        refresh=False,
    )  # fmt: skip
    shown = found if most is None else found[:most]
    if as_json:
        print_json([entry.to_dict() for entry in shown])
    elif as_csv:
        _print_csv(shown)
    elif not found:
        what = "No run of" if registry.index.count() else "There is no run yet in"
        typer.echo(
            f"{what} the MLflow store {registry.shown}{' meets this' if registry.index.count() else ''}.", err=True
        )
    else:
        more = [name.strip() for name in (columns or "").split(",") if name.strip()]
        table(_rows(shown, more, with_experiment=experiment is None))
        if len(found) > len(shown):
            say()
            say(f"There are more. --limit {5 * len(shown) or SHOWN} shows more of them, --all shows all.")


def _rows(entries: Sequence[RunEntry], more: Sequence[str], *, with_experiment: bool) -> list[list[str]]:
    from failguard.runs.when import local_text

    now = datetime.now(UTC)
    head = ["started", "run", "name", *(["experiment"] if with_experiment else []), "status", "finding", "cause", *more]
    rows = [
        head,
        *(
            [
                local_text(entry.started_at),
                entry.run_id[:8],
                _short(entry.name),
                *([_short(entry.experiment)] if with_experiment else []),
                state(entry, now),
                entry.finding or entry.error_type or "",
                entry.cause or "",
                *(_short(_cell(entry, name)) for name in more),
            ]
            for entry in entries
        ),
    ]
    # A column that nobody fills only takes room.
    kept = [i for i, name in enumerate(head) if name not in ("finding", "cause") or any(row[i] for row in rows[1:])]
    return [[row[i] for i in kept] for row in rows]


def state(entry: RunEntry, now: datetime) -> str:
    """The status, and for a run that is said to be running how long it has been silent.

    Args:
        entry: The run.
        now: The present.
    """
    from failguard.runs.when import duration_text

    if entry.status == "running":
        heard_at = max(filter(None, (entry.heard_at, entry.started_at)))
        silent_s = (now - heard_at).total_seconds()
        if entry.started_at.timestamp() > 0 and silent_s > SILENT_S:
            return f"running? silent {duration_text(silent_s)}"
        return entry.status
    if entry.outcome is None:
        return f"{entry.status}, not judged"
    # Most words say it all; these do not.
    return f"{entry.status}, {entry.outcome}" if entry.status in ("stopped", "completed", "recovered") else entry.status


def _cell(entry: RunEntry, name: str) -> str:
    for values in (entry.config, entry.metrics, entry.setup, entry.tags):
        if name in values:
            value = values[name]
            return f"{value:.4g}" if isinstance(value, float) else str(value)
    return ""


def _short(text: str) -> str:
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"


_PLAIN = (
    "run_id", "experiment", "name", "status", "outcome", "started_at", "ended_at", "finding", "cause", "findings",
    "fingerprint", "error_type", "line", "parent", "user", "hypothesis", "approach", "framework", "used_h",
    "wasted_h", "saved_h", "gpu_h", "steps", "planned_steps", "detected_after_s", "lessons", "next_steps",
)  # fmt: skip


def _print_csv(entries: Sequence[RunEntry]) -> None:
    rows = [entry.to_dict() for entry in entries]
    nested = {group: sorted({name for row in rows for name in row[group]}) for group in ("config", "setup", "metrics")}
    writer = csv.writer(sys.stdout)
    writer.writerow([*_PLAIN, *(f"{group}.{name}" for group, names in nested.items() for name in names)])
    for row in rows:
        writer.writerow(
            [
                *(_csv_cell(row[name]) for name in _PLAIN),
                *(_csv_cell(row[group].get(name)) for group, names in nested.items() for name in names),
            ]
        )


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return "" if value is None else value
