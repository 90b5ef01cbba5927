"""A line of work: attempts at one thing, each improving on another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from failguard.runs.compare import Change, changes
from failguard.runs.entry import RunEntry

__all__ = ["Attempt", "lineage", "parent_of"]


_NAMES = ("run_id", "record_id", "name")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a line of work, in its place.

    Attributes:
        entry: The run.
        depth: How many ancestors it has in the line.
        before: The run it is compared with: its parent, else the attempt before it in time; ``None`` for the first.
        has_parent: Whether ``before`` is its parent, as the user named it.
        lost_parent: The parent that it names where no such run is known, else ``""``.
        changes: What differs from ``before`` in the configuration; where no configuration was given, in what the
            adapter read.
        is_last: No other attempt with its parent comes after it.
    """

    entry: RunEntry
    depth: int
    before: RunEntry | None
    has_parent: bool
    lost_parent: str
    changes: tuple[Change, ...]
    is_last: bool = False


def parent_of(entry: RunEntry, entries: Iterable[RunEntry]) -> RunEntry | None:
    """The run that a run improves on, by its MLflow id, the id of its record, or its name where one run has it.

    Args:
        entry: The run.
        entries: Where to look.
    """
    return _found(entry, _known(entries))


def _known(entries: Iterable[RunEntry]) -> dict[tuple[str, str], list[RunEntry]]:
    """Runs by what they can be named with."""
    known: dict[tuple[str, str], list[RunEntry]] = {}
    for entry in entries:
        for kind in _NAMES:
            known.setdefault((kind, getattr(entry, kind)), []).append(entry)
    return known


def _found(entry: RunEntry, known: Mapping[tuple[str, str], list[RunEntry]]) -> RunEntry | None:
    for kind in _NAMES if entry.parent else ():
        found = [e for e in known.get((kind, entry.parent or ""), ()) if e.run_id != entry.run_id]
        if len(found) == 1:
            return found[0]
    return None


def lineage(entries: Sequence[RunEntry]) -> list[Attempt]:
    """The attempts of a line of work, each below its parent, otherwise in the order of time.

    An attempt that names no parent stands at the left and is compared with the one before it in time. Parents that lead
    in a circle are cut at the earliest run of it.

    Args:
        entries: The runs of the line, in any order.
    """
    ordered = sorted(entries, key=lambda e: (e.started_at, e.run_id))
    known = _known(ordered)
    parents = {e.run_id: parent for e in ordered if (parent := _found(e, known)) is not None}
    for entry in ordered:
        _cut_circle(entry, parents)
    children: dict[str, list[RunEntry]] = {}
    for entry in ordered:
        parent = parents.get(entry.run_id)
        children.setdefault("" if parent is None else parent.run_id, []).append(entry)
    before = dict(zip([e.run_id for e in ordered[1:]], ordered, strict=False))
    return list(_below("", 0, children, parents, before))


def _below(
    run_id: str,
    depth: int,
    children: Mapping[str, list[RunEntry]],
    parents: Mapping[str, RunEntry],
    before: Mapping[str, RunEntry],
) -> Iterator[Attempt]:
    stack = [(run_id, depth, iter(children.get(run_id, ())))]  # a line may be longer than Python nests calls
    while stack:
        above, at, rest = stack[-1]
        entry = next(rest, None)
        if entry is None:
            stack.pop()
            continue
        parent = parents.get(entry.run_id)
        base = parent or before.get(entry.run_id)
        lost = entry.parent if entry.parent and parent is None else ""
        found: list[Change] = []
        if base is not None:
            found = changes(base.config, entry.config)
            if not base.config and not entry.config:
                found = changes(base.setup, entry.setup)
        last = children[above][-1] is entry
        yield Attempt(entry, at, base, parent is not None, lost or "", tuple(found), last)
        stack.append((entry.run_id, at + 1, iter(children.get(entry.run_id, ()))))


def _cut_circle(entry: RunEntry, parents: dict[str, RunEntry]) -> None:
    """Take away the parent of a run that is its own ancestor."""
    seen = {entry.run_id}
    at = parents.get(entry.run_id)
    while at is not None:
        if at.run_id == entry.run_id:
            del parents[entry.run_id]
            return
        if at.run_id in seen:
            return
        seen.add(at.run_id)
        at = parents.get(at.run_id)
