"""The local index: what a tracking store holds of its runs, in one sqlite file that answers in milliseconds.

It is a copy that can be made again at any time. Several processes may use one file at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from failguard._version import __version__
from failguard.core.log import logger
from failguard.errors import InputError
from failguard.runs.entry import RunEntry
from failguard.runs.entry_text import entry_from_text, entry_text
from failguard.sinks.store_uri import normalized, store_uri

__all__ = ["RunIndex", "cache_folder", "store_uri"]

WAIT_S = 10.0  # for another process that writes
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TABLES = (
    """CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, experiment_id TEXT NOT NULL, experiment TEXT NOT NULL, name TEXT NOT NULL,
    status TEXT NOT NULL, outcome TEXT, finding TEXT, findings TEXT NOT NULL, cause TEXT, fingerprint TEXT,
    line TEXT NOT NULL, user TEXT NOT NULL, started_ms INTEGER NOT NULL, signature BLOB, entry TEXT NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX runs_started ON runs (started_ms)",
    "CREATE INDEX runs_line ON runs (line, outcome, started_ms)",
    "CREATE INDEX runs_outcome ON runs (outcome, started_ms)",
    "CREATE INDEX runs_fingerprint ON runs (fingerprint) WHERE fingerprint IS NOT NULL",
    "CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
# What is read out of a run changes with failguard: an index that another version made is made again.
_FORMAT = 1 + zlib.crc32(repr((_TABLES, __version__, [f.name for f in fields(RunEntry)])).encode()) % (1 << 30)
_COLUMNS = (
    "run_id", "experiment_id", "experiment", "name", "status", "outcome", "finding", "findings", "cause",
    "fingerprint", "line", "user", "started_ms", "signature", "entry",
)  # fmt: skip
_PUT = f"INSERT OR REPLACE INTO runs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
WRITES = "writes"  # how often anybody wrote
STAMP = "stamp"  # what the store looked like when the index last agreed with it

T = TypeVar("T")


