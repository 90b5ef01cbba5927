"""Hands reports to sinks: one daemon thread a run, never more than a few seconds of the training thread's time."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from threading import Condition, Event, Lock, Thread
from time import monotonic
from typing import Any, Literal, Protocol

from failguard.core.containment import Containment, PartError
from failguard.core.log import logger
from failguard.core.redaction import redact_text
from failguard.report.run_report import RunReport
from failguard.sinks.alerts import AlertSink
from failguard.sinks.base import Sink
from failguard.sinks.files import LocalRecord
from failguard.sinks.records import this_process

__all__ = ["Delivery", "sinks_for"]

IDLE_S = 60.0  # a thread without work ends; the next report starts another
SETTLE_S = 60.0  # for sinks to be set up, at most

Call = Literal["start", "progress", "finish"]


class DeliverySettings(Protocol):
    """The settings that say where reports go."""

    @property
    def sinks(self) -> Literal["auto"] | Sequence[Sink]:
        """``"auto"`` or a list."""

    @property
    def record_dir(self) -> str | os.PathLike[str]:
        """Where local records go."""

    @property
    def alerts(self) -> Sequence[Any]:
        """Targets of alerts."""


def sinks_for(settings: DeliverySettings) -> list[Sink]:
    """The sinks of a run.

    Args:
        settings: ``sinks="auto"`` gives the local record, MLflow and the console. Alerts come on top of any list.
    """
    from failguard.sinks.mlflow import MlflowSink

    sinks: list[Sink]
    if settings.sinks == "auto":
        from failguard.sinks.console import Console

        sinks = [LocalRecord(settings.record_dir), MlflowSink(), Console()]
    else:
        # Ours are copied: what one run is still sending must not get into the next run's record.
        sinks = [copy.copy(s) if isinstance(s, LocalRecord | MlflowSink) else s for s in settings.sinks]
    if settings.alerts:
        sinks.insert(0, AlertSink(settings.alerts))  # quick, and wanted first
    return sinks


class Delivery:
    """Delivers the reports of one run.

    Background sinks are called on a daemon thread, in order. While it is busy only the newest progress waits; a start
    or a finish is never left out. Nothing is started before :meth:`start`, and a forked child delivers nothing.

    Args:
        sinks: Where reports go. The local record, if among them, is written before all others.
        containment: Retires a sink that raises, under the part name ``"sink <name>"``.
        wait_s: How long the end of the run waits for background sinks, in seconds.
    """

    def __init__(self, sinks: Sequence[Sink], containment: Containment, *, wait_s: float = 5.0) -> None:
        self._containment = containment
        self._wait_s = wait_s
        self._local = next((s for s in sinks if isinstance(s, LocalRecord)), None)
        self._background = [s for s in sinks if s.background]
        self._others = [s for s in sinks if not s.background and s is not self._local]
        self._locks = {id(s): Lock() for s in sinks}
        self._states = {s.name: "pending" for s in self._background}
        self._state_lock = Lock()
        self._wake = Condition()
        self._queue: list[tuple[Call, RunReport]] = []
        self._thread: Thread | None = None
        self._background_done = Event()
        self._background_started = Event()
        self._finishing = False
        self._escaped: BaseException | None = None
        self._record_id = ""
        self._process: dict[str, Any] = {}
        self._notes: list[str] = []
        self._pid = os.getpid()
        self._settles_until_s = 0.0

    @property
    def is_settling(self) -> bool:
        """Whether sinks are still being set up, which loads packages: memory grows for that. For a minute at most."""
        if monotonic() > self._settles_until_s:
            return False
        others = (*self._background, *self._others)
        return not self._background_started.is_set() or any(getattr(s, "is_busy", False) for s in others)

    def start(self, report: RunReport) -> None:
        """A run begins."""
        if self._in_child():
            return
        self._settles_until_s = monotonic() + SETTLE_S
        if not self._background:
            self._background_started.set()
        self._record_id = report.run.record_id
        if self._local is not None:
            self._process = self._containment.run("delivery state", this_process) or {}
            self._call(self._local, "start", report)
            self._write_state()
        for sink in self._others:
            self._call(sink, "start", report)
        for sink in self._background:
            prepare = getattr(sink, "prepare", None)
            if prepare is not None:  # gets the store's address as it is, the others get it without user info
                self._containment.run(f"sink {sink.name}", prepare, report)
        if self._background:
            self._put("start", _frozen(report))

    def progress(self, report: RunReport) -> None:
        """Hand on the report so far. Returns at once."""
        if self._locks and not self._in_child():
            self._put("progress", _frozen(report))

    def finish(self, report: RunReport, wait_s: float | None = None) -> None:
        """The run ended. The local record is complete before anything else is tried.

        What a background sink has not taken in time stays in the local record, marked undelivered; ``failguard sync``
        sends it later.

        Args:
            report: The final report. Its locations, notes and part errors are filled in.
            wait_s: How long to wait for background sinks, in seconds; ``None``: as given at construction.
        """
        if self._in_child():
            return
        wait_s = self._wait_s if wait_s is None else wait_s
        until = monotonic() + wait_s
        self._finishing = True  # from here on a progress that waits is out of date
        if self._local is not None:
            self._call(self._local, "finish", report)
        if (self._background or self._thread is not None) and self._put("finish", _frozen(report)):
            self._background_done.wait(max(until - monotonic(), 0.0))
        self._settle(wait_s)
        self._fill(report)
        for sink in self._others:
            self._call(sink, "finish", report)
        self._fill(report)
        self._write_state()
        thread = self._thread
        if thread is not None and self._background_done.is_set():
            thread.join(timeout=1.0)
        if self._escaped is not None:
            raise self._escaped

    def locations(self) -> dict[str, str]:
        """Where the record is so far, by sink. After the end only of sinks that have all of it."""
        found = {}
        for sink in (self._local, *self._background, *self._others):
            location = getattr(sink, "location", None)
            if location and (sink is self._local or self._states.get(sink.name) != "undelivered"):  # type: ignore[union-attr]
                found[sink.name] = str(location)  # type: ignore[union-attr]
        return found

    # On either thread

    def _in_child(self) -> bool:
        return os.getpid() != self._pid

    def _call(self, sink: Sink, call: Call, report: RunReport) -> bool:
        """One call of a sink, contained.

        Returns:
            Whether it was made and did not raise.
        """
        part = f"sink {sink.name}"
        if self._containment.retired(part):
            return False
        with self._locks[id(sink)]:
            if call == "progress" and self._finishing:
                return False
            self._containment.run(part, getattr(sink, call), self._copy(report))
        return not self._containment.retired(part)

    def _copy(self, report: RunReport) -> RunReport:
        """A report for one sink alone, which may change what it gets."""
        return replace(
            _frozen(report),
            part_errors=_together(report.part_errors, self._containment.errors),
            notes=[*report.notes, *(n for n in self._remarks() if n not in report.notes)],
            locations={**report.locations, **self.locations()},
        )

    def _remarks(self) -> list[str]:
        notes = [getattr(s, "note", None) for s in (self._local, *self._background, *self._others)]
        return [*(str(n) for n in notes if n), *self._notes]

    def _fill(self, report: RunReport) -> None:
        filled = self._copy(report)
        report.run, report.locations = filled.run, self.locations()
        report.notes, report.part_errors = filled.notes, filled.part_errors

    def _settle(self, wait_s: float) -> None:
        """Name the background sinks that do not have the record."""
        with self._state_lock:
            late = [name for name, state in self._states.items() if state == "pending"]
            self._states.update((name, "undelivered") for name in late)
        for name in late:
            note = f"The sink {name!r} has not taken this run within {wait_s:g} s."
            if self._local is not None and name == "mlflow":
                note += " Its record is kept; `failguard sync` sends it."
            self._notes.append(note)
            logger.warning("failguard: %s", note)
        self._write_state()

    def _write_state(self) -> None:
        """The small file that says what became of the record elsewhere."""
        local = self._local
        if local is None or local.location is None:
            return
        with self._state_lock:
            sinks = {}
            for sink in self._background:
                details = getattr(sink, "delivery_state", None)
                sinks[sink.name] = {"state": self._states[sink.name], **(details() if details is not None else {})}
            state = {
                "schema_version": 1,
                "record_id": self._record_id,
                "process": self._process,
                "locations": self.locations(),
                "sinks": sinks,
                "part_errors": [{"part": e.part, "message": e.message} for e in self._containment.errors],
                "notes": self._remarks(),
            }
            self._containment.run("delivery state", local.write_delivery, state)

    # The delivery thread

    def _put(self, call: Call, report: RunReport) -> bool:
        """Hand a call to the thread.

        Returns:
            Whether there is a thread to take it.
        """
        with self._wake:
            if call != "start":  # an older progress is out of date
                self._queue = [item for item in self._queue if item[0] != "progress"]
            self._queue.append((call, report))
            if self._thread is None:
                thread = Thread(target=self._work, name="failguard delivery", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads, or the interpreter is on its way out
                    self._containment.record("delivery thread", error)
                    return False
                self._thread = thread
            self._wake.notify()
            return True

    def _work(self) -> None:
        call: Call | None = None
        while call != "finish":
            with self._wake:
                if not self._wake.wait_for(lambda: self._queue, timeout=IDLE_S):
                    self._thread = None
                    return
                call, report = self._queue.pop(0)
            try:
                self._handle(call, report)
            except BaseException as error:  # noqa: BLE001  # re-raised at the end, in failguard's own tests
                self._escaped = error

    def _handle(self, call: Call, report: RunReport) -> None:
        try:
            if call == "progress":
                for sink in (self._local, *self._others):
                    if sink is not None:
                        self._call_on_thread(sink, call, report)
            for sink in self._background:
                done = self._call_on_thread(sink, call, report)
                if call == "finish":
                    self._note_delivered(sink, done)
        finally:
            self._background_started.set()
            if call == "finish":
                self._background_done.set()

    def _call_on_thread(self, sink: Sink, call: Call, report: RunReport) -> bool:
        try:
            return self._call(sink, call, report)
        except Exception:  # only where containment re-raises
            raise
        except BaseException as error:  # noqa: BLE001  # a SystemExit here would end the thread, not the process
            self._containment.record(f"sink {sink.name}", error)
            return False

    def _note_delivered(self, sink: Sink, done: bool) -> None:
        with self._state_lock:
            late = self._states[sink.name] == "undelivered"
            self._states[sink.name] = "delivered" if done else "undelivered"
        if late:  # the training thread did not wait for it: the record learns it now
            self._write_state()


def _frozen(report: RunReport) -> RunReport:
    """A copy that stays as it is while the guard goes on, with the address of the user's store redacted."""
    uri = report.run.mlflow_tracking_uri
    return replace(
        report,
        run=replace(report.run, mlflow_tracking_uri=redact_text(uri)) if uri else report.run,
        facts=copy.deepcopy(report.facts),
        findings=list(report.findings),
    )


def _together(first: Sequence[PartError], more: Sequence[PartError]) -> list[PartError]:
    known = {e.part for e in first}
    return [*first, *(e for e in more if e.part not in known)]
