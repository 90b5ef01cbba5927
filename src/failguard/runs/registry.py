"""The registry: every run of an MLflow store, through a local index."""

from __future__ import annotations

import difflib
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from failguard.core.codes import CAUSES, FINDINGS
from failguard.core.finding import Status
from failguard.core.log import logger
from failguard.core.redaction import redact_text
from failguard.errors import FailGuardError, InputError
from failguard.report.outcome import Outcome
from failguard.runs.config_filter import ConfigFilter
from failguard.runs.entry import Note, RunEntry
from failguard.runs.index import RunIndex, store_uri
from failguard.runs.refresh import COMPLETE, REFRESHED, refresh_searched, refresh_sqlite
from failguard.runs.when import ago, moment
from failguard.sinks.store_uri import database_path, normalized

if TYPE_CHECKING:
    from failguard.report.run_report import RunReport
    from failguard.runs.store import RunReader

__all__ = ["Registry"]

RUN_ID = re.compile(r"[0-9a-f]{32}")


class Registry:
    """The runs of an MLflow store.

    Args:
        tracking_uri: The store; ``None``: the one that MLflow itself would use.
        index: The index to keep; ``None``: that of the store, in the user's cache folder.

    Attributes:
        tracking_uri: The store.
        index: Its index.
        trouble: Why the last answer may be out of date, with the age of the index; ``""`` where it is not.

    Example::

        registry = Registry()
        for run in registry.list(experiment="churn", status="failed", since="7d"):
            print(run.name, run.finding, run.cause, run.config.get("lr"))
    """

    def __init__(self, tracking_uri: str | None = None, index: RunIndex | None = None) -> None:
        self.tracking_uri = str(tracking_uri or store_uri())
        self.index = index if index is not None else RunIndex.for_store(self.tracking_uri)
        self.trouble = ""
        self._reader: RunReader | None = None

    def refresh(
        self,
        *,
        full: bool = False,
        limit_s: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Bring the index up to date: new and changed runs, deleted and restored ones.

        An sqlite store is compared as a whole. Another store is asked for what is new and what was running, and is
        looked over in turns, see ``docs/howto/registry.md``.

        Args:
            full: Look at every run.
            limit_s: For a store that is looked over in turns: spend about so many seconds on it.
            progress: Called with the number of runs that were read so far.

        Returns:
            How many runs were added, changed or removed.

        Raises:
            FailGuardError: The store cannot be read.
        """
        database = database_path(self.tracking_uri)
        if database is not None:
            from failguard.runs.store_sqlite import SqliteStore

            try:
                if not database.exists():
                    return self._forget_all()
                return refresh_sqlite(self.index, SqliteStore(database), full=full, progress=progress)
            except (sqlite3.Error, OSError) as error:
                # A table that MLflow made otherwise, a journal to be rolled back: MLflow knows.
                logger.debug("failguard: %s is read through MLflow: %s", database, error)
        return refresh_searched(self.index, self._store(), full=full, limit_s=limit_s, progress=progress)

    def list(
        self,
        *,
        experiment: str | None = None,
        status: str | None = None,
        outcome: str | None = None,
        finding: str | None = None,
        cause: str | None = None,
        fingerprint: str | None = None,
        line: str | None = None,
        user: str | None = None,
        config: Mapping[str, Any] | Sequence[str] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        limit: int | None = None,
        refresh: bool = True,
    ) -> list[RunEntry]:
        """Runs, newest first.

        Args:
            experiment: Name or id of an experiment.
            status: ``"running"``, ``"completed"``, ``"stopped"``, ``"recovered"``, ``"failed"`` or ``"interrupted"``.
            outcome: ``"success"``, ``"partial"`` or ``"failure"``.
            finding: Code of a finding that was seen at warning or above.
            cause: Code of the likely cause.
            fingerprint: Identity of the failure.
            line: The line of work.
            user: Who started it.
            config: Values of the configuration: ``{"lr": 0.1}``, or ``["lr>=0.1", "optimizer=adam", "width!=64"]``.
            since, until: When it started: a ``datetime`` (local time where it has no zone), a date or a time in
                ISO 8601, or how long ago: ``"7d"``, ``"12h"``, ``"30min"``, ``"2w"``. ``until`` a date includes it.
            limit: At most so many.
            refresh: Bring the index up to date first. Where the store does not answer, the index does, with a warning.

        Raises:
            InputError: There is no such experiment, or a filter cannot be understood.
            FailGuardError: The store does not answer, and the index has never been filled.
        """
        if limit is not None and limit < 0:
            raise InputError(f"limit={limit} cannot be used: it takes a number of runs, 0 or more.")
        chosen = ConfigFilter.of(config)
        now = datetime.now(UTC)
        first, last = moment(since, now), moment(until, now, is_end=True)
        self._one_of("status", status, [s.value for s in Status])
        self._one_of("outcome", outcome, [o.value for o in Outcome])
        if refresh:
            self._refresh_with_a_word()
        if experiment is not None:
            self._known_experiment(experiment)
        self._known_code("finding", finding, FINDINGS)
        self._known_code("cause", cause, CAUSES)
        found = self.index.entries(
            experiment=experiment, status=status, outcome=outcome, finding=finding, cause=cause,
            fingerprint=fingerprint, line=line, user=user, since=first, until=last,
            limit=None if chosen else limit,
        )  # fmt: skip
        if chosen:
            found = [entry for entry in found if chosen.accepts(entry)]
        return found if limit is None else found[:limit]

    def get(self, run_id: str, *, refresh: bool = True) -> RunEntry:
        """One run, as the store has it now.

        Args:
            run_id: Its id or the beginning of it, or its name where one run has it.
            refresh: Bring the index up to date first.

        Raises:
            InputError: There is no such run, or there are several; the message names them or near ones.
            FailGuardError: The store does not answer, and the index has never been filled.
        """
        wanted = run_id.strip()
        if not wanted:
            raise InputError("No run is named. Give its id, the beginning of it, or its name.")
        if refresh:
            self._refresh_with_a_word()
        found = self.index.matching("run_id = ?", wanted)
        if not found and re.fullmatch(r"[0-9a-f]{4,31}", wanted):
            found = self.index.matching("run_id GLOB ?", f"{wanted}*")
        found = found or self.index.matching("name = ?", wanted)
        if len(found) > 1:
            some = ", ".join(f"{e.run_id} ({e.name}, {e.experiment})" for e in found[:5])
            raise InputError(f"{len(found)} runs are meant by {run_id!r}. Give the id of one: {some}.")
        entry = found[0] if found else None
        if refresh and not self.trouble and (entry is not None or RUN_ID.fullmatch(wanted)):
            entry = self._as_it_is(wanted if entry is None else entry.run_id, entry)
        if entry is None:
            raise InputError(f"There is no run {run_id!r} in the MLflow store {self.shown}.{self._near_runs(wanted)}")
        return entry

    def add_note(
        self, run_id: str, kind: str, text: str, *, author: str | None = None, replaces: str | None = None
    ) -> Note:
        """Add a lesson, a next step or a classification to a run. It is kept in the store, as a tag of the run.

        Args:
            run_id: The run, as :meth:`get` takes it.
            kind: ``"lesson"``, ``"next_step"`` or ``"classification"``.
            text: What is to be kept; ``""`` takes back the note that it replaces.
            author: Who says so; ``None``: the user of this machine, as for MLflow's own runs.
            replaces: Id of the note that this is a new version of.

        Raises:
            InputError: The kind, the text or the note to be replaced cannot be used, or there is no such run.
            FailGuardError: The store cannot be written.
        """
        from failguard.runs.notes import new_note, write_note

        entry = self.get(run_id)
        note = new_note(entry, kind, text, author=author, replaces=replaces)
        write_note(self.tracking_uri, entry.run_id, note)
        changed = self._as_it_is(entry.run_id, None)
        if changed is not None:
            self.index.put([changed])
        return note

    def report(self, run_id: str) -> RunReport:
        """The report of a run, from what is in the store.

        Args:
            run_id: The run, as :meth:`get` takes it.

        Raises:
            InputError: There is no such run, or failguard did not watch it.
        """
        from failguard.sinks.mlflow_read import read_report

        return read_report(self.get(run_id).run_id, self.tracking_uri)

    def experiments(self) -> tuple[str, ...]:
        """Names of the experiments that have runs, in order."""
        return tuple(sorted(set(self.index.experiments().values())))

    @property
    def shown(self) -> str:
        """The store's address without user info."""
        return redact_text(normalized(self.tracking_uri))

    @property
    def refreshed_at(self) -> datetime | None:
        """When the index last heard from the store; ``None``: never."""
        text = self.index.fact(REFRESHED)
        return datetime.fromisoformat(text) if text else None

    def _store(self) -> RunReader:
        if self._reader is None:
            from failguard.runs.store import reader_for

            self._reader = reader_for(self.tracking_uri)
        return self._reader

    def try_refresh(
        self, *, full: bool = False, limit_s: float | None = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Refresh; where the store cannot be read, say so in :attr:`trouble` and go on with what the index has.

        Args:
            full, limit_s, progress: As :meth:`refresh` takes them.

        Raises:
            FailGuardError: The store cannot be read, and the index never held all of it.
        """
        self.trouble = ""
        try:
            self.refresh(full=full, limit_s=limit_s, progress=progress)
            return
        except FailGuardError as error:
            reason: FailGuardError = error
        except OSError as error:
            reason = FailGuardError(f"The MLflow store {self.shown} cannot be read: {error}.")
        if self.index.fact(COMPLETE) is None:
            raise reason
        self._reader = None
        self.trouble = f"{reason} What follows is what was known {ago(self.refreshed_at)}."

    def _refresh_with_a_word(self) -> None:
        self.try_refresh()
        if self.trouble:
            logger.warning("failguard: %s", self.trouble)

    def _as_it_is(self, run_id: str, known: RunEntry | None) -> RunEntry | None:
        """The run as the store has it at this moment."""
        database = database_path(self.tracking_uri)
        if database is not None:
            from failguard.runs.store_sqlite import SqliteStore

            try:
                return next((e for page in SqliteStore(database).read([run_id]) for e in page), None)
            except (sqlite3.Error, OSError):
                return known
        entry = self._store().run(run_id)
        if entry is not None:
            self.index.put([entry])
        elif known is not None:
            self.index.remove([run_id])
        return entry

    def _forget_all(self) -> int:
        """The database is not there: no run is."""
        gone = list(self.index.signatures())
        if gone or self.index.fact(REFRESHED) is None:
            now = datetime.now(UTC).isoformat()
            self.index.apply([], removed=gone, facts={REFRESHED: now, COMPLETE: now, "stamp": ""})
        return len(gone)

    def _known_experiment(self, experiment: str) -> None:
        known = self.index.experiments()
        if experiment in known or experiment in known.values():
            return
        names = sorted(set(known.values()))
        if not names:
            raise InputError(f"There is no experiment {experiment!r}: the MLflow store {self.shown} has no runs.")
        near = _near(experiment, names)
        hint = f"Near ones are {near}." if near else f"There are {', '.join(names[:10])}."
        raise InputError(f"There is no experiment {experiment!r} with runs in the MLflow store {self.shown}. {hint}")

    def _known_code(self, kind: str, code: str | None, vocabulary: Iterable[str]) -> None:
        """Codes of detectors that users wrote are none of the vocabulary, but then the index has them."""
        if code is None or code in vocabulary:
            return
        column = "findings" if kind == "finding" else kind
        seen = {word for value in self.index.column(column) for word in value.split()}
        if code in seen:
            return
        near = _near(code, [*vocabulary, *seen])
        hint = f"Near ones are {near}. " if near else ""
        raise InputError(f"There is no {kind} {code!r}. {hint}`failguard explain` lists them.")

    def _one_of(self, name: str, value: str | None, allowed: Sequence[str]) -> None:
        if value is not None and value not in allowed:
            raise InputError(f"{name}={str(value)!r} cannot be used. It is one of {', '.join(allowed)}.")

    def _near_runs(self, wanted: str) -> str:
        if os.path.sep in wanted or not self.index.count():
            return "" if self.index.count() else " It has no runs."
        near = _near(wanted, self.index.column("name"), cutoff=0.5)  # names are short
        return f" Near ones are {near}." if near else " `failguard runs list` shows what there is."


def _near(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    lower = {w.lower(): w for w in words}
    near = difflib.get_close_matches(word.lower(), list(lower), n=3, cutoff=cutoff)
    near += [w for w in lower if word.lower() in w and w not in near][: 3 - len(near)]
    return ", ".join(lower[w] for w in near)
