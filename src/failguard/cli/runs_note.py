"""``failguard runs note``: what people learned from a run, kept with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from failguard.cli.runs_store import Json, Store, open_registry

if TYPE_CHECKING:
    from failguard.runs.entry import Note, RunEntry

__all__ = ["note"]


def note(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, its beginning, or its name.")],
    lesson: Annotated[list[str] | None, typer.Option(help="What was learned. Repeatable.")] = None,
    next_step: Annotated[list[str] | None, typer.Option("--next", help="What to try next. Repeatable.")] = None,
    author: Annotated[str | None, typer.Option(help="Who says so; else the user of this machine.")] = None,
    replaces: Annotated[str | None, typer.Option(metavar="NOTE", help="The note that this text replaces.")] = None,
    take_back: Annotated[str | None, typer.Option(metavar="NOTE", help="The note that no longer holds.")] = None,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Add lessons and next steps to a run, or show them. Earlier versions are kept."""
    from failguard.cli.output import print_json
    from failguard.errors import InputError

    texts = [("lesson", text) for text in lesson or ()] + [("next_step", text) for text in next_step or ()]
    if replaces is not None and len(texts) != 1:
        raise InputError("--replaces takes one new text: one --lesson or one --next.")
    if take_back is not None and (texts or replaces is not None):
        raise InputError("--take-back stands alone. To change a note, use --replaces with the new text.")
    registry = open_registry(store)
    entry = registry.get(run)
    if take_back is not None:
        kinds = [n.kind for n in entry.notes if n.id.startswith(take_back)]
        texts, replaces = [(kinds[0] if kinds else "lesson", "")], take_back
    for kind, text in texts:
        registry.add_note(entry.run_id, kind, text, author=author, replaces=replaces)
    if texts:
        entry = registry.get(entry.run_id)
    if as_json:
        print_json(entry.to_dict()["notes"])
    else:
        _say_notes(entry)


def _say_notes(entry: RunEntry) -> None:
    from failguard.cli.output import say, say_labelled

    if not entry.notes:
        say(f"{entry.name or entry.run_id} has no notes. Add one with --lesson or --next.")
        return
    say(f"{entry.name or entry.run_id} of {entry.experiment}")
    replaced = {n.replaces: n for n in entry.notes if n.replaces}
    for found in entry.notes:
        say_labelled(found.kind.replace("_", " "), _described(found, replaced.get(found.id)))


def _described(note: Note, newer: Note | None) -> str:
    from failguard.runs.when import local_text

    who = f"{note.author or 'somebody'}, {local_text(note.written_at)}, {note.id}"
    now = "" if newer is None else ", taken back" if not newer.text else f", now {newer.id}"
    return f"{note.text or f'(takes back {note.replaces})'} ({who}{now})"
