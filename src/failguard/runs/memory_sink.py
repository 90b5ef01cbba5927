"""Keeps the local index up to date, so that the next run remembers this one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic, sleep

from failguard.core.containment import Containment
from failguard.core.log import logger
from failguard.core.redaction import REDACTED
from failguard.report.run_report import RunReport
from failguard.runs.entry import RunEntry, entry_from_values
from failguard.runs.index import RunIndex
from failguard.runs.memory import local_index_path
from failguard.sinks import mlflow_values as values
from failguard.sinks.files import LocalRecord
from failguard.sinks.mlflow import MlflowSink

__all__ = ["MemorySink"]

LOOK_EVERY_S = 0.2  # whether MLflow has opened the store
LOOK_BACK = 1_000  # of the newest runs of the store
REFRESH_S = 60.0  # of taking in what others have run; the next run goes on
SHARE = 0.05  # of that time spent working, so that training keeps the interpreter
WAIT_S = 1.0  # at the end of a run; a process that goes on writes it later


class MemorySink:
    """Puts each finished run into the local index, and takes in what other people have run since.

    A run that the store took goes into the store's index as the store has it. One that it did not take in time, or that
    goes to no store, goes into the index beside the local records until the store has it.

    Args:
        mlflow: The sink of the store, ``None`` without one.
        local: The sink of local records, ``None`` without one.
        containment: Retires the part that errs.
    """

    name = "memory"
    background = False  # its finish comes when it is known whether the store took the run

    def __init__(self, mlflow: MlflowSink | None, local: LocalRecord | None, containment: Containment) -> None:
        self._mlflow = mlflow
        self._local = local
        self._containment = containment
        self._over = Event()
        self._refresh: Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it takes in what others have run."""
        return self._refresh is not None and self._refresh.is_alive()

    def start(self, report: RunReport) -> None:
        """Take in the runs of others, on a thread that nobody waits for."""
        if self._mlflow is not None:
            self._refresh = self._on_thread(self._take_in_others, "refresh")

    def progress(self, report: RunReport) -> None:
        """A run that goes on is nothing to remember."""

    def finish(self, report: RunReport) -> None:
        """Remember the run."""
        self._over.set()
        self._on_thread(lambda: self._remember(report), "index").join(WAIT_S)

    def _on_thread(self, work: Callable[[], None], what: str) -> Thread:
        def contained() -> None:
            self._containment.run(f"memory {what}", work)

        thread = Thread(target=contained, name=f"failguard {what}", daemon=True)
        thread.start()
        return thread

    def _take_in_others(self) -> None:
        from failguard.runs.registry import Registry

        mlflow = self._mlflow
        assert mlflow is not None
        while mlflow.location is None:  # MLflow may be making or migrating the database
            if self._over.wait(LOOK_EVERY_S):
                return
        began = at = monotonic()

        def pause(read: int) -> None:
            nonlocal at
            if monotonic() - began > REFRESH_S:
                raise TimeoutError(f"it took too long, {read:,} runs were read")
            sleep((monotonic() - at) * (1.0 / SHARE - 1.0))
            at = monotonic()

        try:
            registry = Registry(mlflow.store)
            registry.refresh(limit_s=1.0, progress=pause)
            self._forget_what_came(registry.index)
        except Exception as error:  # noqa: BLE001 - whatever a store raises; the run's own record is another matter
            logger.info("failguard: earlier runs could not be taken in: %s", error)

    def _forget_what_came(self, index: RunIndex) -> None:
        """Records that the store has by now, as after ``failguard sync``, are the store's to keep or to delete."""
        path = None if self._local is None else local_index_path(self._local)
        if path is None or not path.exists():
            return
        waiting = RunIndex(path)
        there = {entry.record_id for entry in index.entries(limit=LOOK_BACK) if entry.outcome is not None}
        came = [entry.run_id for entry in waiting.entries() if entry.record_id in there]
        if came:
            waiting.remove(came)

    def _remember(self, report: RunReport) -> None:
        session = None if self._mlflow is None else self._mlflow.taken
        try:
            if session is not None:
                from failguard.runs.store import MlflowReader

                entry = MlflowReader(session.uri).run(str(session.run_id))
                if entry is not None:
                    RunIndex.for_store(session.uri).put([entry])
            elif self._local is not None and self._local.location is not None:
                experiment = None if self._mlflow is None else self._mlflow.experiment
                RunIndex(local_index_path(self._local)).put([_entry_of_record(report, experiment)])
        except Exception as error:  # noqa: BLE001 - as above
            logger.info("failguard: this run could not be put into the index: %s", error)


def _entry_of_record(report: RunReport, experiment: str | None) -> RunEntry:
    """The run as a store would have it."""
    run, started_ms = report.run, values.start_ms(report)
    name = run.experiment or experiment or ""
    return entry_from_values(
        run_id=run.record_id,
        experiment_id="",
        experiment=name if REDACTED not in name else "",
        name=run.run_name or run.record_id,
        mlflow_status=values.run_status(report),
        started_ms=started_ms,
        ended_ms=started_ms + int(report.progress.duration_s * 1000),
        tags={**run.tags, **values.tags(report)},
        params=values.params(report),
        metrics={name: value for name, value, _ in values.summary_rows(report)},
    )
