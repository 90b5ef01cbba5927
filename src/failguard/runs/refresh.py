"""Bringing the index up to date with its store.

An sqlite store is compared as a whole, each time that its file has changed: nothing is missed. Any other store is asked
what it can be asked: MLflow notes no time of change of a run, so that the newest, the running and the just ended runs
are looked at each time, and the rest in turns.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING

from failguard.runs.entry import RunEntry
from failguard.runs.entry_text import entry_text
from failguard.runs.index import STAMP, RunIndex
from failguard.runs.store import Experiment, RunReader, by_ids

if TYPE_CHECKING:
    from failguard.runs.store_sqlite import SqliteStore

__all__ = ["COMPLETE", "REFRESHED", "refresh_searched", "refresh_sqlite"]

REFRESHED = "refreshed_at"  # when the index last heard from its store, ISO 8601
COMPLETE = "complete_at"  # when every run had last been looked at
EXPERIMENTS = "experiments"  # of a searched store: id to name and time of making
CURSOR = "cursor"  # start time in ms down to which the present turn has looked, "" at its beginning
TURN_BEGAN = "turn_began_at"

RECENT = 50  # of the newest runs are always looked at
RUNNING = 200  # of the newest runs that are said to be running
TURN = 100  # runs of a page while the rest is looked at in turns
EVERY = timedelta(hours=24)  # a turn may take so long before all runs are read at once
OVERLAP = timedelta(minutes=10)  # clocks of the machines that write differ

Progress = Callable[[int], None]


def refresh_sqlite(index: RunIndex, store: SqliteStore, *, full: bool = False, progress: Progress | None = None) -> int:
    """Make an index agree with an sqlite store.

    Args:
        index: The index.
        store: The store.
        full: Read every run again.
        progress: Called with the number of runs that were read so far.

    Returns:
        How many runs were added, changed or removed.

    Raises:
        sqlite3.Error: The database is not as expected.
        InputError: The index cannot be used.
    """
    stamp = store.stamp()  # before anything is read: what is written meanwhile is seen next time
    now = datetime.now(UTC).isoformat()
    if index.fact(STAMP) == stamp and not full:
        return 0
    writes = index.writes
    known = index.signatures()
    found = store.signatures()
    wanted = [run_id for run_id, signature in found.items() if known.get(run_id) != signature]
    read = 0
    for page in store.read(list(found) if full else wanted):
        read += len(page)
        writes = _next(index, writes, [(entry, found[entry.run_id]) for entry in page])
        if progress is not None:
            progress(read)
    gone = known.keys() - found.keys()
    facts = {STAMP: stamp, REFRESHED: now, COMPLETE: now}
    index.apply([], removed=gone, facts=facts, unless_written_since=writes)
    return len(wanted) + len(gone)


def _next(index: RunIndex, writes: int, changed: Iterable[tuple[RunEntry, bytes | None]]) -> int:
    """Write a page. ``-1`` once another process has written since we began: ours may be the older reading."""
    after = index.apply(changed)
    return after if writes >= 0 and after == writes + 1 else -1


@dataclass(slots=True)
class _Changes:
    """Counts, and writes as it goes, so that what was read is not lost when the rest cannot be."""

    index: RunIndex
    progress: Progress | None
    read: int = 0
    changed: int = 0

    def take(self, page: list[RunEntry], removed: Iterable[str] = ()) -> None:
        self.read += len(page)
        known = self.index.signatures([entry.run_id for entry in page])
        signed = [(entry, blake2b(entry_text(entry).encode(), digest_size=12).digest()) for entry in page]
        new = [(entry, signature) for entry, signature in signed if known.get(entry.run_id) != signature]
        gone = list(removed)
        if new or gone:
            self.index.apply(new, removed=gone)
        self.changed += len(new) + len(gone)
        if self.progress is not None:
            self.progress(self.read)


def refresh_searched(
    index: RunIndex,
    reader: RunReader,
    *,
    full: bool = False,
    limit_s: float | None = None,
    progress: Progress | None = None,
) -> int:
    """Bring an index up to date with a store that can only be searched.

    Looked at each time: deleted, restored, renamed and new experiments; new runs; the newest 50 runs; runs that were
    running; runs that ended since. What was edited or deleted among older runs, or was added with an old date, is seen
    when its turn comes: each refresh reads at least one page more of the rest, and starts over at the end.

    Args:
        index: The index.
        reader: The store.
        full: Look at every run.
        limit_s: Spend at most about so many seconds on runs whose turn it is; ``None``: look at every run when the
            last whole turn is more than a day ago.
        progress: Called with the number of runs that were read so far.

    Returns:
        How many runs were added, changed or removed.
    """
    began = datetime.now(UTC)
    started_s = monotonic()
    experiments = reader.experiments()
    changes = _Changes(index, progress)
    complete_at, refreshed_at = _time(index.fact(COMPLETE)), _time(index.fact(REFRESHED))
    due = complete_at is None or refreshed_at is None or (limit_s is None and began - complete_at > EVERY)
    if full or due:
        _read_all(changes, reader, list(experiments.values()), None)
        facts = {COMPLETE: began.isoformat(), CURSOR: "", TURN_BEGAN: began.isoformat()}
    else:
        assert refreshed_at is not None
        kept = _changed_experiments(changes, reader, experiments)
        _newest(changes, reader, kept)
        _running_and_ended(changes, reader, kept, refreshed_at)
        facts = _turn(changes, reader, kept, began, None if limit_s is None else started_s + limit_s)
    names = {e.id: (e.name, e.created_ms) for e in experiments.values()}
    index.apply([], facts={**facts, REFRESHED: began.isoformat(), EXPERIMENTS: repr(sorted(names.items()))})
    return changes.changed


def _read_all(changes: _Changes, reader: RunReader, experiments: list[Experiment], only: set[str] | None) -> None:
    """Every run of some experiments; what else the index has of them is gone from the store.

    Args:
        changes: Takes the runs.
        reader: The store.
        experiments: The experiments to read.
        only: Ids of the experiments whose runs may be removed; ``None``: any.
    """
    seen: set[str] = set()
    # Looked up first: what others add meanwhile is not ours to remove.
    known = set(changes.index.signatures()) if only is None else set(changes.index.ids_of(only))
    for page in reader.pages(experiments):
        seen.update(entry.run_id for entry in page)
        changes.take(page)
    changes.take([], removed=known - seen)


def _changed_experiments(
    changes: _Changes, reader: RunReader, experiments: Mapping[str, Experiment]
) -> list[Experiment]:
    """Read experiments that are new, renamed, restored or made anew; forget those that were deleted."""
    index = changes.index
    known: dict[str, tuple[str, int]] = dict(literal_eval(index.fact(EXPERIMENTS) or "[]"))
    changes.take([], removed=index.ids_of(i for i in index.experiments() if i not in experiments))
    other = [e for e in experiments.values() if known.get(e.id) != (e.name, e.created_ms)]
    if other:
        _read_all(changes, reader, other, {e.id for e in other})
    return list(experiments.values())


def _newest(changes: _Changes, reader: RunReader, experiments: list[Experiment]) -> None:
    """New runs and the newest: pages until one reaches back before the newest that was known."""
    rows = changes.index.entries(limit=1)
    newest_ms = _ms(rows[0].started_at) if rows else 0
    newest_ms -= round(OVERLAP.total_seconds() * 1000)
    until_ms: int | None = None
    for page in reader.pages(experiments, page=RECENT):
        oldest_ms = _ms(page[-1].started_at) if len(page) == RECENT else None
        _window(changes, page, oldest_ms, until_ms)
        until_ms = oldest_ms
        if oldest_ms is None or oldest_ms < newest_ms:
            return


def _window(changes: _Changes, page: list[RunEntry], oldest_ms: int | None, until_ms: int | None) -> None:
    """Take a page that holds all runs between two times; those that the index has beside them are gone.

    Args:
        changes: Takes the runs.
        page: The page.
        oldest_ms: Start of its last run, which others may share; ``None``: the store holds none that is older.
        until_ms: Where the page before it ended; ``None``: at the newest.
    """
    # Runs without a start stand at 0. Not every search finds them, so that they are never missed here.
    known = changes.index.ids_between(oldest_ms or 0, 1 << 62 if until_ms is None else until_ms)
    changes.take(page, removed=set(known) - {e.run_id for e in page})


def _running_and_ended(
    changes: _Changes, reader: RunReader, experiments: list[Experiment], refreshed_at: datetime
) -> None:
    """Runs that were running, by their ids, and those that ended since the index last heard from the store."""
    running = [e.run_id for e in changes.index.entries(status="running", limit=RUNNING)]
    found: set[str] = set()
    for page in by_ids(running, lambda condition: reader.pages(experiments, condition, page=TURN)):
        found.update(e.run_id for e in page)
        changes.take(page)
    changes.take([], removed=set(running) - found)
    since_ms = _ms(refreshed_at - OVERLAP)
    for page in reader.pages(experiments, f"attributes.end_time >= {since_ms}", page=TURN):
        changes.take(page)


def _turn(
    changes: _Changes, reader: RunReader, experiments: list[Experiment], began: datetime, until_s: float | None
) -> dict[str, str]:
    """Look at some of the older runs, from where the last refresh ended. At least one page.

    Returns:
        The facts to note.
    """
    cursor = changes.index.fact(CURSOR)
    turn_began = changes.index.fact(TURN_BEGAN) or began.isoformat()
    condition = f"attributes.start_time <= {cursor}" if cursor else ""
    if not cursor:
        turn_began = began.isoformat()
    until_ms = int(cursor) + 1 if cursor else None
    for page in reader.pages(experiments, condition, page=TURN):
        oldest_ms = _ms(page[-1].started_at) if len(page) == TURN else None
        _window(changes, page, oldest_ms, until_ms)
        until_ms = oldest_ms
        if oldest_ms is None:
            return {CURSOR: "", COMPLETE: turn_began, TURN_BEGAN: ""}
        # A cursor that does not move would never end: many runs may share a start.
        if str(oldest_ms) != cursor and (until_s is None or monotonic() >= until_s):
            return {CURSOR: str(oldest_ms), TURN_BEGAN: turn_began}
    return {CURSOR: "", COMPLETE: turn_began, TURN_BEGAN: ""}


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
