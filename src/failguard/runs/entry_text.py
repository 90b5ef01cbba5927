"""A run as the text that the index keeps, and back. Only what differs from the defaults is written."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from datetime import UTC, datetime
from typing import Any

from failguard.report.outcome import Outcome
from failguard.report.plain import from_plain, plain
from failguard.runs.entry import Note, RunEntry

__all__ = ["entry_from_text", "entry_text"]

_TIMES = ("started_at", "ended_at", "heard_at")
_DEFAULTS = {
    field.name: field.default_factory() if field.default_factory is not MISSING else field.default
    for field in fields(RunEntry)
}


def entry_text(entry: RunEntry) -> str:
    """The entry as JSON. NaN and infinities are written as Python's JSON has them.

    Args:
        entry: The run.
    """
    values = {name: value for name in _DEFAULTS if (value := getattr(entry, name)) != _DEFAULTS[name]}
    for name in _TIMES:
        if values.get(name) is not None:
            values[name] = values[name].timestamp()
    if "outcome" in values:
        values["outcome"] = values["outcome"].value
    for name in ("config", "setup", "metrics", "tags"):
        if name in values:
            values[name] = dict(values[name])
    if "notes" in values:
        values["notes"] = [{**asdict(note), "written_at": note.written_at.timestamp()} for note in entry.notes]
    try:
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        # A value that is none of JSON's: an array, a callable, a dict with keys of many kinds.
        return json.dumps(from_plain(plain(values)), ensure_ascii=False, separators=(",", ":"))


def entry_from_text(text: str) -> RunEntry:
    """The inverse of :func:`entry_text`.

    Args:
        text: Its result.
    """
    values: dict[str, Any] = json.loads(text)
    for name in _TIMES:
        if values.get(name) is not None:
            values[name] = datetime.fromtimestamp(values[name], UTC)
    if "outcome" in values:
        values["outcome"] = Outcome(values["outcome"])
    if "findings" in values:
        values["findings"] = tuple(values["findings"])
    if "notes" in values:
        values["notes"] = tuple(
            Note(**{**note, "written_at": datetime.fromtimestamp(note["written_at"], UTC)}) for note in values["notes"]
        )
    return RunEntry(**values)