class RunIndex:
    """An index of runs in a file.

    Every call opens the file anew: an index can be used from any thread, after a fork, and pickled. A damaged file is
    made again, empty; the next :meth:`Registry.refresh` fills it.

    Args:
        path: The file. It and its folder are made when missing.

    Raises:
        InputError: The file cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from error
        self._do(lambda connection: None)

    @classmethod
    def for_store(cls, tracking_uri: str) -> RunIndex:
        """The index of a store, in ``FAILGUARD_CACHE_DIR``, else the user's cache folder.

        One file a store and version of failguard, so that two versions do not undo each other's work.

        Args:
            tracking_uri: The store.
        """
        uri = normalized(tracking_uri)
        word = re.sub(r"\W+", "-", uri.rpartition("@")[2].partition("://")[2] or uri).strip("-")[-40:]
        digest = hashlib.sha256(uri.encode()).hexdigest()[:16]
        return cls(cache_folder() / "runs" / f"{word}-{digest}-{__version__}.db")

    def put(self, entries: Iterable[RunEntry]) -> None:
        """Add runs, or take in what became of them. The next refresh looks at them again.

        Args:
            entries: The runs.
        """
        self.apply([(entry, None) for entry in entries], facts={STAMP: ""})

    def remove(self, run_ids: Iterable[str]) -> None:
        """Forget runs.

        Args:
            run_ids: Ids; those that are not there are passed over.
        """
        self.apply([], removed=run_ids, facts={STAMP: ""})

    def apply(
        self,
        changed: Iterable[tuple[RunEntry, bytes | None]],
        removed: Iterable[str] = (),
        facts: Mapping[str, str] | None = None,
        unless_written_since: int | None = None,
    ) -> int:
        """Put, remove and note facts, all or nothing.

        Args:
            changed: Runs with what tells whether the store changed them since, ``None`` where that is not known.
            removed: Ids of runs to forget.
            facts: What to note of the store.
            unless_written_since: Leave the facts unwritten where :attr:`writes` is another by now.

        Returns:
            The number of :attr:`writes` after it.
        """
        rows = [_row(entry, signature) for entry, signature in changed]
        gone = [(run_id,) for run_id in removed]

        def write(connection: sqlite3.Connection) -> int:
            count = int(_fact(connection, WRITES) or 0)
            connection.executemany(_PUT, rows)
            connection.executemany("DELETE FROM runs WHERE run_id = ?", gone)
            noted = dict(facts or {})
            if unless_written_since not in (None, count):
                noted = {STAMP: ""}
            noted[WRITES] = str(count + 1)
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", noted.items())
            return count + 1

        return self._do(write, "BEGIN IMMEDIATE")

    @property
    def writes(self) -> int:
        """How often anybody wrote to the index."""
        return int(self.fact(WRITES) or 0)

    def fact(self, key: str) -> str | None:
        """What was noted of the store under a name."""
        return self._do(lambda connection: _fact(connection, key))

    def signatures(self, run_ids: Iterable[str] | None = None) -> dict[str, bytes | None]:
        """Each run's id with what :meth:`apply` was given for it.

        Args:
            run_ids: Only of these; ``None``: of all.
        """
        query, values = "SELECT run_id, signature FROM runs", []
        if run_ids is not None:
            query, values = f"{query} WHERE run_id IN (SELECT value FROM json_each(?))", [json.dumps(list(run_ids))]
        return self._do(lambda connection: dict(connection.execute(query, values).fetchall()))

    def ids_of(self, experiment_ids: Iterable[str]) -> list[str]:
        """Ids of all runs of some experiments.

        Args:
            experiment_ids: Ids of the experiments.
        """
        query = "SELECT run_id FROM runs WHERE experiment_id IN (SELECT value FROM json_each(?))"
        wanted = json.dumps(list(experiment_ids))
        return [row[0] for row in self._do(lambda connection: connection.execute(query, (wanted,)).fetchall())]

    def ids_between(self, after_ms: int, before_ms: int) -> list[str]:
        """Ids of the runs that started between two times, these left out.

        Args:
            after_ms, before_ms: Milliseconds since 1970.
        """
        query = "SELECT run_id FROM runs WHERE started_ms > ? AND started_ms < ?"
        rows = self._do(lambda connection: connection.execute(query, (after_ms, before_ms)).fetchall())
        return [row[0] for row in rows]

    def experiments(self) -> dict[str, str]:
        """Id and name of every experiment that has runs here."""
        query = "SELECT DISTINCT experiment_id, experiment FROM runs"
        return self._do(lambda connection: dict(connection.execute(query).fetchall()))

    def count(self) -> int:
        """How many runs it holds."""
        return self._do(lambda connection: int(connection.execute("SELECT count(*) FROM runs").fetchone()[0]))

    def entries(
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
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[RunEntry]:
        """Runs, newest first.

        Args:
            experiment: Name of the experiment, or its id.
            status, outcome, cause, fingerprint, line, user: As the entry has them.
            finding: A code among all that were seen at warning or above, the root or not.
            since, until: Started at or after, and before. Without a zone they are local time.
            limit: At most so many.
        """
        where: list[str] = []
        values: list[Any] = []
        exact = {"status": status, "outcome": outcome, "cause": cause, "fingerprint": fingerprint, "line": line,
                 "user": user}  # fmt: skip
        for column, value in exact.items():
            if value is not None:
                where.append(f"{column} = ?")
                values.append(str(value))
        if experiment is not None:
            where.append("(experiment = ? OR experiment_id = ?)")
            values += [experiment, experiment]
        if finding is not None:
            where.append("instr(findings, ?)")
            values.append(f" {finding} ")
        if since is not None:
            where.append("started_ms >= ?")
            values.append(_ms(since))
        if until is not None:
            where.append("started_ms < ?")
            values.append(_ms(until))
        query = f"SELECT entry FROM runs WHERE {' AND '.join(where) or '1'} ORDER BY started_ms DESC, run_id LIMIT ?"
        rows = self._do(
            lambda connection: connection.execute(query, [*values, -1 if limit is None else limit]).fetchall()
        )
        return [entry_from_text(row[0]) for row in rows]

    def get(self, run_id: str) -> RunEntry | None:
        """One run.

        Args:
            run_id: Its whole id.
        """
        found = self.matching("run_id = ?", run_id)
        return found[0] if found else None

    def matching(self, condition: str, *values: str | int) -> list[RunEntry]:
        """Runs by a condition on the columns of the index, newest first.

        Args:
            condition: SQL, with question marks for the values.
            values: The values.
        """
        query = f"SELECT entry FROM runs WHERE {condition} ORDER BY started_ms DESC, run_id"
        return [entry_from_text(row[0]) for row in self._do(lambda c: c.execute(query, values).fetchall())]

    def column(self, name: str) -> list[str]:
        """All values of a column, each once.

        Args:
            name: A column of the index.
        """
        if name not in _COLUMNS:
            raise ValueError(f"The index has no column {name!r}.")
        query = f"SELECT DISTINCT {name} FROM runs WHERE {name} IS NOT NULL"
        return [str(row[0]) for row in self._do(lambda connection: connection.execute(query).fetchall())]

    def _do(self, work: Callable[[sqlite3.Connection], T], begin: str = "BEGIN") -> T:
        try:
            with self._open(begin) as connection:
                return work(connection)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise _unusable(self.path, error) from error
            logger.warning("failguard: the index %s is damaged and is made again", self.path)
        self._discard()
        try:
            with self._open(begin) as connection:
                return work(connection)
        except sqlite3.DatabaseError as error:
            raise _unusable(self.path, error) from error

    @contextmanager
    def _open(self, begin: str) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction: it is written when the block ends, and not at all when it raises."""
        with closing(sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            if _format(connection) != _FORMAT:
                _make_tables(connection)  # new, of another version, or removed by somebody while we work
            connection.execute(begin)
            try:
                yield connection
                if connection.in_transaction:
                    connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            try:
                os.unlink(f"{self.path}{suffix}")
            except FileNotFoundError:
                pass
            except OSError as error:
                raise _unusable(self.path, error) from error


def cache_folder() -> Path:
    """Where failguard keeps what it can make again: ``FAILGUARD_CACHE_DIR``, else the user's cache folder."""
    if os.environ.get("FAILGUARD_CACHE_DIR"):
        return Path(os.environ["FAILGUARD_CACHE_DIR"])
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(base, "failguard", "Cache")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "failguard"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "failguard"


def _make_tables(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
    except sqlite3.OperationalError:
        pass  # another process is at it, or the file system does not allow it
    connection.execute("BEGIN IMMEDIATE")
    if _format(connection) != _FORMAT:  # another process may have been faster
        for name in ("runs", "facts"):
            connection.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
    connection.execute("COMMIT")


def _format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _row(entry: RunEntry, signature: bytes | None) -> tuple[Any, ...]:
    return (
        entry.run_id, entry.experiment_id, entry.experiment, entry.name, str(entry.status),
        None if entry.outcome is None else entry.outcome.value, entry.finding,
        f" {' '.join(dict.fromkeys([*entry.findings, entry.finding or '']))} ", entry.cause, entry.fingerprint,
        entry.line, entry.user, _ms(entry.started_at), signature, entry_text(entry),
    )  # fmt: skip


def _fact(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _unusable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"The index of runs {path} cannot be used: {error}. Set FAILGUARD_CACHE_DIR to a folder that can be written, "
        "or remove the file: it is made again."
    )
