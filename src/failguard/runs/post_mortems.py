"""Post-mortems: what happened to a run, why, what went well, and what to do, filled in from facts. Without blame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failguard.errors import FailGuardError
from failguard.report.markdown import markdown_text
from failguard.report.run_report import RunReport
from failguard.report.summary import one_line
from failguard.runs.blameless import Blameless
from failguard.runs.classification import Classification, classify
from failguard.runs.entry import RunEntry
from failguard.runs.lessons import current_notes
from failguard.runs.post_mortem_facts import (
    new_actions,
    new_lessons,
    root_cause,
    similar_failures,
    what_happened,
    what_went_well,
)

if TYPE_CHECKING:
    from failguard.runs.registry import Registry

__all__ = ["HEADINGS", "VERSION", "Item", "PostMortem", "find_report", "plain_line", "post_mortem", "post_mortem_of"]

VERSION = 1

HEADINGS = ("What Happened", "Root Cause", "What Went Well", "Action Items", "Lessons for Team")
"""The sections, as in the source."""

_HINT = """Edit freely, then: failguard postmortem {run_id} --apply THIS_FILE
     Action items and lessons become notes of the run. An item with the mark of a note becomes a new version of it;
     one whose text is removed, leaving its mark, is taken back; a line that is removed leaves its note as it is.
     Classification: productive (it shows that the approach does not work), wasteful (it repeats what was known),
     system (the machine or its surroundings), or undecided."""


@dataclass(frozen=True, slots=True)
class Item:
    """An action item or a lesson.

    Attributes:
        text: One line, without names.
        note_id: The note that it stands for; ``None`` for one that is proposed.
    """

    text: str
    note_id: str | None = None


@dataclass(frozen=True, slots=True)
class PostMortem:
    """A post-mortem.

    Attributes:
        run_id: The run.
        title: Its name.
        classification: What kind of failure it was; ``None`` where nothing failed.
        what_happened, root_cause, what_went_well: Facts, one line each.
        action_items, lessons: What is noted on the run, then what is proposed.
        similar: Ids of earlier failures like it, newest first.
    """

    run_id: str
    title: str
    classification: Classification | None
    what_happened: tuple[str, ...]
    root_cause: tuple[str, ...]
    what_went_well: tuple[str, ...]
    action_items: tuple[Item, ...]
    lessons: tuple[Item, ...]
    similar: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """The post-mortem as Markdown that ``failguard postmortem RUN --apply`` reads back in."""
        return "\n".join(self._lines()).rstrip() + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The post-mortem as values of strict JSON."""
        c = self.classification
        return {
            "run_id": self.run_id,
            "title": self.title,
            "classification": None if c is None else {"kind": c.kind, "reason": c.reason, "is_stated": c.is_stated},
            "what_happened": list(self.what_happened),
            "root_cause": list(self.root_cause),
            "what_went_well": list(self.what_went_well),
            "action_items": [{"text": item.text, "note_id": item.note_id} for item in self.action_items],
            "lessons": [{"text": item.text, "note_id": item.note_id} for item in self.lessons],
            "similar": list(self.similar),
        }

    def _lines(self) -> Iterator[str]:
        yield f"# Post-Mortem: {markdown_text(self.title)}"
        yield ""
        yield f"<!-- failguard post-mortem {VERSION}, run {self.run_id} -->"
        yield f"<!-- {_HINT.format(run_id=self.run_id[:8])} -->"
        if self.classification is not None:
            proposed = "" if self.classification.is_stated else " (proposed)"
            yield ""
            yield f"**Classification**: {self.classification.kind}{proposed}"
            yield f"**Why**: {markdown_text(self.classification.reason)}"
        facts = (self.what_happened, self.root_cause, self.what_went_well)
        for heading, lines in zip(HEADINGS, facts, strict=False):
            yield from ("", f"## {heading}", "")
            yield from (f"- {markdown_text(line)}" for line in lines)
        yield from ("", f"## {HEADINGS[3]}", "")
        yield from (f"{i}. {_marked(item)}" for i, item in enumerate(self.action_items, start=1))
        yield from ("", f"## {HEADINGS[4]}", "")
        yield from (f"- {_marked(item)}" for item in self.lessons)


