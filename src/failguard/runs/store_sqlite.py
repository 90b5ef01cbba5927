"""Reading an sqlite store of MLflow's directly: what changed, to the last tag, in a fraction of a second.

MLflow notes no time of change of a run. In the tables every run can be compared at once. Nothing is written, and no
question holds the file for long: whoever trains writes to it at the same time.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from failguard.runs.entry import RunEntry, entry_from_values

__all__ = ["SqliteStore"]

PAGE = 1_000
WAIT_S = 5.0
HEADER = slice(0, 100)  # of the database file: holds a counter that each change advances
SHARED_HEADER = 96  # of the -shm file, which does the same in WAL mode
_ACTIVE = (
    "FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
    "WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"
)
_SIGNED = (
    f"SELECT r.run_uuid, e.name, r.experiment_id, r.name, r.status, r.start_time, r.end_time {_ACTIVE}",
    "SELECT run_uuid, group_concat(key || char(31) || coalesce(value, '') , char(30)) FROM tags GROUP BY run_uuid",
    "SELECT run_uuid, count(*), sum(length(value)) FROM params GROUP BY run_uuid",
    "SELECT run_uuid, count(*), sum(value), sum(is_nan), sum(timestamp), sum(step) FROM latest_metrics "
    "GROUP BY run_uuid",
)
TAGS = 1  # which of these asks for them


class SqliteStore:
    """The tables of an sqlite store.

    Args:
        path: The database.

    Each method raises ``sqlite3.Error`` where the tables are not as expected, or the file cannot be read: ask MLflow.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> str:
        """What the files look like. Another stamp: something was written."""
        parts: list[str] = []
        for suffix, length in (("", HEADER.stop), ("-wal", 32), ("-shm", SHARED_HEADER)):
            with suppress(FileNotFoundError):
                path = f"{self.path}{suffix}"
                with open(path, "rb") as file:
                    found = os.fstat(file.fileno())
                    parts.append(f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {file.read(length).hex()}")
        return sha256("\n".join(parts).encode()).hexdigest()

    def signatures(self) -> dict[str, bytes]:
        """Each active run's id with a digest of its state, tags, params and last metrics."""
        answers: list[list[tuple[Any, ...]] | BaseException] = [[]] * len(_SIGNED)

        def ask(*numbers: int) -> None:
            for number in numbers:
                try:
                    with closing(self._open()) as connection:
                        connection.text_factory = bytes
                        # All at once: a question that is read slowly would hold up whoever writes.
                        answers[number] = connection.execute(_SIGNED[number]).fetchall()
                except sqlite3.Error as error:
                    answers[number] = error

        # The tags are half of the work, and sqlite lets go of Python meanwhile.
        other = threading.Thread(target=ask, args=(TAGS,))
        other.start()
        ask(0, 2, 3)
        other.join()
        parts: dict[bytes, list[bytes]] = {}
        for number, answer in enumerate(answers):
            if isinstance(answer, BaseException):
                raise answer
            for run_id, *values in answer:
                if number == 0:
                    parts[run_id] = []
                if run_id in parts:
                    # The tags are long, and bytes already.
                    parts[run_id].append(values[0] if number == TAGS else repr((number, values)).encode())
        return {i.decode(): blake2b(b"\0".join(p), digest_size=12).digest() for i, p in parts.items()}

    def read(self, run_ids: Sequence[str]) -> Iterator[list[RunEntry]]:
        """Runs by their ids, in pages. Those that are gone by now are left out.

        Args:
            run_ids: The ids.
        """
        with closing(self._open()) as connection:
            for i in range(0, len(run_ids), PAGE):
                ids = json.dumps(run_ids[i : i + PAGE])
                try:
                    page = _page(connection, ids)
                except sqlite3.OperationalError as error:
                    if "decode" not in str(error).lower():
                        raise
                    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
                    page = _page(connection, ids)
                yield page

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=WAIT_S)


def _page(connection: sqlite3.Connection, ids: str) -> list[RunEntry]:
    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query, (ids,)).fetchall()

    chosen = "IN (SELECT value FROM json_each(?))"
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for run_id, key, value in rows(f"SELECT run_uuid, key, value FROM tags WHERE run_uuid {chosen}"):
        tags[run_id][str(key)] = "" if value is None else str(value)
    params: dict[str, dict[str, str]] = defaultdict(dict)
    for run_id, key, value in rows(f"SELECT run_uuid, key, value FROM params WHERE run_uuid {chosen}"):
        params[run_id][str(key)] = str(value)
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    heard: dict[str, int] = defaultdict(int)
    query = f"SELECT run_uuid, key, value, is_nan, timestamp FROM latest_metrics WHERE run_uuid {chosen}"
    for run_id, key, value, is_nan, time_ms in rows(query):
        metrics[run_id][str(key)] = math.nan if is_nan else float(value)
        heard[run_id] = max(heard[run_id], int(time_ms or 0))
    columns = "r.run_uuid, r.experiment_id, e.name, r.name, r.status, r.start_time, r.end_time"
    return [
        entry_from_values(
            run_id=str(run_id),
            experiment_id=str(experiment_id),
            experiment=str(experiment),
            name=str(name or tags[run_id].get("mlflow.runName", "")),
            mlflow_status=str(status),
            started_ms=started_ms,
            ended_ms=ended_ms,
            tags=tags[run_id],
            params=params[run_id],
            metrics=metrics[run_id],
            heard_ms=heard[run_id] or None,
        )
        for run_id, experiment_id, experiment, name, status, started_ms, ended_ms in rows(
            f"SELECT {columns} {_ACTIVE} AND r.run_uuid {chosen}"
        )
    ]
