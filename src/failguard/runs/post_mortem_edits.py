"""Reading an edited post-mortem: as a whole, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from failguard.core.redaction import redact_text
from failguard.errors import InputError
from failguard.runs.classification import CLASSES
from failguard.runs.post_mortems import VERSION, plain_line

__all__ = ["EditedItem", "Edits", "read_edits", "read_file"]

MAX_FILE_BYTES = 1_000_000
MAX_ITEMS = 200
MAX_ITEM = 4_000  # characters: with what belongs to it, a note must fit into a tag
UNDECIDED = "undecided"

_SECTIONS = {"action items": "next_step", "lessons for team": "lesson", "lessons": "lesson"}
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(?P<text>.*)$")
_ITEM = re.compile(r"^\s{0,3}(?:[-*+]|\d{1,4}[.)])(?:\s+(?:\[[ xX]\]\s+)?(?P<text>.*))?$")
_HEAD = re.compile(r"<!--\s*failguard post-mortem (?P<version>\d{1,4}), run (?P<run>[0-9A-Za-z_-]{1,64})\s*-->")
_MARK = re.compile(r"<!--\s*note (?P<id>[\w:.+-]{1,100})\s*-->")
_CLASS = re.compile(r"^\s*(?:\*\*)?Classification(?:\*\*)?\s*:(?:\*\*)?(?P<word>.*)$", re.IGNORECASE)
_WHY = re.compile(r"^\s*(?:\*\*)?Why(?:\*\*)?\s*:(?:\*\*)?(?P<text>.*)$", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]<>#|~!&$])")
_CONFLICT = re.compile(r"^(?:<{7}|>{7})(?:\s|$)")
# Stands for a note's mark while other comments are taken out; no text of a file holds it.
_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACE = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")


@dataclass(frozen=True, slots=True)
class EditedItem:
    """An action item or a lesson of the file.

    Attributes:
        kind: ``"lesson"`` or ``"next_step"``.
        text: Its text; ``""`` where it was removed.
        note_id: The note that it is a version of.
        line: Where it is in the file, from 1.
    """

    kind: str
    text: str
    note_id: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Edits:
    """What an edited post-mortem says.

    Attributes:
        run_id: The run it is of.
        items: Action items and lessons, in order.
        classification: ``"productive"``, ``"wasteful"``, ``"system"``; ``None`` where it is undecided or left out.
        reason: Why.
        text: The whole file.
        is_proposed: The classification is the proposal as it was written, not a person's word.
    """

    run_id: str
    items: tuple[EditedItem, ...]
    classification: str | None
    reason: str
    text: str
    is_proposed: bool = False


def read_file(path: Path) -> Edits:
    """Read an edited post-mortem.

    Raises:
        InputError: It cannot be read, or is not understood as a whole; the message names the line and the remedy.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{str(path)!r} is longer than a post-mortem can be ({MAX_FILE_BYTES:,} bytes).")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is no text in UTF-8: save it as such.") from error
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    return read_edits(text)


