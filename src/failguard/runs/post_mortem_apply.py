"""Applying an edited post-mortem: lessons, action items and classification become notes of the run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failguard.core.redaction import redact_text
from failguard.errors import InputError
from failguard.runs.blameless import Blameless
from failguard.runs.classification import CLASSES, stated
from failguard.runs.entry import Note, RunEntry
from failguard.runs.lessons import current_notes
from failguard.runs.post_mortem_edits import EditedItem, Edits
from failguard.runs.post_mortems import plain_line

if TYPE_CHECKING:
    from failguard.runs.registry import Registry

__all__ = ["ARTIFACT", "Applied", "NewNote", "apply_edits", "notes_to_write", "state_kind"]

ARTIFACT = "failguard/post_mortem.md"


@dataclass(frozen=True, slots=True)
class NewNote:
    """A note to be written. ``text`` is ``""`` where the note ``replaces`` is taken back."""

    kind: str
    text: str
    replaces: str | None = None


@dataclass(slots=True)
class Applied:
    """What was done with a file.

    Attributes:
        written: The notes that were written.
        unchanged: How many items were on the run already.
        kept: Name under which the file before is kept; ``""`` where there was none, or it was the same.
    """

    written: list[Note] = field(default_factory=list)
    unchanged: int = 0
    kept: str = ""


def notes_to_write(edits: Edits, entry: RunEntry) -> list[NewNote]:
    """The notes that a run lacks of what a file says: none the second time.

    Args:
        edits: The file.
        entry: The run, as it is now.

    Raises:
        InputError: The file is of another run, or marks a note that the run does not have.
    """
    if edits.run_id != entry.run_id:
        raise InputError(
            f"The post-mortem is of run {edits.run_id[:12]}, not of {entry.run_id[:12]}. Nothing was written."
        )
    found: list[NewNote] = []
    hide = Blameless([entry])
    for kind in ("next_step", "lesson"):
        known = {_key(t) for n in current_notes(entry, (kind,)) for t in (n.text, hide(n.text))}
        for item in (i for i in edits.items if i.kind == kind):
            if item.note_id is not None:
                found += _new_version(item, item.note_id, entry, hide)
            elif item.text and _key(item.text) not in known:
                known.add(_key(item.text))
                found.append(NewNote(kind, item.text))
    if edits.classification is not None and not (edits.is_proposed and stated(entry)):
        found += _new_class(edits.classification, edits.reason, entry)
    return found


def apply_edits(edits: Edits, registry: Registry, run_id: str | None = None, *, author: str | None = None) -> Applied:
    """Write what a file says to its run: the file as an artifact first, then the notes that the run lacks.

    The second time nothing is written. A file that was stored before and says something else is kept under a number.

    Args:
        edits: The file.
        registry: Where the run is.
        run_id: The run that the user named; ``None``: that of the file.
        author: Who says so; ``None``: the user of this machine.

    Raises:
        InputError: It does not fit the run; nothing was written.
        FailGuardError: The store cannot be written.
    """
    entry = registry.get(run_id or edits.run_id)
    notes = notes_to_write(edits, entry)
    applied = Applied(unchanged=len(edits.items) - sum(note.kind != "classification" for note in notes))
    applied.kept = _store(edits.text, entry.run_id, registry.tracking_uri)
    for note in notes:
        written = registry.add_note(entry.run_id, note.kind, note.text, author=author, replaces=note.replaces)
        applied.written.append(written)
    return applied


def state_kind(registry: Registry, run_id: str, kind: str) -> Note | None:
    """Note on a run what kind of failure it was, as a person says.

    Args:
        registry: Where the run is.
        run_id: The run.
        kind: ``"productive"``, ``"wasteful"`` or ``"system"``.

    Returns:
        The note; ``None`` where the run says so already.

    Raises:
        InputError: There is no such run, or no such kind.
        FailGuardError: The store cannot be written.
    """
    if kind not in CLASSES:
        raise InputError(f"The kind {kind!r} cannot be used. It is one of {', '.join(CLASSES)}.")
    entry = registry.get(run_id)
    for note in _new_class(kind, "", entry):
        return registry.add_note(entry.run_id, note.kind, note.text, replaces=note.replaces)
    return None


def _new_version(item: EditedItem, note_id: str, entry: RunEntry, hide: Blameless) -> Iterator[NewNote]:
    """A new version of the newest version of a marked note, where the text was edited."""
    notes = {note.id: note for note in entry.notes if note.kind == item.kind}
    if note_id not in notes:
        raise InputError(
            f"Line {item.line} has the mark of note {note_id}, which is none of the run's in this section: remove the "
            "mark. Nothing was written."
        )
    marked = newest = notes[note_id]
    if _key(item.text) in (_key(marked.text), _key(hide(marked.text))):
        return  # not edited; others may have written newer versions since, which stay
    for _ in notes:  # a chain of versions, and no more than there are notes if it should bite its tail
        newer = next((n for n in notes.values() if n.replaces == newest.id), None)
        if newer is None:
            break
        newest = newer
    if _key(item.text) not in (_key(newest.text), _key(hide(newest.text))):
        yield NewNote(item.kind, item.text, newest.id)


def _new_class(kind: str, reason: str, entry: RunEntry) -> Iterator[NewNote]:
    said = stated(entry)
    known = () if said is None else ("", _key(said.reason), _key(Blameless([entry])(said.reason)))
    if said is not None and said.kind == kind and _key(reason) in known:
        return
    before = current_notes(entry, ("classification",))
    yield NewNote("classification", f"{kind}: {reason}" if reason else kind, before[-1].id if before else None)


def _key(text: str) -> str:
    return plain_line(text).casefold()


def _store(text: str, run_id: str, tracking_uri: str) -> str:
    """Store the file with its run; what was stored before under its name gets a number.

    Returns:
        The name under which the one before is kept, ``""`` where there was none or it is the same.
    """
    from failguard.sinks.mlflow_read import open_store
    from failguard.sinks.mlflow_session import trouble_named

    client, shown = open_store(run_id, tracking_uri)
    content, kept = redact_text(text).encode("utf-8", "replace"), ""
    with trouble_named(shown), tempfile.TemporaryDirectory(prefix="failguard_") as folder:
        names = {a.path for a in client.list_artifacts(run_id, "failguard")}
        if ARTIFACT in names:
            before = Path(client.download_artifacts(run_id, ARTIFACT, folder)).read_bytes()
            if before == content:
                return ""
            n = 1
            while (kept := f"failguard/post_mortem_{n}.md") in names:
                n += 1
            _upload(client, run_id, kept, before, Path(folder))
        _upload(client, run_id, ARTIFACT, content, Path(folder))
    return kept


def _upload(client: Any, run_id: str, name: str, content: bytes, folder: Path) -> None:
    path = folder / "new" / Path(name).name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    client.log_artifact(run_id, str(path), "failguard")