def post_mortem(
    run_id: str,
    registry: Registry | None = None,
    *,
    record_dir: str | os.PathLike[str] = "failguard_runs",
    classification: Classification | None = None,
) -> PostMortem:
    """The post-mortem of a run, filled in from its record and from earlier runs.

    Args:
        run_id: The run: its id, the beginning of it, or its name.
        registry: Where it is; ``None``: the store that MLflow itself would use.
        record_dir: Where local records are, which hold more than MLflow does.
        classification: What kind of failure it was; ``None``: what is noted on the run, else what is proposed.

    Raises:
        InputError: There is no such run.
        FailGuardError: The store cannot be read.
    """
    if registry is None:
        from failguard.runs.registry import Registry

        registry = Registry()
    entry = registry.get(run_id)
    entries = registry.list(refresh=False)
    return post_mortem_of(entry, entries, find_report(entry, registry, record_dir), classification)


def find_report(entry: RunEntry, registry: Registry, record_dir: str | os.PathLike[str]) -> RunReport | None:
    """The report of a run: of the local record where it is at hand, else from MLflow; ``None`` where there is none."""
    from failguard.sinks.files import find_record, load_record

    if not entry.watched:
        return None
    try:
        found = load_record(find_record(Path(record_dir), entry.record_id)) if entry.record_id else None
        if found is not None and found.run.record_id == entry.record_id:
            return found
    except FailGuardError:
        pass
    try:
        return registry.report(entry.run_id)
    except FailGuardError:
        return None


def post_mortem_of(
    entry: RunEntry,
    entries: Iterable[RunEntry],
    report: RunReport | None = None,
    classification: Classification | None = None,
) -> PostMortem:
    """The post-mortem of an entry: a pure function.

    Args:
        entry: The run.
        entries: Runs to compare with: what failed alike before, and what came after in the same line of work.
        report: The run's report, where there is one.
        classification: See :func:`post_mortem`.
    """
    others = [e for e in entries if e.run_id != entry.run_id]
    similar = similar_failures(entry, others)
    hide = Blameless([entry, *(e for s in similar for e in (s.failure, s.fixed_by) if e is not None)])
    said = classification or classify(entry, others)
    noted_actions = [Item(plain_line(hide(n.text)), n.id) for n in current_notes(entry, ("next_step",))]
    noted_lessons = [Item(plain_line(hide(n.text)), n.id) for n in current_notes(entry, ("lesson",))]
    return PostMortem(
        entry.run_id,
        one_line(hide(entry.name or entry.run_id), 120),
        None if said is None else Classification(said.kind, one_line(hide(said.reason)), said.is_stated),
        _texts(what_happened(entry, report), hide),
        _texts(root_cause(entry, report, similar), hide),
        _texts(what_went_well(entry, report), hide),
        _with_new(noted_actions, _texts(new_actions(entry, report, similar), hide)),
        _with_new(noted_lessons, _texts(new_lessons(entry, report, similar, others), hide)),
        tuple(s.failure.run_id for s in similar),
    )


def plain_line(text: str) -> str:
    """Text of any length as one line without control characters."""
    return one_line(text, max(len(text), 1))


def _with_new(noted: Sequence[Item], proposed: Iterable[str]) -> tuple[Item, ...]:
    """Notes, then proposals that are no notes yet."""
    known = {item.text.casefold() for item in noted}
    return (*noted, *(Item(text) for text in proposed if text.casefold() not in known))


def _texts(lines: Iterable[str], hide: Blameless) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one_line(hide(line), 1_000) for line in lines))


def _marked(item: Item) -> str:
    text = markdown_text(item.text)
    return text if item.note_id is None else f"{text} <!-- note {item.note_id} -->"