def read_edits(text: str) -> Edits:
    """Understand an edited post-mortem, as a whole or not at all.

    Raises:
        InputError: It is not understood; the message names the line and the remedy.
    """
    head = _HEAD.search(text)
    if head is None:
        raise InputError(
            "This is no post-mortem of failguard: the line `<!-- failguard post-mortem 1, run ... -->` is missing. "
            "Write one with `failguard postmortem RUN -o FILE` and edit that."
        )
    if int(head["version"]) > VERSION:
        raise InputError("The post-mortem was written by a newer failguard. Update failguard to apply it.")
    if _OPEN in text or _CLOSE in text:
        raise InputError("The file holds characters that no text has (U+E000, U+E001): remove them.")
    lines = _without_comments(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    for i, line in enumerate(lines, start=1):
        if _CONFLICT.match(line):
            _refuse(i, "is the mark of a merge conflict: resolve it")
    word, reason, is_proposed = _classification(lines)
    items = tuple(_items(lines))
    marks = [item.note_id for item in items if item.note_id]
    twice = next((m for m in marks if marks.count(m) > 1), None)
    if twice is not None:
        raise InputError(f"The mark of note {twice} is there twice: leave it on one line only.")
    if len(items) > MAX_ITEMS:
        raise InputError(f"There are {len(items)} items; a post-mortem can hold {MAX_ITEMS}.")
    return Edits(head["run"], items, word, reason, text, is_proposed)


def _without_comments(text: str) -> str:
    """The text with its line numbers and without comments; the marks of notes as one character each side."""
    text = _MARK.sub(lambda m: f"{_OPEN}{m['id']}{_CLOSE}", text)
    kept, at = [], 0
    while (begin := text.find("<!--", at)) >= 0:
        end = text.find("-->", begin + 4)
        if end < 0:
            _refuse(text.count("\n", 0, begin) + 1, "begins a comment that does not end: close it with -->")
        kept += [text[at:begin], "\n" * text.count("\n", begin, end)]
        at = end + 3
    return "".join(kept) + text[at:]


def _classification(lines: list[str]) -> tuple[str | None, str, bool]:
    found = [(i, m) for i, line in enumerate(lines, start=1) if (m := _CLASS.match(line))]
    if len(found) > 1:
        _refuse(found[1][0], "is a second classification: leave one")
    if not found:
        return None, "", False
    i, match = found[0]
    word, mark, _ = match["word"].lower().partition("(proposed)")
    word = word.strip(" \t*_.`")
    if word not in (*CLASSES, UNDECIDED):
        _refuse(i, f"has the classification {word[:40]!r}: it is one of {', '.join(CLASSES)} or {UNDECIDED}")
    why = next((m for line in lines if (m := _WHY.match(line))), None)
    reason = "" if why is None else _plain_text(why["text"])
    if len(reason) > MAX_ITEM:
        _refuse(i, f"has a reason that is longer than {MAX_ITEM:,} characters: shorten it")
    return (None if word == UNDECIDED else word), reason, bool(mark)


def _items(lines: list[str]) -> Iterator[EditedItem]:
    """The items of both sections, which must be there once each."""
    seen: dict[str, int] = {}
    kind: str | None = None
    parts: list[str] = []
    begun = 0

    def item() -> EditedItem:
        assert kind is not None
        return _item(kind, " ".join(parts), begun)

    for i, line in enumerate(lines, start=1):
        heading = _HEADING.match(line)
        if heading or (_ITEM.match(line) and kind is not None):
            if parts:
                yield item()
            parts = []
        if heading:
            kind = _SECTIONS.get(_plain_text(heading["text"]).strip(" *:#").lower())
            if kind is not None and kind in seen:
                _refuse(i, f"is a second section of this name (the first is in line {seen[kind]}): join them")
            if kind is not None:
                seen[kind] = i
        elif kind is not None and (begin := _ITEM.match(line)):
            parts, begun = [begin["text"] or ""], i
        elif kind is not None and line.strip():
            if not parts:
                _refuse(i, "is no item of a list: begin it with `- `, or move it to another section")
            parts.append(line.strip())
    if parts:
        yield item()
    missing = [name for name, k in (("Action Items", "next_step"), ("Lessons for Team", "lesson")) if k not in seen]
    if missing:
        raise InputError(f"The section {missing[0]!r} is missing, as in a file that was cut: put its heading back.")


def _item(kind: str, text: str, line: int) -> EditedItem:
    marks = _PLACE.findall(text)
    if len(marks) > 1:
        _refuse(line, "has the marks of several notes: give each a line of its own")
    plain_text = redact_text(_plain_text(_PLACE.sub(" ", text)))
    if len(plain_text) > MAX_ITEM:
        _refuse(line, f"is longer than {MAX_ITEM:,} characters: make several items of it")
    return EditedItem(kind, plain_text, marks[0] if marks else None, line)


def _plain_text(text: str) -> str:
    """One line without the backslashes that Markdown needs, and without control characters."""
    return plain_line(_ESCAPED.sub(r"\1", text))


def _refuse(line: int, what: str) -> NoReturn:
    raise InputError(f"Line {line} {what}. Nothing was written.")
