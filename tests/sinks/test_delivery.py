from __future__ import annotations

import copy
import json
import os
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from failguard.core.containment import Containment
from failguard.core.facts import Facts
from failguard.core.finding import Status
from failguard.report.run_report import RunReport
from failguard.sinks import delivery as delivery_module
from failguard.sinks.alerts import AlertSink
from failguard.sinks.delivery import Delivery, sinks_for
from failguard.sinks.files import LocalRecord, load_record
from failguard.sinks.mlflow import MlflowSink

ID = "20260101-100000-torch-abc123"


class Collects:
    """Keeps what it gets and the thread it gets it on."""

    def __init__(self, name: str = "collects", background: bool = True, log: list[str] | None = None) -> None:
        self.name, self.background = name, background
        self.calls: list[tuple[str, RunReport, threading.Thread]] = []
        self.log = [] if log is None else log
        self.location: str | None = None

    def start(self, report: RunReport) -> None:
        self.take("start", report)

    def progress(self, report: RunReport) -> None:
        self.take("progress", report)

    def finish(self, report: RunReport) -> None:
        self.take("finish", report)

    def take(self, call: str, report: RunReport) -> None:
        self.calls.append((call, report, threading.current_thread()))
        self.log.append(f"{self.name}.{call}")

    @property
    def names(self) -> list[str]:
        return [call for call, _, _ in self.calls]


class Stuck(Collects):
    """Its calls do not return before ``release`` is set."""

    def __init__(self, name: str = "mlflow") -> None:
        super().__init__(name)
        self.entered, self.release = threading.Event(), threading.Event()

    def take(self, call: str, report: RunReport) -> None:
        super().take(call, report)
        self.entered.set()
        assert self.release.wait(30)


class Raises(Collects):
    def __init__(self, name: str, background: bool, on: str) -> None:
        super().__init__(name, background)
        self.on = on

    def take(self, call: str, report: RunReport) -> None:
        super().take(call, report)
        if call == self.on:
            raise RuntimeError(f"broken in {call}: token=hunter2")


def state_of(folder: str = f"failguard_runs/{ID}") -> Any:
    return json.loads(Path(folder, "failguard", "delivery.json").read_text())


def delivery_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "failguard delivery"]


def test_the_sinks_of_settings() -> None:
    def target(report: RunReport) -> None: ...

    auto = sinks_for(SimpleNamespace(sinks="auto", record_dir="runs", alerts=()))
    assert [s.name for s in auto] == ["local", "mlflow", "console"]
    assert isinstance(auto[0], LocalRecord)
    assert auto[0].record_dir == "runs"
    assert isinstance(auto[1], MlflowSink)
    mine = Collects()
    assert sinks_for(SimpleNamespace(sinks=[mine], record_dir="runs", alerts=())) == [mine]
    with_alerts = sinks_for(SimpleNamespace(sinks=[mine], record_dir="runs", alerts=[target]))
    assert {s.name for s in with_alerts} == {"collects", "alerts"}
    assert any(isinstance(s, AlertSink) for s in with_alerts)
    assert sinks_for(SimpleNamespace(sinks=[], record_dir="runs", alerts=())) == []


def test_each_run_has_our_sinks_for_itself(make_report: Any) -> None:
    """What one run still sends while the next begins goes into its own record."""
    settings = SimpleNamespace(sinks=[LocalRecord(), Stuck()], record_dir="runs", alerts=())
    first, second = (Delivery(sinks_for(settings), Containment()) for _ in range(2))
    stuck = settings.sinks[1]
    first.start(make_report(record_id="first"))
    assert stuck.entered.wait(30)
    first.finish(make_report(Status.COMPLETED, record_id="first"), wait_s=0.0)
    late = first._thread
    second.start(make_report(record_id="second"))
    stuck.release.set()
    assert late is not None
    late.join(30)
    assert state_of("failguard_runs/first")["sinks"]["mlflow"]["state"] == "delivered"
    assert state_of("failguard_runs/second")["record_id"] == "second"
    second.finish(make_report(Status.COMPLETED, record_id="second"), wait_s=30.0)


