"""``failguard runs show``: one run of the registry, or its line of work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from failguard.cli.runs_store import Json, NoRefresh, Store, open_registry

if TYPE_CHECKING:
    from failguard.runs.entry import Note, RunEntry
    from failguard.runs.lineage import Attempt
    from failguard.runs.registry import Registry

__all__ = ["show"]

MOST_CHANGES = 6
MOST_VALUES = 40
MOST_ATTEMPTS = 40


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, its beginning, or its name.")],
    line: Annotated[bool, typer.Option("--line", help="Its line of work: what each attempt changed and gave.")] = False,
    as_json: Json = False,
    store: Store = None,
    no_refresh: NoRefresh = False,
) -> None:
    """Show what the registry holds of a run."""
    from failguard.cli.output import print_json

    registry = open_registry(store, no_refresh=no_refresh)
    entry = registry.get(run, refresh=not no_refresh)
    if line:
        _show_line(registry, entry, as_json)
    elif as_json:
        print_json(entry.to_dict())
    else:
        _show_entry(registry, entry)


def _show_entry(registry: Registry, entry: RunEntry) -> None:
    from failguard.cli.output import say, say_labelled
    from failguard.cli.runs import state

    say(f"{entry.name or entry.run_id} of {entry.experiment}: {state(entry, datetime.now(UTC))}")
    for label, text in _paragraphs(registry, entry):
        if text:
            say_labelled(label, text)
    if entry.watched:
        say_labelled("Report", f"failguard report {entry.run_id}")


def _paragraphs(registry: Registry, entry: RunEntry) -> Iterator[tuple[str, str]]:
    from failguard.report.text import duration
    from failguard.runs.when import ago, local_text

    parent = _parent(registry, entry)
    lasted = "" if entry.duration_h is None else f", for {duration(3600 * entry.duration_h)}"
    hours = {"used": entry.used_h, "wasted": entry.wasted_h, "saved": entry.saved_h}
    yield "Run", entry.run_id
    yield "Started", f"{local_text(entry.started_at)}{lasted}{f', by {entry.user}' if entry.user else ''}"
    if entry.status == "running":
        yield "Last heard", ago(entry.heard_at) if entry.heard_at else "not known: it has no metrics"
    yield "Finding", entry.finding or ""
    yield "Also seen", ", ".join(code for code in entry.findings if code != entry.finding)
    yield "Cause", entry.cause or ""
    yield "Error", entry.error_type or ""
    yield "Hypothesis", entry.hypothesis
    yield "Approach", entry.approach
    yield "Line", entry.line if entry.line != entry.experiment or parent else ""
    yield "Improves on", parent
    yield "Config", _values(entry.config)
    yield "Setup", _values(entry.setup)
    yield "Metrics", _values(entry.metrics)
    yield "Hours", ", ".join(f"{duration(3600 * h)} {name}" for name, h in hours.items() if h is not None)
    yield "Framework", entry.framework
    for kind, label in (("lesson", "Lesson"), ("next_step", "Next step"), ("classification", "Class")):
        for note in current_notes(entry, kind):
            yield label, f"{note.text} ({note.author or 'somebody'}, {local_text(note.written_at)})"


def current_notes(entry: RunEntry, kind: str) -> list[Note]:
    """The notes of a kind as they stand.

    Args:
        entry: The run.
        kind: A kind of note.
    """
    replaced = {note.replaces for note in entry.notes}
    return [n for n in entry.notes if n.kind == kind and n.id not in replaced and n.text]


def _parent(registry: Registry, entry: RunEntry) -> str:
    from failguard.runs.lineage import parent_of

    if not entry.parent:
        return ""
    found = parent_of(entry, registry.index.entries(experiment=entry.experiment))
    found = found or registry.index.get(entry.parent)
    return f"{found.name} ({found.run_id[:8]})" if found else f"{entry.parent}, which is not in this store"


def _show_line(registry: Registry, entry: RunEntry, as_json: bool) -> None:
    from failguard.cli.output import print_json, say
    from failguard.runs.lineage import lineage

    members = _members(registry, entry)
    attempts = lineage(members)
    if as_json:
        print_json([_attempt_json(attempt) for attempt in attempts])
        return
    near = _near(attempts, entry)
    say(f"Line of work {entry.line}: {len(attempts)} attempts")
    if len(near) < len(attempts):
        say(f"The {len(near)} around this run; --json has all.")
    say()
    open_levels: list[bool] = []
    for attempt in near:
        open_levels[attempt.depth :] = [not attempt.is_last]
        _draw(attempt, open_levels, is_chosen=attempt.entry.run_id == entry.run_id)


def _members(registry: Registry, entry: RunEntry) -> list[RunEntry]:
    """The runs of the line, and the ancestors that the chosen run has in other lines."""
    found = {e.run_id: e for e in registry.index.entries(line=entry.line, experiment=entry.experiment_id)}
    at: RunEntry | None = entry
    while at is not None and at.parent and at.parent not in found:
        at = registry.index.get(at.parent)
        if at is not None:
            found[at.run_id] = at
    return list(found.values())


def _near(attempts: Sequence[Attempt], entry: RunEntry) -> list[Attempt]:
    """Few enough to look at: around the chosen run."""
    if len(attempts) <= MOST_ATTEMPTS:
        return list(attempts)
    place = next(i for i, attempt in enumerate(attempts) if attempt.entry.run_id == entry.run_id)
    begin = max(0, min(place - MOST_ATTEMPTS // 2, len(attempts) - MOST_ATTEMPTS))
    return list(attempts[begin : begin + MOST_ATTEMPTS])


def _draw(attempt: Attempt, open_levels: Sequence[bool], *, is_chosen: bool) -> None:
    from failguard.cli.output import one_line
    from failguard.cli.runs import state
    from failguard.runs.when import local_text

    entry, depth = attempt.entry, attempt.depth
    trunk = "".join("│  " if more else "   " for more in open_levels[1:depth])
    branch = "" if depth == 0 else f"{trunk}{'├─ ' if open_levels[depth] else '└─ '}"
    below = "" if depth == 0 else f"{trunk}{'│  ' if open_levels[depth] else '   '}"
    why = entry.finding or entry.error_type
    text = (
        f"{'▶' if is_chosen else '●'} {entry.name or entry.run_id[:8]}  {entry.run_id[:8]}  "
        f"{local_text(entry.started_at)}  {state(entry, datetime.now(UTC))}{f': {why}' if why else ''}"
    )
    typer.echo(f"{branch}{one_line(text)}")
    for text in _remarks(attempt):
        typer.echo(f"{below}  {one_line(text)}")


def _remarks(attempt: Attempt) -> Iterator[str]:
    entry = attempt.entry
    if attempt.lost_parent:
        yield f"improves on {attempt.lost_parent}, which is not in this line"
    if attempt.before is not None:
        found = [str(change) for change in attempt.changes]
        more = f", and {len(found) - MOST_CHANGES} more" if len(found) > MOST_CHANGES else ""
        since = "" if attempt.has_parent else f"after {attempt.before.name or attempt.before.run_id[:8]}: "
        yield f"{since}{', '.join(found[:MOST_CHANGES]) or 'nothing in the configuration changed'}{more}"
    for text in entry.lessons:
        yield f"lesson: {text}"
    for text in entry.next_steps:
        yield f"next: {text}"


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "run": attempt.entry.to_dict(),
        "depth": attempt.depth,
        "compared_with": None if attempt.before is None else attempt.before.run_id,
        "is_parent": attempt.has_parent,
        "changes": [{"name": c.name, "before": c.before, "after": c.after} for c in attempt.changes],
    }


def _values(values: Mapping[str, Any]) -> str:
    shown = [f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items()]
    more = f", and {len(shown) - MOST_VALUES} more (--json has all)" if len(shown) > MOST_VALUES else ""
    return f"{', '.join(shown[:MOST_VALUES])}{more}"
