"""One run's memory of earlier failures: asks the local index on a thread of its own, and training waits a moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

from failguard.core.containment import Containment
from failguard.core.log import logger
from failguard.errors import FailGuardError
from failguard.report.outcome import Outcome
from failguard.report.run_report import RunReport
from failguard.runs.entry import RunEntry
from failguard.runs.index import RunIndex, store_uri
from failguard.runs.memory_settings import FailureMemory
from failguard.runs.recall import Recollection, recall, recall_failure
from failguard.runs.similarity import values_of
from failguard.sinks.files import LocalRecord
from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.mlflow_values import flat_config, setup

__all__ = ["LOCAL_INDEX", "Memory", "local_index_path"]

LOCAL_INDEX = "index.db"  # in the directory of local records: runs that no MLflow store has
MAX_FAILED, MAX_GOOD, MAX_PARTIAL = 100, 100, 50  # the newest ones are compared
MAX_SAME = 20


class Memory:
    """What earlier runs have to say to one run.

    Nothing here imports MLflow, talks to a server or raises: an index that cannot be read is a remark.

    Args:
        options: What counts as alike, and how long to wait.
        mlflow: The sink that writes to the store whose runs are remembered, ``None`` without one.
        local: The sink of local records; runs that no store has are remembered beside them.
        containment: Retires the memory where it errs.

    Attributes:
        problem: Why earlier runs could not be looked at, for the report.
        announced: What was said before training.
    """

    def __init__(
        self, options: FailureMemory, mlflow: MlflowSink | None, local: LocalRecord | None, containment: Containment
    ) -> None:
        self._options = options
        self._mlflow = mlflow
        self._local = local
        self._containment = containment
        self._answered = Event()
        self._started_at = 0.0
        self._pid = os.getpid()
        self._uri: str | None = None
        self._line: str | None = None
        self.problem: str | None = None
        self.announced: Recollection | None = None

    def start(self, report: RunReport, tell: Callable[[Recollection], None]) -> None:
        """Begin to look for configurations like this one. Returns at once.

        Args:
            report: The run as it begins.
            tell: Called once, on another thread, when there is something to say.
        """
        self._started_at = monotonic()
        if self._mlflow is not None:
            self._uri = self._mlflow.store or store_uri()
        self._line = _line(report, self._mlflow)
        values = values_of(flat_config(report.run.config), setup(report), self._options)

        def look() -> None:
            found = recall(values, self._candidates(report.run.record_id), self._options)
            if found is not None:
                self.announced = found
                tell(found)

        self._on_thread(look, self._answered)

    def wait(self) -> None:
        """Give the answer the rest of its time."""
        if os.getpid() == self._pid:
            self._answered.wait(max(self._started_at + self._options.wait_s - monotonic(), 0.0))

    def seen_before(self, report: RunReport) -> Recollection | None:
        """Look for the failure of a run that has ended, at most ``wait_s``.

        Args:
            report: The final report, with its fingerprint.

        Returns:
            What there is to say; ``None`` where it was not seen before, or is not known in time.
        """
        if report.fingerprint is None or os.getpid() != self._pid:
            return None
        answer: list[Recollection | None] = []
        answered = Event()

        def look() -> None:
            answer.append(self._same_failure(report))

        self._on_thread(look, answered)
        answered.wait(self._options.wait_s)
        return answer[0] if answer else None

    # On the thread

    def _on_thread(self, look: Callable[[], None], done: Event) -> None:
        def work() -> None:
            try:
                self._containment.run("memory", look)
            finally:
                done.set()

        try:
            Thread(target=work, name="failguard memory", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter is on its way out
            self._forget(error)
            done.set()

    def _forget(self, error: Exception) -> None:
        self.problem = f"Earlier runs could not be looked at: {error}"
        logger.info("failguard: %s", self.problem)

    def _candidates(self, record_id: str) -> Sequence[RunEntry]:
        """The newest runs that ended, failed ones first; none where none failed."""
        failed = self._entries(outcome=Outcome.FAILURE.value, limit=MAX_FAILED)
        if not failed:
            return ()
        well = self._entries(outcome=Outcome.SUCCESS.value, limit=MAX_GOOD)
        partly = self._entries(outcome=Outcome.PARTIAL.value, limit=MAX_PARTIAL)
        return [entry for entry in (*failed, *well, *partly) if entry.record_id != record_id]

    def _same_failure(self, report: RunReport) -> Recollection | None:
        found = self._entries(fingerprint=report.fingerprint, limit=MAX_SAME)
        failed = [e for e in found if e.failed and e.record_id != report.run.record_id]
        if not failed:
            return None
        oldest = min(e.started_at for e in failed) - timedelta(seconds=1)
        good = self._entries(outcome=Outcome.SUCCESS.value, since=oldest, limit=MAX_GOOD)
        return recall_failure(failed, good, self._options)

    def _entries(self, **filters: Any) -> list[RunEntry]:
        """Runs of the store's index and of the local one, each once, newest first."""
        if self._options.experiments == "same line" and self._line is not None:
            filters["line"] = self._line
        found: dict[str, RunEntry] = {}
        for open_index in (self._of_store, self._of_records):
            try:
                index = open_index()
                for entry in () if index is None else index.entries(**filters):
                    found.setdefault(entry.record_id or entry.run_id, entry)
            except (FailGuardError, OSError) as error:  # the other one may still have something to say
                self._forget(error)
        return sorted(found.values(), key=lambda e: e.started_at, reverse=True)

    def _of_store(self) -> RunIndex | None:
        return None if self._uri is None else RunIndex.for_store(self._uri)

    def _of_records(self) -> RunIndex | None:
        path = None if self._local is None else local_index_path(self._local)
        return RunIndex(path) if path is not None and path.exists() else None


def local_index_path(local: LocalRecord) -> Path:
    """The index beside the local records."""
    return Path(os.path.expanduser(local.record_dir)).absolute() / LOCAL_INDEX


def _line(report: RunReport, mlflow: MlflowSink | None) -> str | None:
    """The line of work, as the run's tag will say it; ``None`` where it is not known without asking the store."""
    named = report.run.line or report.run.experiment
    if named or mlflow is None:
        return named or ""
    return mlflow.experiment