def test_where_no_thread_can_be_started_the_record_and_the_console_still_end(
    make_report: Any, contained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    console = Collects("front", background=False)
    delivery = Delivery([LocalRecord(), Collects("back"), console], Containment())
    delivery.start(make_report())
    delivery.progress(make_report())
    report = make_report(Status.COMPLETED)
    delivery.finish(report, wait_s=60.0)
    assert [e.part for e in report.part_errors] == ["delivery thread"]
    assert console.names == ["start", "finish"]
    assert load_record(report.locations["local"]).status is Status.COMPLETED
    assert state_of()["sinks"]["back"]["state"] == "undelivered"


def test_sinks_are_copied_and_pickled_with_a_guard() -> None:
    sinks = sinks_for(SimpleNamespace(sinks="auto", record_dir="runs", alerts=[print]))
    assert [s.name for s in pickle.loads(pickle.dumps(sinks))] == [s.name for s in copy.deepcopy(sinks)]


def test_no_sinks_write_and_start_nothing(make_report: Any, tmp_path: Path) -> None:
    delivery = Delivery([], Containment())
    delivery.start(make_report())
    delivery.progress(make_report())
    report = make_report(Status.COMPLETED)
    delivery.finish(report)
    assert report.locations == {}
    assert not list(tmp_path.iterdir())
    assert not delivery_threads()


def test_background_sinks_run_on_their_thread_and_others_on_the_training_thread(make_report: Any) -> None:
    background, foreground = Collects("back", True), Collects("front", False)
    delivery = Delivery([background, foreground], Containment())
    delivery.start(make_report())
    delivery.finish(make_report(Status.COMPLETED))
    assert background.names == foreground.names == ["start", "finish"]
    assert {t.name for _, _, t in background.calls} == {"failguard delivery"}
    assert {t for _, _, t in foreground.calls} == {threading.main_thread()}
    assert not delivery_threads()


def test_the_record_is_complete_before_others_finish_and_the_console_comes_last(make_report: Any) -> None:
    log: list[str] = []
    seen: list[Status] = []

    class Checks(Collects):
        def finish(self, report: RunReport) -> None:
            seen.append(load_record(report.locations["local"]).status)
            self.location = "somewhere"
            super().finish(report)

    class Console(Collects):
        def finish(self, report: RunReport) -> None:
            assert report.locations == {"local": os.path.join("failguard_runs", ID), "remote": "somewhere"}
            super().finish(report)

    delivery = Delivery([Console("console", False, log), Checks("remote", True, log), LocalRecord()], Containment())
    delivery.start(make_report())
    report = make_report(Status.STOPPED)
    delivery.finish(report)
    assert seen == [Status.STOPPED]
    assert log == ["console.start", "remote.start", "remote.finish", "console.finish"]
    assert report.locations["remote"] == "somewhere"
    assert load_record(report.locations["local"]).locations["remote"] == "somewhere"
    assert state_of()["sinks"]["remote"]["state"] == "delivered"


def test_waiting_progress_is_replaced_and_start_and_finish_are_not(make_report: Any) -> None:
    stuck = Stuck()
    delivery = Delivery([stuck], Containment())
    delivery.start(make_report(steps=0))
    assert stuck.entered.wait(30)
    for steps in range(1, 200):
        delivery.progress(make_report(steps=steps))
    stuck.release.set()
    delivery.finish(make_report(Status.COMPLETED, steps=200), wait_s=30)
    assert stuck.names[0] == "start"
    assert stuck.names[-1] == "finish"
    assert len(stuck.names) <= 3
    assert stuck.calls[-1][1].progress.steps == 200


def test_a_progress_that_waited_does_not_overwrite_the_end(make_report: Any) -> None:
    stuck = Stuck("other")

    class Record(LocalRecord):
        def finish(self, report: RunReport) -> None:
            super().finish(report)
            stuck.release.set()
            while delivery._queue:  # the thread has taken the progress, if it still may
                threading.Event().wait(0.001)

    delivery = Delivery([Record(), stuck], Containment())
    delivery.start(make_report())
    assert stuck.entered.wait(30)
    delivery.progress(make_report(failing=True))
    report = make_report(Status.COMPLETED)
    delivery.finish(report, wait_s=30)
    assert load_record(report.locations["local"]).status is Status.COMPLETED


def test_progress_reaches_every_sink_on_the_delivery_thread(make_report: Any) -> None:
    arrived = threading.Event()

    class Signals(Collects):
        def progress(self, report: RunReport) -> None:
            super().progress(report)
            arrived.set()

    foreground, background = Collects("front", False), Signals("back", True)
    delivery = Delivery([foreground, background], Containment())
    delivery.start(make_report())
    delivery.progress(make_report())
    assert arrived.wait(30)
    delivery.finish(make_report(Status.COMPLETED))
    assert foreground.names == ["start", "progress", "finish"]
    assert foreground.calls[1][2] is not threading.main_thread()


def test_a_sink_that_hangs_is_left_to_the_spool(make_report: Any, caplog: pytest.LogCaptureFixture) -> None:
    stuck, console = Stuck(), Collects("console", False)
    stuck.location = "http://server/run"
    delivery = Delivery([LocalRecord(), stuck, console], Containment())
    delivery.start(make_report())
    report = make_report(Status.COMPLETED)
    delivery.finish(report, wait_s=0.05)
    assert report.locations == {"local": os.path.join("failguard_runs", ID)}
    assert "'mlflow' has not taken this run" in report.notes[0]
    assert "failguard sync" in report.notes[0]
    assert report.notes[0] in caplog.text
    assert console.calls[-1][1].notes == report.notes  # the console can say so
    assert state_of()["sinks"]["mlflow"]["state"] == "undelivered"
    assert load_record(report.locations["local"]).notes == report.notes
    # It comes through after all while the process lives: the record learns it.
    threads = delivery_threads()
    stuck.release.set()
    for thread in threads:
        thread.join(30)
    assert stuck.names == ["start", "finish"]
    assert state_of()["sinks"]["mlflow"]["state"] == "delivered"
    assert state_of()["locations"]["mlflow"] == "http://server/run"


@pytest.mark.usefixtures("contained")
@pytest.mark.parametrize("on", ["start", "progress", "finish"])
@pytest.mark.parametrize("background", [True, False])
def test_a_sink_that_raises_is_retired_and_named(make_report: Any, background: bool, on: str) -> None:
    arrived = threading.Event()

    class Signals(Collects):
        def progress(self, report: RunReport) -> None:
            arrived.set()

    broken, healthy = Raises("broken", background, on), Signals("healthy", True)
    delivery = Delivery([LocalRecord(), broken, healthy], Containment())
    delivery.start(make_report())
    delivery.progress(make_report())
    assert arrived.wait(30)
    report = make_report(Status.COMPLETED)
    delivery.finish(report)
    assert broken.names[-1] == on
    assert healthy.names == ["start", "finish"]
    assert [e.part for e in report.part_errors] == ["sink broken"]
    assert "hunter2" not in report.part_errors[0].message
    assert [e.part for e in load_record(report.locations["local"]).part_errors] == ["sink broken"]
    if background:
        assert state_of()["sinks"]["broken"]["state"] == "undelivered"
    assert not delivery_threads()


@pytest.mark.usefixtures("contained")
def test_a_sink_that_leaves_with_system_exit_does_not_leave_the_end_waiting(make_report: Any) -> None:
    class Exits(Collects):
        def __init__(self) -> None:
            super().__init__("exits")

        def finish(self, report: RunReport) -> None:
            raise SystemExit(3)

    other = Collects()
    delivery = Delivery([Exits(), other], Containment())
    delivery.start(make_report())
    report = make_report(Status.COMPLETED)
    delivery.finish(report, wait_s=600)
    assert [e.part for e in report.part_errors] == ["sink exits"]
    assert other.names == ["start", "finish"]


def test_in_our_own_tests_a_defect_on_the_thread_surfaces(make_report: Any) -> None:
    delivery = Delivery([Raises("broken", True, "start")], Containment())
    delivery.start(make_report())
    with pytest.raises(RuntimeError, match="broken in start"):
        delivery.finish(make_report(Status.COMPLETED))


@pytest.mark.usefixtures("contained")
def test_a_record_that_fails_does_not_stop_the_others(make_report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalRecord, "start", lambda self, report: 1 / 0)
    other = Collects()
    delivery = Delivery([LocalRecord(), other], Containment())
    delivery.start(make_report())
    report = make_report(Status.COMPLETED)
    delivery.finish(report)
    assert other.names == ["start", "finish"]
    assert [e.part for e in report.part_errors] == ["sink local"]


def test_a_sink_may_keep_and_change_its_report(make_report: Any) -> None:
    class Changes(Collects):
        def take(self, call: str, report: RunReport) -> None:
            super().take(call, report)
            report.notes.append("mine")
            report.locations["x"] = "y"
            report.facts.notes.append("mine")
            report.findings.clear()

    first, second = Changes("first"), Collects("second")
    delivery = Delivery([first, second], Containment())
    delivery.start(make_report())
    report = make_report(Status.STOPPED, failing=True)
    delivery.finish(report)
    assert second.calls[-1][1].notes == report.notes == []
    assert len(second.calls[-1][1].findings) == len(report.findings) == 1
    assert report.facts.notes == []
    assert "x" not in report.locations


def test_what_the_guard_changes_later_is_not_in_a_waiting_report(make_report: Any) -> None:
    stuck = Stuck()
    delivery = Delivery([stuck], Containment())
    facts = Facts(class_counts={1: 1})
    report = make_report()
    report.facts = facts
    delivery.start(report)
    delivery.progress(report)
    facts.class_counts = {1: 2}
    facts.notes.append("later")
    stuck.release.set()
    delivery.finish(make_report(Status.COMPLETED), wait_s=30)
    assert all(r.facts.class_counts == {1: 1} and not r.facts.notes for c, r, _ in stuck.calls if c != "finish")


def test_user_info_of_the_store_reaches_no_sink(make_report: Any) -> None:
    from dataclasses import replace

    class Prepares(Collects):
        prepared: Any = None

        def prepare(self, report: RunReport) -> None:
            self.prepared = report.run.mlflow_tracking_uri
            assert threading.current_thread() is threading.main_thread()

    sink = Prepares()
    delivery = Delivery([LocalRecord(), sink], Containment())
    report = make_report()
    report.run = replace(report.run, mlflow_tracking_uri="http://bob:hunter2@host")
    delivery.start(report)
    final = make_report(Status.COMPLETED)
    final.run = report.run
    delivery.finish(final)
    assert sink.prepared == "http://bob:hunter2@host"  # it must connect
    assert all(r.run.mlflow_tracking_uri == "http://[redacted]@host" for _, r, _ in sink.calls)
    assert final.run.mlflow_tracking_uri == "http://[redacted]@host"
    for path in Path("failguard_runs").rglob("*"):
        assert not path.is_file() or "hunter2" not in path.read_text()


def test_no_thread_is_left_after_many_runs(make_report: Any) -> None:
    for i in range(20):
        delivery = Delivery([LocalRecord(), Collects()], Containment())
        delivery.start(make_report(record_id=f"run-{i}"))
        delivery.progress(make_report(record_id=f"run-{i}"))
        delivery.finish(make_report(Status.COMPLETED, record_id=f"run-{i}"))
    assert not delivery_threads()


def test_a_run_that_never_ends_leaves_no_thread(make_report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "IDLE_S", 0.01)
    sink = Collects()
    delivery = Delivery([sink], Containment())
    delivery.start(make_report())
    for thread in delivery_threads():
        thread.join(30)
    assert not delivery_threads()
    delivery.progress(make_report())  # and it goes on when there is something to do
    delivery.finish(make_report(Status.COMPLETED))
    assert sink.names[0] == "start"
    assert sink.names[-1] == "finish"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_delivers_nothing(make_report: Any) -> None:
    sink = Collects("front", False)
    delivery = Delivery([LocalRecord(), sink], Containment())
    delivery.start(make_report())
    child = os.fork()
    if child == 0:
        delivery.progress(make_report())
        delivery.finish(make_report(Status.FAILED), wait_s=60)
        os._exit(len(sink.calls))  # the parent's one call
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert load_record(Path("failguard_runs", ID)).status is Status.RUNNING
    delivery.finish(make_report(Status.COMPLETED))
    assert load_record(Path("failguard_runs", ID)).status is Status.COMPLETED


def test_it_settles_until_background_sinks_have_started(make_report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, other = Stuck(), Collects("memory", background=False)
    other.is_busy = True  # type: ignore[attr-defined]
    delivery = Delivery([sink, other], Containment())
    assert not delivery.is_settling
    delivery.start(make_report())
    sink.entered.wait(5)
    assert delivery.is_settling
    other.is_busy = False  # type: ignore[attr-defined]
    assert delivery.is_settling
    monkeypatch.setattr(delivery_module, "monotonic", lambda: float("inf"))
    assert not delivery.is_settling, "a sink that hangs does not count for ever"
    monkeypatch.undo()
    sink.release.set()
    delivery.finish(make_report(Status.COMPLETED))
    assert not delivery.is_settling


def test_without_background_sinks_there_is_nothing_to_settle(make_report: Any) -> None:
    delivery = Delivery([Collects(background=False)], Containment())
    delivery.start(make_report())
    assert not delivery.is_settling
