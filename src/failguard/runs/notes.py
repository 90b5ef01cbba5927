"""Writing what people learned onto a run. A note is a tag of its own: two people can write at once."""

from __future__ import annotations

import getpass
import json
import secrets
from datetime import UTC, datetime

from failguard.errors import InputError
from failguard.runs.entry import NOTE_TAG, Note, RunEntry
from failguard.sinks.mlflow_values import MAX_TAG

__all__ = ["KINDS", "new_note", "note_tag", "write_note"]

KINDS = ("lesson", "next_step", "classification")


def new_note(entry: RunEntry, kind: str, text: str, *, author: str | None = None, replaces: str | None = None) -> Note:
    """A note for a run, not yet written.

    Args:
        entry: The run.
        kind: One of :data:`KINDS`.
        text: What is to be kept; ``""`` takes back the note that it replaces.
        author: Who says so; ``None``: the user of this machine.
        replaces: Id of the note that this is a new version of, or the beginning of it.

    Raises:
        InputError: Something of it cannot be used.
    """
    if kind not in KINDS:
        raise InputError(f"The kind {kind!r} cannot be used. It is one of {', '.join(KINDS)}.")
    text = text.strip()
    before = None if replaces is None else _replaced(entry, kind, replaces)
    if not text and before is None:
        raise InputError("The note is empty. Only a new version of a note may be, which takes it back.")
    now = datetime.now(UTC)
    note = Note(
        id=f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}",
        kind=kind,
        text=text,
        author=author or _user(),
        written_at=now,
        replaces=before,
    )
    if len(note_tag(note)[1]) > MAX_TAG:
        raise InputError(
            f"The note is too long: a tag of MLflow holds {MAX_TAG:,} characters with what belongs to it, and this is "
            f"{len(note_tag(note)[1]):,}. Write several, or a file and its place."
        )
    return note


def note_tag(note: Note) -> tuple[str, str]:
    """Name and value of the tag that holds a note.

    Args:
        note: The note.
    """
    values = {"kind": note.kind, "text": note.text, "author": note.author, "written_at": note.written_at.isoformat()}
    if note.replaces:
        values["replaces"] = note.replaces
    return f"{NOTE_TAG}{note.id}", json.dumps(values, ensure_ascii=False)


def write_note(tracking_uri: str, run_id: str, note: Note) -> None:
    """Write a note to its run.

    Args:
        tracking_uri: The store.
        run_id: The run.
        note: The note.

    Raises:
        FailGuardError: The store cannot be written.
    """
    from failguard.sinks.mlflow_read import open_store
    from failguard.sinks.mlflow_session import trouble_named

    client, shown = open_store(run_id, tracking_uri)
    with trouble_named(shown):
        client.set_tag(run_id, *note_tag(note))


def _replaced(entry: RunEntry, kind: str, replaces: str) -> str:
    """The whole id of the note to be replaced, which must be a last version of the same kind."""
    found = [note for note in entry.notes if note.id.startswith(replaces)] if replaces else []
    if len(found) != 1:
        known = ", ".join(note.id for note in entry.notes if note.kind == kind) or "none"
        raise InputError(f"There is no one note {replaces!r} of the run {entry.name!r}. Of this kind it has: {known}.")
    if found[0].kind != kind:
        raise InputError(f"The note {found[0].id} is a {found[0].kind}, and cannot be replaced by a {kind}.")
    newer = next((note for note in entry.notes if note.replaces == found[0].id), None)
    if newer is not None:
        raise InputError(f"The note {found[0].id} was replaced already, by {newer.id}: replace that one.")
    return found[0].id


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a user of that number
        return "unknown"
